"""What the packages of all kinds have alike."""
