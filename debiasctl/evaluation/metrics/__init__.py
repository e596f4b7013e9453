"""What is measured of a set of images: distances, neighbours, colours, spectra."""
