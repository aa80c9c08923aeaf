"""Checkpoints: snapshot, commit, verify, resume, retain."""
