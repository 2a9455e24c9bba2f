"""Pictures of a finished run; computes nothing."""
