"""What is wrong with a StorageProfile."""
