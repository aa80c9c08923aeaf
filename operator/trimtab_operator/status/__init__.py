"""What is true now: pure functions from what is observed and planned to a status and Events."""
