"""The built-in server: one base model, many adapters, OpenAI's API; versions and weights change without a restart."""
