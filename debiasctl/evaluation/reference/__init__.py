"""What images are measured against: a run's data, other images, stored statistics."""
