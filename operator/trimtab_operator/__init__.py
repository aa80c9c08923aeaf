"""The operator: watches Trimtab's kinds and makes the cluster agree with them."""
