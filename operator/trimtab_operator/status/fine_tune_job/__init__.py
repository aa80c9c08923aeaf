"""What is true about a FineTuneJob."""
