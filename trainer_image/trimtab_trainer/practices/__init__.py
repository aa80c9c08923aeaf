"""What a good engineer does by hand: one file a practice, called at its place in the loop."""
