"""The numbers of a verdict over training seeds: no run and no spec, plain figures alone."""
