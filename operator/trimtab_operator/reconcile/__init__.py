"""The six steps, one file per kind: observe, check, plan, apply, status, report."""
