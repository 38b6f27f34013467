"""What runs for long."""
