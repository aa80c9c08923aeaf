"""What should exist for a ModelVersion."""
