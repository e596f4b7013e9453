"""Loading a data set, and its way from pixels to model space and back."""
