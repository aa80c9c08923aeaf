"""What a Job is told that asks a canary through its real endpoint, and compares it with the stable version."""

from typing import Final, Literal

from pydantic import Field

from trimtab_trainer.contract.base import Document
from trimtab_trainer.contract.run_config import Store
from trimtab_trainer.contract.spec import DataSource, Task

CANARY_JOB_SCHEMA: Final = "trimtab.dev/canary-job/v1"
AnswerMetric = Literal["exact_match", "accuracy", "precision", "recall", "f1"]
METRICS_OF_TASK: Final[dict[str, tuple[AnswerMetric, ...]]] = {
    "causalLanguageModeling": ("exact_match", "f1"),
    "sequenceClassification": ("accuracy", "precision", "recall", "f1"),
}
"""What can be measured from outside: from answers, without looking at losses."""


class CanaryJobConfig(Document):
    """Everything that the pod needs to know. Its answer is the termination message: `gates[0]` has result and champion."""

    schema_: Literal["trimtab.dev/canary-job/v1"] = Field(default=CANARY_JOB_SCHEMA, alias="schema")
    endpoint: str
    """Address of the Service that reaches the canary."""
    canary: str
    """Name of the ModelVersion that is asked."""
    stable: str
    """The one that it is compared with."""
    stable_endpoint: str = ""
    """Where that one has servers of its own."""
    task: Task
    data: DataSource
    metric: AnswerMetric
    examples: int
    """At most so many rows, chosen by a hash of what they say."""
    max_tokens: int
    """Of one answer."""
    store: Store
