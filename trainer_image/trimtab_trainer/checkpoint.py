"""Checkpoints, as the training loop sees them: `CheckpointWriter` to save, `load_latest` to resume, `load_best` to publish."""

from trimtab_trainer.checkpoint_reader import LoadedCheckpoint, load_best, load_checkpoint, load_latest
from trimtab_trainer.checkpoint_writer import CheckpointWriter

__all__ = ["CheckpointWriter", "LoadedCheckpoint", "load_best", "load_checkpoint", "load_latest"]
