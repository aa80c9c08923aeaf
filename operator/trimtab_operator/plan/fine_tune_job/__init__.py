"""What should exist for a FineTuneJob."""
