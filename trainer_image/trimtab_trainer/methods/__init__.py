"""Which parameters move: one file a method."""
