"""An extension of training for debiasctl."""
