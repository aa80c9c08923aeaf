"""Analyses of a canary: Argo Rollouts' metric grammar, with providers that know what a version answered."""

from typing import Annotated, Literal

from pydantic import Field

from trimtab_operator.expressions import MAX_CHARACTERS, PATTERN
from trimtab_trainer.contract.base import Document, OneOf, rules
from trimtab_trainer.contract.canary import AnswerMetric
from trimtab_trainer.contract.spec import DataSource

Duration = Annotated[
    str | int,
    Field(json_schema_extra={"x-kubernetes-int-or-string": True, "pattern": r"^([0-9]+|([0-9]+(s|m|h))+)$"}),
]
"""`30s`, `5m`, `1h30m`, or seconds."""
Condition = Annotated[str, Field(max_length=MAX_CHARACTERS, pattern=rf"^$|{PATTERN}")]
ServerMetricName = Literal[
    "errorRate", "latencySeconds", "firstTextSeconds", "answerTokens", "cutAnswerRate", "requests"
]


class ServerMetric(Document):
    """What the built-in servers counted for the canary and for the stable version, summed over all servers, since the metric's last measurement."""

    metric: ServerMetricName
    """`errorRate` (faults of the server, 0 to 1), `latencySeconds` and `firstTextSeconds` (a quantile), `answerTokens` (mean length),
    `cutAnswerRate` (answers that reached their limit, 0 to 1), or `requests` (how many)."""
    quantile: float = Field(default=0.95, gt=0, lt=1)
    """Of `latencySeconds` and `firstTextSeconds`."""
    minimum_requests: int = Field(default=10, ge=0, le=1_000_000)
    """A measurement waits until the canary has answered as many."""


class PrometheusQuery(Document):
    """An instant query. In the query, `{{canary}}` and `{{stable}}` stand for the names of the ModelVersions."""

    address: str = Field(max_length=1024, pattern=r"^https?://[^\s?#@]+$")
    """For example http://prometheus.monitoring.svc:9090. No credentials: the operator reads no Secret."""
    query: str = Field(min_length=1, max_length=4096)
    """PromQL; its one value is `result`."""


class AnswersMetric(Document):
    """Answers of canary and stable version to the same held-out rows.

    A Job of the rollout's namespace asks through its Service, greedily and by name, four requests at once, which the servers count like any other.
    """

    metric: AnswerMetric
    """`exact_match` or `f1` (of words) for language models; `accuracy`, or macro `precision`, `recall` or `f1` for classifiers."""
    data: DataSource
    """The rows, in one of the task's formats: `messages` or `promptCompletion`, `labelled`. Read with the credentials of the version's StorageProfile."""
    examples: int = Field(default=100, ge=1, le=10_000)
    """At most so many rows, the same ones every time."""
    max_tokens: int = Field(default=256, ge=1, le=32_768)
    """Of one answer."""
    deadline_seconds: int = Field(default=1800, ge=30, le=86_400)
    """A Job that takes longer is an error of the measurement."""


class Provider(OneOf):
    """Where a metric's value comes from. Exactly one member."""

    server: ServerMetric | None = None
    """The built-in servers."""
    prometheus: PrometheusQuery | None = None
    """A Prometheus, or anything that speaks its query API."""
    job: AnswersMetric | None = None
    """A Job that asks the canary about rows that it has not seen."""


class Metric(Document):
    """One metric, in Argo Rollouts' grammar. Variables of the conditions: `result` is the canary's value, `champion` and `baseline` are the stable version's."""

    model_config = rules(
        (
            "!has(self.successCondition) || self.successCondition != '' || (has(self.failureCondition) && self.failureCondition != '')",
            "successCondition or failureCondition must be set",
        ),
    )

    name: str = Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    """Unique in its analysis."""
    provider: Provider
    """Where its value comes from. Exactly one member."""
    success_condition: Condition = ""
    """A measurement is good when this is true, for example `result <= champion * 1.2`. Alone: bad when it is not."""
    failure_condition: Condition = ""
    """A measurement is bad when this is true. Alone: good when it is not. Beside `successCondition`: what is neither is inconclusive."""
    interval: Duration = "10s"
    """Time between two measurements."""
    initial_delay: Duration = "0s"
    """Time before the first one."""
    count: int = Field(default=1, ge=1, le=1000)
    """Measurements that are needed. Errors do not count."""
    failure_limit: int = Field(default=0, ge=-1, le=1000)
    """Bad measurements that are allowed; -1 allows all. One more puts all traffic back on the stable version."""
    inconclusive_limit: int = Field(default=0, ge=-1, le=1000)
    """Inconclusive measurements that are allowed; -1 allows all. One more stops the rollout until a person decides."""
    consecutive_error_limit: int = Field(default=4, ge=-1, le=1000)
    """Errors in a row that are allowed; -1 allows all. One more stops the rollout until a person decides: it says nothing about the model."""
    dry_run: bool = False
    """Measure and show, but let nothing depend on it."""


class Analysis(Document):
    """Metrics that decide whether the canary goes on."""

    metrics: Annotated[
        list[Metric],
        Field(
            min_length=1,
            max_length=8,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ]
    """All must be good."""


class Pause(Document):
    """Wait."""

    duration: Duration | None = None
    """How long. Absent: until somebody promotes (`kubectl annotate mro NAME rollouts.trimtab.dev/action=promote`)."""


class Step(OneOf):
    """One step. Exactly one member."""

    set_weight: Annotated[int, Field(ge=0, le=100)] | None = None
    """Share of the requests that the canary answers from now on, in percent."""
    pause: Pause | None = None
    """Wait for a time, or for a person."""
    analysis: Analysis | None = None
    """Measure; go on when all is well, go back when it is not."""


class Measurement(Document):
    """One value."""

    at: str
    """When."""
    phase: str
    """Successful, Failed, Inconclusive or Error."""
    value: str = ""
    """The canary's, as text: no digit is lost."""
    champion: str = ""
    """The stable version's."""
    message: str = Field(default="", max_length=256)
    """Why it is an error."""


class MetricResult(Document):
    """What a metric has come to."""

    step: int
    """Index of its step."""
    name: str
    """Name of the metric."""
    phase: str = "Running"
    """Running, Successful, Failed, Inconclusive or Error."""
    dry_run: bool = False
    """Nothing depends on it."""
    successful: int = 0
    """Good measurements."""
    failed: int = 0
    """Bad ones."""
    inconclusive: int = 0
    """Neither."""
    error: int = 0
    """Those that could not be taken."""
    consecutive_error: int = 0
    """Errors since the last measurement."""
    message: str = Field(default="", max_length=512)
    """What it waits for, or why it ended as it did."""
    measurements: list[Measurement] = Field(default_factory=list, max_length=5)
    """The newest ones, oldest first."""
