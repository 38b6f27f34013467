"""What runs for long, and how an installation is set up."""
