"""SparseCoder: a matrix to codes and back, with scikit-learn's interface."""
