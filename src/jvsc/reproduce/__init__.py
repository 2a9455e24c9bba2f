"""The paper's tables and figures: for each a plan of runs and a page of results."""
