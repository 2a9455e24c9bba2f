"""What a trained model makes of data: codes, and measures of them by many draws."""
