"""Checkpoints, as the training loop sees them: `CheckpointWriter` saves, `load_latest` finds what to resume from."""

from trimtab_trainer.checkpoint_reader import LoadedCheckpoint, load_latest
from trimtab_trainer.checkpoint_writer import CheckpointWriter

__all__ = ["CheckpointWriter", "LoadedCheckpoint", "load_latest"]
