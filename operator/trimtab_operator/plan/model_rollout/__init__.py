"""The children of a ModelRollout."""
