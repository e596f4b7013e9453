"""Built-in autoencoders, one file each."""
