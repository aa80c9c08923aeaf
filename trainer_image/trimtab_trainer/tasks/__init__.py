"""What the head predicts: one file a task."""
