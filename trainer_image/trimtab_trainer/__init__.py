"""The training core: reads a RunConfig, fine-tunes, commits checkpoints, publishes a model."""
