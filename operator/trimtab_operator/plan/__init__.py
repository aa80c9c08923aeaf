"""What should exist: pure functions from what is observed to objects to create, apply and delete."""
