"""The references that images are measured against: a run's data, other images, or stored statistics."""
