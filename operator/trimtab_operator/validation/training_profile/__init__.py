"""What is wrong with a TrainingProfile."""
