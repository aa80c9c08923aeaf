"""What is true of a StorageProfile."""
