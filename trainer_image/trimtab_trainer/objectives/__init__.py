"""What the loss asks: one file an objective."""
