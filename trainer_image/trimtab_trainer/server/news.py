"""What this server has to say about itself: how far its versions are, and what they counted. Read from the same metrics that Prometheus scrapes."""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from prometheus_client.metrics_core import Metric

from trimtab_trainer.contract.serving import MAX_REPORTED_VERSIONS, Histogram, VersionCounters, VersionState
from trimtab_trainer.server.metrics import Metrics
from trimtab_trainer.server.versions import Version

_MESSAGE_CHARACTERS = 1000
_CUT = "length"
"""OpenAI's word for an answer that reached its limit."""


def states(versions: Iterable[Version[Any]]) -> list[VersionState]:
    """How far each version is."""
    return [
        VersionState(
            name=version.served.name,
            state=version.state.value,
            reason=version.error.reason if version.error else None,
            message=str(version.error or "")[:_MESSAGE_CHARACTERS],
            open_requests=version.in_flight,
        )
        for version in versions
    ][:MAX_REPORTED_VERSIONS]


def counters(metrics: Metrics, names: Iterable[str]) -> list[VersionCounters]:
    """What the versions of these names counted, over all endpoints."""
    requests, errors = (_sums(family) for family in (metrics.requests, metrics.errors))
    seconds, first, tokens = (
        _histograms(family) for family in (metrics.seconds, metrics.first_token_seconds, metrics.answer_tokens)
    )
    cut = _sums(metrics.answer_tokens, suffix="_count", finish_reason=_CUT)
    empty = Histogram()
    return [
        VersionCounters(
            name=name,
            requests=int(requests.get(name, 0)),
            errors=int(errors.get(name, 0)),
            seconds=seconds.get(name, empty),
            first_text_seconds=first.get(name, empty),
            answer_tokens=tokens.get(name, empty),
            cut_answers=int(cut.get(name, 0)),
        )
        for name in dict.fromkeys(names)
    ][:MAX_REPORTED_VERSIONS]


def _samples(family: Any) -> Iterable[Any]:
    collected: Iterable[Metric] = family.collect()
    return (sample for metric in collected for sample in metric.samples)


def _sums(family: Any, *, suffix: str = "_total", **labels: str) -> Mapping[str, float]:
    sums: dict[str, float] = {}
    for sample in _samples(family):
        if sample.name.endswith(suffix) and labels.items() <= sample.labels.items():
            version = sample.labels["version"]
            sums[version] = sums.get(version, 0.0) + sample.value
    return sums


def _histograms(family: Any) -> dict[str, Histogram]:
    """By version; Prometheus' buckets are cumulative, these are not."""
    buckets: dict[str, dict[float, float]] = {}
    for sample in _samples(family):
        if sample.name.endswith("_bucket"):
            bounds = buckets.setdefault(sample.labels["version"], {})
            bound = float(sample.labels["le"])
            bounds[bound] = bounds.get(bound, 0.0) + sample.value
    totals = _sums(family, suffix="_sum")
    return {version: _histogram(bounds, totals.get(version, 0.0)) for version, bounds in buckets.items()}


def _histogram(bounds: Mapping[float, float], total: float) -> Histogram:
    ordered = sorted(bounds.items())
    cumulative = [0.0, *(count for _, count in ordered)]
    counts = [int(after - before) for before, after in pairwise(cumulative)]
    return Histogram(bounds=[bound for bound, _ in ordered[:-1]], counts=counts, total=total)
