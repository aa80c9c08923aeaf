"""A TrainingProfile has no children."""
