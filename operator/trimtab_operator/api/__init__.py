"""What the user writes: one pydantic model per kind, the only source of the CRDs."""
