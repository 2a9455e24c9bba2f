"""Code that is there for speed alone, each piece behind a plain function that it replaces."""
