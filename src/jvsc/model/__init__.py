"""Section 3 of the paper: thresholding, posteriors, sampling, objectives, networks."""
