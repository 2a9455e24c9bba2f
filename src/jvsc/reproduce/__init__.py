"""The paper's tables and figures: each a plan of runs, and what is made of them."""
