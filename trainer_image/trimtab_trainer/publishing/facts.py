"""What is known about a model when it is published, for its card and its provenance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from trimtab_trainer.contract.messages import Usage
from trimtab_trainer.contract.run_config import ResolvedDataset, RunConfig
from trimtab_trainer.publishing.quantize import Quantized


@dataclass(frozen=True)
class PublicationFacts:
    """Of one published model."""

    config: RunConfig
    step: int
    """Optimizer step of the published weights."""
    learning_rate: float
    """At the peak of the schedule, whoever chose it."""
    base_digest: str
    """`sha256:<hex>` of the base model's files."""
    datasets: Sequence[ResolvedDataset]
    metrics: Mapping[str, float]
    """Those of the tuned model, and with the prefix `baseline_` those of the model before training."""
    usage: Usage
    """What the attempt had spent when it began to publish."""
    software: Mapping[str, str]
    started: datetime
    """When the attempt began."""
    finished: datetime
    """When the weights were final."""
    parameters: int = 0
    trained_parameters: int = 0
    truncated: Mapping[str, int] = field(default_factory=dict)
    """Examples that were cut to the sequence length, by split."""
    groups: str = ""
    """The tables of groups of held-out examples, as Markdown."""
    quantized: Quantized | None = None
    """What fewer bits saved and cost."""
