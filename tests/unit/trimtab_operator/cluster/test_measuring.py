"""What servers counted becomes the value of a metric; a Prometheus is asked over HTTP."""

import math
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from tests.support.rollouts import make_rollout, observed
from tests.support.times import NOW

from trimtab_operator.api.v1alpha1.analysis import Metric
from trimtab_operator.cluster.measuring import Measuring, quantile
from trimtab_operator.cluster.servers import Servers
from trimtab_operator.state import DueMetric, Sample, ServerNews
from trimtab_trainer.contract.serving import Histogram, ServerReport, VersionCounters

UID = make_rollout().metadata.uid
WORLD = replace(observed(), pods=tuple({"metadata": {"name": f"server-{uid}", "uid": uid}} for uid in ("a", "b")))
BOUNDS = [0.1, 1.0, 10.0]


def counted(version: str, requests: int, *, errors: int = 0, tokens: float = 0.0, cut: int = 0) -> VersionCounters:
    """Every answer took between 0.1 and 1 s."""
    histogram = Histogram(bounds=BOUNDS, counts=[0, requests, 0, 0], total=requests * 0.5)
    lengths = Histogram(bounds=[16.0], counts=[requests, 0], total=tokens)
    return VersionCounters(
        name=version, requests=requests, errors=errors, seconds=histogram, answer_tokens=lengths, cut_answers=cut
    )


def said(servers: Servers, pod: str, seconds: float, *counters: VersionCounters, instance: str = "1") -> None:
    report = ServerReport(instance=instance, counters=list(counters))
    servers.take(UID, ServerNews(f"server-{pod}", pod, NOW + timedelta(seconds=seconds), report))


def due(metric: str, **fields: Any) -> DueMetric:
    known = {"name": "m", "successCondition": "result > 0", "provider": {"server": {"metric": metric} | fields}}
    return DueMetric(Metric.model_validate(known), canary="v2", stable="v1", since=NOW)


async def measured(servers: Servers, wanted: DueMetric) -> Sample:
    return (await Measuring(servers)([wanted], WORLD))["m"]


@pytest.mark.parametrize(
    ("metric", "result", "champion"),
    [
        pytest.param("requests", 30.0, 100.0, id="requests"),
        pytest.param("errorRate", 0.1, 0.0, id="errors"),
        pytest.param("answerTokens", 20.0, 5.0, id="length"),
        pytest.param("cutAnswerRate", 0.2, 0.0, id="cut answers"),
        pytest.param("latencySeconds", pytest.approx(0.955), pytest.approx(0.955), id="latency"),
        pytest.param("firstTextSeconds", None, None, id="nothing of the kind was counted"),
    ],
)
async def test_two_servers_are_one(metric: str, result: Any, champion: Any) -> None:
    """What was counted before does not count."""
    servers = Servers()
    said(servers, "a", 0, counted("v1", 1000, errors=500, tokens=9000), counted("v2", 5, errors=5, tokens=500))
    said(servers, "a", 5, counted("v1", 1060, errors=500, tokens=9300), counted("v2", 15, errors=6, tokens=700, cut=4))
    said(servers, "b", 1, counted("v1", 0))
    said(servers, "b", 5, counted("v1", 40, tokens=200), counted("v2", 20, errors=2, tokens=400, cut=2))
    assert await measured(servers, due(metric)) == Sample(result=result, champion=champion)


@pytest.mark.parametrize(
    ("requests", "minimum", "waits"),
    [
        pytest.param(9, 10, "m waits for requests: the canary has answered 9 of 10", id="one is missing"),
        pytest.param(10, 10, "", id="enough"),
        pytest.param(0, 0, "", id="none is needed"),
    ],
)
async def test_too_few_requests(requests: int, minimum: int, waits: str) -> None:
    servers = Servers()
    said(servers, "a", 0, counted("v2", 100))
    said(servers, "a", 5, counted("v2", 100 + requests))
    assert (await measured(servers, due("requests", minimumRequests=minimum))).waits == waits


async def test_a_server_that_started_anew_counted_from_zero() -> None:
    servers = Servers()
    said(servers, "a", -20, counted("v2", 500))
    said(servers, "a", 5, counted("v2", 12), instance="2")
    assert (await measured(servers, due("requests"))).result == 12


async def test_after_a_restart_of_the_operator_only_what_it_has_heard_counts() -> None:
    servers = Servers()
    said(servers, "a", 3, counted("v2", 500))
    said(servers, "a", 5, counted("v2", 511))
    assert (await measured(servers, due("requests"))).result == 11


async def test_pods_that_are_gone_do_not_count() -> None:
    servers = Servers()
    said(servers, "gone", 0, counted("v2", 0))
    said(servers, "gone", 5, counted("v2", 50))
    assert (await measured(servers, due("requests"))).waits


@pytest.mark.parametrize(
    ("counts", "share", "value"),
    [
        pytest.param([10, 0, 0, 0], 0.5, 0.05, id="half of the first bucket"),
        pytest.param([0, 0, 10, 0], 1.0, 10.0, id="the end of a bucket"),
        pytest.param([0, 0, 0, 10], 0.5, 10.0, id="above all bounds"),
        pytest.param([0, 0, 0, 0], 0.5, None, id="nothing"),
    ],
)
def test_quantile(counts: list[int], share: float, value: float | None) -> None:
    found = quantile(Histogram(bounds=BOUNDS, counts=counts), share)
    assert found == (value if value is None else pytest.approx(value))


ANSWERS = {
    "one": (200, {"data": {"resultType": "vector", "result": [{"value": [1, "0.25"]}]}}),
    "scalar": (200, {"data": {"resultType": "scalar", "result": [1, "7"]}}),
    "nan": (200, {"data": {"resultType": "vector", "result": [{"value": [1, "NaN"]}]}}),
    "two": (200, {"data": {"resultType": "vector", "result": [{"value": [1, "1"]}] * 2}}),
    "none": (200, {"data": {"resultType": "vector", "result": []}}),
    "odd": (200, ["what"]),
    "odder": (200, {"data": {"resultType": "vector", "result": [{}]}}),
    "range": (200, {"data": {"resultType": "matrix", "result": [{"values": [[1, "1"]]}]}}),
    "wrong": (400, {"status": "error", "errorType": "bad_data", "error": "1:7: parse error"}),
    "refused": (400, {"error": "a secret"}),
    "broken": (500, {"status": "error", "errorType": "internal", "error": "a secret"}),
    "moved": (302, {}),
}


@pytest.fixture
async def prometheus() -> AsyncIterator[str]:
    async def query(request: web.Request) -> web.Response:
        assert request.query["query"] == "errors{version='v2'} / errors{version='v1'}"
        code, body = ANSWERS[request.match_info["which"]]
        headers = {"Location": "/one/api/v1/query"} if code == 302 else {}
        return web.Response(status=code, body=orjson.dumps(body), headers=headers)

    application = web.Application()
    application.router.add_get("/{which}/api/v1/query", query)
    async with TestServer(application) as server:
        yield str(server.make_url("/"))


@pytest.mark.parametrize(
    ("which", "result", "error"),
    [
        pytest.param("one", 0.25, "", id="one value"),
        pytest.param("scalar", 7.0, "", id="a scalar"),
        pytest.param("nan", pytest.approx(math.nan, nan_ok=True), "", id="NaN"),
        pytest.param("two", None, "the query has 2 values; it must have one", id="two values"),
        pytest.param("none", None, "", id="no value yet"),
        pytest.param("range", None, "the query's value is a matrix", id="a range of values"),
        pytest.param("odd", None, "no answer of Prometheus", id="something else"),
        pytest.param("odder", None, "the query's value is no number", id="something odd"),
        pytest.param("wrong", None, "answers 400: bad_data: 1:7: parse error", id="a query that cannot be read"),
        pytest.param("refused", None, "answers 400", id="refused"),
        pytest.param("broken", None, "answers 500", id="broken"),
        pytest.param("moved", None, "answers 302", id="sent elsewhere"),
    ],
)
async def test_prometheus(which: str, result: float | None, error: str, prometheus: str) -> None:
    query = {"address": prometheus + which, "query": "errors{version='{{canary}}'} / errors{version='{{stable}}'}"}
    metric = Metric.model_validate({"name": "m", "successCondition": "result < 1", "provider": {"prometheus": query}})
    sample = await measured(Servers(), DueMetric(metric, canary="v2", stable="v1", since=NOW))
    assert sample.result == result
    assert error in sample.error
    assert "secret" not in sample.error, "what it says is not for whoever wrote the rollout"


async def test_a_prometheus_that_is_not_there() -> None:
    query = {"address": "http://127.0.0.1:1", "query": "up"}
    metric = Metric.model_validate({"name": "m", "successCondition": "result < 1", "provider": {"prometheus": query}})
    sample = await measured(Servers(), DueMetric(metric, canary="v2", stable="v1", since=NOW))
    assert "cannot be asked" in sample.error
