"""What is wrong with a ModelVersion."""
