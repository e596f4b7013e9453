"""Loading data sets, and converting pixels to model space and back."""
