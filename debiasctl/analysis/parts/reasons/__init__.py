"""Reasons of the bias: what each noise level has of the loss and of the gradient, and what the network learnt there."""
