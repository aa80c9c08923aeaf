"""From trained weights to a published version."""
