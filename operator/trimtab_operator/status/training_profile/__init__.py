"""What is true of a TrainingProfile."""
