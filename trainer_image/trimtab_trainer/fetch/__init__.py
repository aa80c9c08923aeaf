"""Bringing models and data into the pod."""
