"""What an evaluation gate came to: part of a ModelVersion's record, and of the status of job and version."""

from typing import Literal

from pydantic import Field

from trimtab_trainer.contract.base import Document
from trimtab_trainer.contract.gates import Source

GatePhase = Literal["Successful", "Failed", "Inconclusive", "Error", "Skipped"]


class GateResult(Document):
    """One gate with its numbers."""

    name: str = Field(max_length=128)
    """The gate's name, or metric and source."""
    metric: str = Field(max_length=64)
    """What was measured, without the split's prefix."""
    source: Source
    """The split that it was measured on."""
    success_condition: str = Field(default="", max_length=256)
    """When it is passed."""
    failure_condition: str = Field(default="", max_length=256)
    """When it is failed."""
    phase: GatePhase
    """Successful; Failed; Inconclusive: neither condition holds; Error: there is no number; Skipped: it compares with a champion,
    and there is none yet."""
    holds_back: bool = False
    """Whether it keeps the version from being promoted: Failed, Error or (beyond inconclusiveLimit) Inconclusive, and no dry run."""
    dry_run: bool = False
    """Judged and reported, never held against the version."""
    result: str = Field(default="", max_length=32)
    """The candidate's value."""
    baseline: str = Field(default="", max_length=32)
    """The base model's value."""
    champion: str = Field(default="", max_length=32)
    """The champion's value."""
    champion_version: str = Field(default="", max_length=253)
    """ModelVersion that was compared with."""
    message: str = Field(default="", max_length=512)
    """The same in a sentence."""
