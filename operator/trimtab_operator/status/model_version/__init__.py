"""What is true about a ModelVersion."""
