"""What the operator and the trainer agree on: the only module of the trainer that the operator imports.

Nothing here imports torch. Documents carry a `schema` field, because the two images are upgraded at different times: a job keeps
the image that it began with. So a field that is added is off by default (absent, false, 0, empty), and stays so: what is off is
not said (`to_sparse_json`), and an image that does not know the field reads all that it needs.
"""
