"""Evaluation gates: what a model must prove before it may be promoted, and the numbers that it is judged by."""

from typing import Annotated, Final, Literal

from pydantic import Field

from trimtab_trainer.contract.base import Document, rules
from trimtab_trainer.contract.spec import Metric

MAX_GATES: Final = 16
Source = Literal["validation", "test", "general"]
PREFIXES: Final[dict[Source, str]] = {"validation": "eval_", "test": "test_", "general": "general_"}
"""What the metrics of a split are called by: `test_accuracy` is the accuracy on the test split."""

# No more characters than the operator's expressions have; the schema refuses others at admission.
Condition = Annotated[str, Field(max_length=256, pattern=r"^[A-Za-z0-9_.()<>=!&|+*/%, \t-]*$")]


class Gate(Document):
    """One condition on a metric, in the grammar of Argo Rollouts' analysis. Measured once, by the trainer, on published weights."""

    model_config = rules(
        (
            "self.successCondition != '' || self.failureCondition != ''",
            "a gate needs successCondition or failureCondition, for example successCondition: result >= 0.85",
        ),
    )

    name: str = Field(default="", max_length=63)
    """What messages call it. Empty: `<metric> on <source>`."""
    metric: Metric
    """A metric of the task, with or without its split's prefix: `accuracy`, `perplexity`, `loss`, `exact_match`, `test_f1`."""
    source: Source = "test"
    """The split that it is measured on: `validation`, `test` or `general`."""
    success_condition: Condition = ""
    """When the gate is passed, for example `result <= baseline * 1.05`. `result` is the candidate's value, `baseline` that of the
    base model before training, `champion` that of the version that serves now, else of the newest promotable version."""
    failure_condition: Condition = ""
    """When the gate is failed. With both conditions, a value that meets neither is Inconclusive."""
    inconclusive_limit: int = Field(default=0, ge=0, le=100)
    """How many inconclusive measurements are let through. A gate is measured once: 0 holds an Inconclusive version back until a
    person approves it, anything else lets it through."""
    dry_run: bool = False
    """Judge and report, never hold back."""

    @property
    def title(self) -> str:
        """What messages call it."""
        return self.name or f"{self.plain_metric} on {self.source}"

    @property
    def plain_metric(self) -> str:
        """The metric without its split's prefix."""
        return self.metric.removeprefix(PREFIXES[self.source]).removeprefix("eval_")

    @property
    def conditions(self) -> tuple[str, ...]:
        """Those that are set."""
        return tuple(text for text in (self.success_condition, self.failure_condition) if text)


class Evaluation(Document):
    """What a model must prove."""

    gates: list[Gate] = Field(default_factory=list, max_length=MAX_GATES)
    """Conditions on metrics that the model must meet before it may be promoted. It is published either way."""


class GateMeasurement(Document):
    """The numbers of one gate, as text with all their digits; absent where there is no such number."""

    result: str | None = None
    """Of the candidate."""
    baseline: str | None = None
    """Of the base model, on the same data."""
    champion: str | None = None
    """Of the champion, on the same data."""
