"""A small read-only page for people: jobs, versions, rollouts. Imported only where it is switched on."""
