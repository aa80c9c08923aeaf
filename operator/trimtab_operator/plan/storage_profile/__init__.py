"""A StorageProfile has no children."""
