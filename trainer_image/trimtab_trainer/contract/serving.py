"""What a server tells the operator, and what it hears back. Every report is a snapshot: a lost one is healed by the next.

The server POSTs a ServerReport to TRIMTAB_SERVER_URL. The answer waits until there is another configuration than the one
that the server has, or until `waitSeconds` are over: weights arrive within milliseconds, and an idle server asks seldom.
"""

from typing import Final, Literal

from pydantic import Field

from trimtab_trainer.contract.base import Document
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.manifests import canonical_json, sha256_hex
from trimtab_trainer.contract.run_config import ServerConfig

SERVER_REPORT_SCHEMA: Final = "trimtab.dev/server-report/v1"
MAX_WAIT_SECONDS = 9.0
"""Less than the ten seconds that a replica waits for the leader's answer when it passes a report on."""
MAX_REPORTED_VERSIONS = 16


class Histogram(Document):
    """How often values fell into each bucket since the server started."""

    bounds: list[float] = Field(default_factory=list, max_length=32)
    """Upper bounds of all buckets but the last, which has none."""
    counts: list[int] = Field(default_factory=list, max_length=33)
    """One for each bucket."""
    total: float = 0.0
    """Sum of all values."""


class VersionState(Document):
    """How far one version is on this server."""

    name: str
    """ModelVersion."""
    state: Literal["Loading", "Ready", "Refused", "Draining"]
    reason: TrainerReason | None = None
    """Why it was refused."""
    message: str = Field(default="", max_length=1024)
    open_requests: int = 0


class VersionCounters(Document):
    """What one version has answered since the server started; the same numbers are on `/metrics`."""

    name: str
    """ModelVersion."""
    requests: int = 0
    """Requests that ended, those that the client left included."""
    errors: int = 0
    """Of them, those that ended by a fault of the server."""
    seconds: Histogram = Field(default_factory=Histogram)
    """Time to the end of the answer."""
    first_text_seconds: Histogram = Field(default_factory=Histogram)
    """Time to the first text."""
    answer_tokens: Histogram = Field(default_factory=Histogram)
    """Length of answers."""
    cut_answers: int = 0
    """Answers that ended because they reached their limit."""


class ServerReport(Document):
    """The whole truth as this server knows it."""

    schema_: Literal["trimtab.dev/server-report/v1"] = Field(default=SERVER_REPORT_SCHEMA, alias="schema")
    instance: str = Field(max_length=64)
    """Made anew when the process starts: counters begin at zero then."""
    digest: str = Field(default="", max_length=64)
    """Of the configuration that is in use, as the operator named it; empty where it came from a file."""
    heard: str = Field(default="", max_length=64)
    """Of the configuration that the operator sent last, in use or refused."""
    config_problem: str = Field(default="", max_length=1024)
    """Why what was heard is not in use."""
    versions: list[VersionState] = Field(default_factory=list, max_length=MAX_REPORTED_VERSIONS)
    counters: list[VersionCounters] = Field(default_factory=list, max_length=MAX_REPORTED_VERSIONS)
    wait_seconds: float = Field(default=0.0, ge=0)
    """How long the answer may wait for news."""


class ServerReply(Document):
    """The operator's answer."""

    config: ServerConfig | None = None
    """The configuration to follow; None where the server has it already."""
    digest: str = ""
    """Its name, to be repeated in reports."""
    report_seconds: float = 8.0
    """How long the next report may wait for news: short while an analysis needs fresh numbers."""


def config_digest(config: ServerConfig) -> str:
    """Names a configuration. The operator makes the name; servers repeat it."""
    return sha256_hex(canonical_json(config.to_json()))
