"""Takes measurements: from what the servers counted, and from a Prometheus. Whatever goes wrong is an error of the measurement, never of the pass."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise, starmap
from operator import add

import aiohttp
import orjson

from trimtab_operator.api.v1alpha1.analysis import PrometheusQuery, ServerMetric
from trimtab_operator.cluster.servers import Servers, Span
from trimtab_operator.state import DueMetric, ObservedRollout, Sample
from trimtab_trainer.contract.serving import Histogram, VersionCounters

_DEADLINE = aiohttp.ClientTimeout(total=8, sock_connect=3)
_MAX_REPLY_BYTES = 256 * 1024
_OK = 200
_MAX_ERROR = 256
_OBJECTIONS = ("bad_data", "execution", "timeout", "canceled")
"""Of Prometheus' error types, those that are about the query."""


class Measuring:
    """The edge where values come in."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers

    async def __call__(self, due: Sequence[DueMetric], observed: ObservedRollout) -> dict[str, Sample]:
        """All that is due, side by side."""
        # What a Job measures is read from its pod, like everything that pods say.
        asked = [each for each in due if each.metric.provider.job is None]
        samples = await asyncio.gather(*(self._sample(each, observed) for each in asked))
        return {each.metric.name: sample for each, sample in zip(asked, samples, strict=True)}

    async def _sample(self, due: DueMetric, observed: ObservedRollout) -> Sample:
        provider = due.metric.provider
        if provider.server is not None:
            return self._from_servers(provider.server, due, observed)
        if provider.prometheus is not None:
            return await from_prometheus(provider.prometheus, due)
        return Sample(error=f"the provider {provider.kind} is not available in this release")

    def _from_servers(self, metric: ServerMetric, due: DueMetric, observed: ObservedRollout) -> Sample:
        uid = observed.rollout.metadata.uid
        pods = {pod["metadata"]["uid"] for pod in observed.pods}
        canary, stable = (summed(self._servers.spans(uid, pods, name, due.since)) for name in (due.canary, due.stable))
        if canary.requests < metric.minimum_requests:
            return Sample(
                waits=f"{due.metric.name} waits for requests: the canary has answered {canary.requests} of {metric.minimum_requests}"
            )
        return Sample(result=value_of(metric, canary), champion=value_of(metric, stable))


def summed(spans: Sequence[Span]) -> VersionCounters:
    """What several servers counted in their spans, together."""
    total = VersionCounters(name="")
    for span in spans:
        before, after = span.before or VersionCounters(name=""), span.after
        total = VersionCounters(
            name=after.name,
            requests=total.requests + after.requests - before.requests,
            errors=total.errors + after.errors - before.errors,
            seconds=_plus(total.seconds, after.seconds, before.seconds),
            first_text_seconds=_plus(total.first_text_seconds, after.first_text_seconds, before.first_text_seconds),
            answer_tokens=_plus(total.answer_tokens, after.answer_tokens, before.answer_tokens),
            cut_answers=total.cut_answers + after.cut_answers - before.cut_answers,
        )
    return total


def value_of(metric: ServerMetric, counted: VersionCounters) -> float | None:
    """The value of a metric; None where nothing was counted."""
    answers = sum(counted.answer_tokens.counts)
    match metric.metric:
        case "requests":
            return float(counted.requests)
        case "errorRate":
            return counted.errors / counted.requests if counted.requests else None
        case "latencySeconds":
            return quantile(counted.seconds, metric.quantile)
        case "firstTextSeconds":
            return quantile(counted.first_text_seconds, metric.quantile)
        case "answerTokens":
            return counted.answer_tokens.total / answers if answers else None
        case "cutAnswerRate":
            return counted.cut_answers / answers if answers else None


def quantile(histogram: Histogram, share: float) -> float | None:
    """As Prometheus' histogram_quantile: linear inside a bucket; the last bound for what lies above all of them."""
    total = sum(histogram.counts)
    if not total:
        return None
    rank, below = share * total, 0
    edges = [0.0, *histogram.bounds]
    for (low, high), count in zip(pairwise(edges), histogram.counts, strict=False):
        if below + count >= rank and count:
            return low + (high - low) * (rank - below) / count
        below += count
    return edges[-1]


async def from_prometheus(query: PrometheusQuery, due: DueMetric) -> Sample:
    """The one value of an instant query."""
    text = query.query.replace("{{canary}}", due.canary).replace("{{stable}}", due.stable)
    url = f"{query.address.rstrip('/')}/api/v1/query"
    try:
        async with (
            aiohttp.ClientSession(timeout=_DEADLINE) as session,
            session.get(url, params={"query": text}, allow_redirects=False) as answer,
        ):
            body = await answer.content.read(_MAX_REPLY_BYTES)
            if answer.status != _OK:
                return Sample(error=f"{query.address} answers {answer.status}{_objection(body)}"[:_MAX_ERROR])
            return _read(orjson.loads(body))
    except TimeoutError:
        return Sample(error=f"{query.address} does not answer within {_DEADLINE.total:.0f} s")
    except (aiohttp.ClientError, OSError, ValueError, LookupError, TypeError) as error:
        return Sample(error=f"{query.address} cannot be asked: {type(error).__name__}: {error}"[:_MAX_ERROR])


def _objection(body: bytes) -> str:
    """What Prometheus has against the query. Nothing that has not its form: whoever writes a rollout may not read everything that the operator can reach."""
    try:
        document = orjson.loads(body)
    except ValueError:
        return ""
    if not isinstance(document, dict) or document.get("errorType") not in _OBJECTIONS:
        return ""
    return f": {document['errorType']}: {document.get('error', '')}"


def _read(document: object) -> Sample:
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(data, dict) or not isinstance(found := data.get("result"), list):
        return Sample(error="the answer is no answer of Prometheus")
    match data.get("resultType"), found:
        case ("scalar", [_, value]) | ("vector", [{"value": [_, value]}]):
            return Sample(result=float(value))
        case "vector", []:
            return Sample()
        case "vector", [_]:
            return Sample(error="the query's value is no number")
        case "vector", _:
            return Sample(
                error=f"the query has {len(found)} values; it must have one: sum() or max() makes one of several"
            )
    return Sample(error=f"the query's value is a {data.get('resultType')}; it must be a number")


def _plus(total: Histogram, after: Histogram, before: Histogram) -> Histogram:
    if not after.counts:
        return total
    zeros = [0] * len(after.counts)
    counted = [new - old for new, old in zip(after.counts, before.counts or zeros, strict=False)]
    return Histogram(
        bounds=after.bounds,
        counts=list(starmap(add, zip(total.counts or zeros, counted, strict=False))),
        total=total.total + after.total - before.total,
    )
