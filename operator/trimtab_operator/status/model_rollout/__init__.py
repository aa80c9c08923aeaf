"""What is true of a ModelRollout."""
