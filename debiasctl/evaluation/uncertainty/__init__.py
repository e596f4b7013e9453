"""The uncertainty of figures: the jackknife, intervals and class counts."""
