"""What the schema cannot say: pure functions from what is observed to problems."""
