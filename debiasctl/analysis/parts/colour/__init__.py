"""The colour doctor: a shift of the samples' brightness or colour, and which intervention takes it away."""
