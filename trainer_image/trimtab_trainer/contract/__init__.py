"""What the operator and the trainer agree on: the only module of the trainer that the operator imports.

Nothing here imports torch. Documents carry a `schema` field, because the two images are upgraded at different times.
"""
