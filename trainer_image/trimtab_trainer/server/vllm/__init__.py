"""The router beside vLLM: fetches and verifies what it serves, has it loaded, routes by weight and counts."""
