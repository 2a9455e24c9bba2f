"""Features of images, in which Frechet distances are taken."""
