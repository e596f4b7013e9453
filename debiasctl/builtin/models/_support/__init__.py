"""What model sources share."""
