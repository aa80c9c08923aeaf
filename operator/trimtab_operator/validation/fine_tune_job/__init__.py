"""What keeps a FineTuneJob from starting."""
