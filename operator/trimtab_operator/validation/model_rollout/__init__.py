"""What keeps a ModelRollout from moving to its version."""
