"""A canary is asked about rows that it has not seen, through its real endpoint."""
