"""The lasso on a CPU (Numba): working sets for few non-zeros, splitting for many."""
