"""An autoencoder for debiasctl."""
