"""Analyses that ask a real Prometheus, which scrapes what the servers count."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client import Gauge, start_http_server
from tests.integration.operator.conftest import eventually
from tests.support.cluster import Manifest
from tests.support.operator_process import free_port
from tests.support.prometheus import Prometheus
from tests.support.rollout_world import RolloutWorld
from tests.support.rollouts import observed
from tests.support.times import NOW

from trimtab_operator.api.v1alpha1.analysis import Analysis, Measurement, Metric
from trimtab_operator.cluster.measuring import Measuring
from trimtab_operator.cluster.servers import Servers
from trimtab_operator.plan.model_rollout.analysis import due, record
from trimtab_operator.state import DueMetric
from trimtab_trainer.server.metrics import Metrics

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[3]
COUNT = "trimtab_server_request_seconds_count"


class Counted:
    """What servers expose, scraped: `tone-v1` is good, `tone-v2` is not, `tone-v3` has stood idle since long."""

    def __init__(self, directory: Path) -> None:
        self.metrics, port = Metrics(), free_port()
        self.score = Gauge("score", "By the test.", ["version"], registry=self.metrics.registry)
        self._server, _ = start_http_server(port, "127.0.0.1", self.metrics.registry)
        self.prometheus = Prometheus(directory, port)
        self.prometheus.start()
        self.prometheus.wait_ready()

    def ask(self, version: str, requests: int, *, errors: int, seconds: float) -> None:
        """As servers count requests."""
        self.metrics.errors.labels(version, "chat").inc(errors)
        for _ in range(requests):
            self.metrics.seconds.labels(version, "chat").observe(seconds)

    def until(self, metric: str, wanted: dict[str, float]) -> None:
        """Prometheus has seen it."""
        eventually(lambda: self.prometheus.values(metric) == wanted, what=f"{metric} is {wanted}", timeout=30)

    def stop(self) -> None:
        """Both."""
        self.prometheus.stop()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counted]:
    found = Counted(tmp_path_factory.mktemp("prometheus"))
    for version in ("tone-v1", "tone-v2", "tone-v3"):
        found.ask(version, 100, errors=20, seconds=0.02)
    found.until(COUNT, {"tone-v1": 100, "tone-v2": 100, "tone-v3": 100})
    found.ask("tone-v1", 100, errors=0, seconds=0.02)
    found.ask("tone-v2", 50, errors=10, seconds=0.3)
    found.until(COUNT, {"tone-v1": 200, "tone-v2": 150, "tone-v3": 100})
    yield found
    found.stop()


def documented() -> dict[str, Manifest]:
    """The metrics of docs/rollout.md, by name."""
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "rollout.md").read_text(), re.DOTALL)
    (block,) = [each for each in blocks if "prometheus:" in each]
    return {metric["name"]: metric for metric in yaml.safe_load(block)["metrics"]}


DOCUMENTED = documented()
ERRORS, LATENCY = (DOCUMENTED[name]["provider"]["prometheus"]["query"] for name in ("errors", "latency"))


def test_the_example_asks_what_the_documentation_explains() -> None:
    rollout = yaml.safe_load((ROOT / "examples" / "serving" / "prometheus.yaml").read_text())
    steps = rollout["spec"]["strategy"]["canary"]["steps"]
    (found,) = [step["analysis"]["metrics"] for step in steps if "analysis" in step]
    assert {metric["name"]: metric for metric in found} == DOCUMENTED


async def measured(address: str, query: str, *, canary: str, condition: str) -> Measurement:
    """One measurement, as the status shows it."""
    provider = {"prometheus": {"address": address, "query": query}}
    metric = Metric.model_validate({"name": "m", "successCondition": condition, "provider": provider})
    due = DueMetric(metric, canary=canary, stable="tone-v1", since=NOW)
    samples = await Measuring(Servers())([due], observed())
    (result,) = record(Analysis(metrics=[metric]), 0, (), samples, now=NOW)
    return result.measurements[-1]


@pytest.mark.parametrize(
    ("query", "canary", "condition", "phase", "value"),
    [
        pytest.param(ERRORS, "tone-v1", "result <= 0.05", "Successful", "0", id="no errors"),
        pytest.param(ERRORS, "tone-v2", "result <= 0.05", "Failed", "0.2", id="one of five fails"),
        pytest.param(LATENCY, "tone-v2", "result <= 0.5", "Successful", "0.4875", id="latency, quantile in its bucket"),
        pytest.param(LATENCY, "tone-v2", "result <= 0.4", "Failed", "0.4875", id="too slow"),
        pytest.param(ERRORS, "tone-v3", "isNaN(result) || result <= 0.05", "Successful", "nan", id="no request, and that is well"),
        pytest.param(f'{COUNT}{{version="{{{{stable}}}}"}}', "tone-v9", "result == 200", "Successful", "200", id="the stable version"),
        pytest.param("1 + 1", "tone-v2", "result == 2", "Successful", "2", id="a scalar"),
        pytest.param("sum(nothing)", "tone-v2", "default(result, 0) == 0", "Successful", "", id="no data, and that is well"),
    ],
)  # fmt: skip
async def test_a_value_and_its_verdict(
    query: str, canary: str, condition: str, phase: str, value: str, counted: Counted
) -> None:
    found = await measured(counted.prometheus.address, query, canary=canary, condition=condition)
    assert (found.phase, found.value, found.message) == (phase, value, "")


@pytest.mark.parametrize(
    ("query", "canary", "says"),
    [
        pytest.param(ERRORS, "tone-v9", "there is no result to compare with", id="no data yet"),
        pytest.param(ERRORS, "tone-v3", "result is NaN in `result <= 0.05`: isNaN(result)", id="nobody has asked it"),
        pytest.param(COUNT, "tone-v2", "the query has 3 values; it must have one: sum()", id="several series"),
        pytest.param(f"{COUNT}[1m]", "tone-v2", "the query's value is a matrix", id="a range"),
        pytest.param('"text"', "tone-v2", "the query's value is a string", id="a text"),
        pytest.param(f"sum(rate({COUNT}[2m])", "tone-v2", "answers 400: bad_data: ", id="a missing parenthesis"),
        pytest.param(f"rate({COUNT})", "tone-v2", "expected type range vector", id="a missing range"),
        pytest.param(f"{COUNT} * on() {COUNT}", "tone-v2", "answers 422: execution: ", id="what cannot be computed"),
    ],
)
async def test_what_is_no_measurement_says_why(query: str, canary: str, says: str, counted: Counted) -> None:
    found = await measured(counted.prometheus.address, query, canary=canary, condition="result <= 0.05")
    assert found.phase == "Error", found
    assert says in found.message


async def test_a_prometheus_that_goes_and_comes_back(counted: Counted) -> None:
    counted.prometheus.stop()
    away = await measured(counted.prometheus.address, ERRORS, canary="tone-v2", condition="result <= 0.05")
    counted.prometheus.start()
    counted.prometheus.wait_ready()
    back = await measured(counted.prometheus.address, "up", canary="tone-v2", condition="result == 1")
    assert (away.phase, back.phase) == ("Error", "Successful")
    assert "cannot be asked: ClientConnectorError" in away.message


class WatchedRollout(RolloutWorld):
    """A rollout in memory whose measurements are taken as the operator takes them."""

    def one_pass(self) -> bool:
        wanted = due(self.observed, now=self.now)
        self.samples |= asyncio.run(Measuring(Servers())(wanted, self.observed))
        return super().one_pass()


def test_it_decides_about_a_rollout(counted: Counted) -> None:
    """A bad value takes the canary back, no value stops it, a good one lets it through."""
    metric = {
        "name": "score",
        "provider": {"prometheus": {"address": counted.prometheus.address, "query": 'score{version="{{canary}}"}'}},
        "failureCondition": "result > 0.5",
        "count": 2,
        "consecutiveErrorLimit": 1,
    }
    steps = [{"setWeight": 30}, {"analysis": {"metrics": [metric]}}]
    world = WatchedRollout(version=1, strategy={"canary": {"steps": steps}}).settle()
    score = counted.score.labels("support-tone-v2")
    score.set(0.9)
    counted.until("score", {"support-tone-v2": 0.9})
    world.change(version=2)
    assert (world.status.state, world.told, world.ready) == ("RolledBack", {1: 100}, ("False", "AnalysisFailed"))
    assert "Metric score of step 1: result 0.9, bad where `result > 0.5`" in world.message

    counted.prometheus.stop()
    score.set(0.1)
    world.act("retry").advance(10)
    assert (world.status.state, world.told, world.ready) == ("Paused", {1: 70, 2: 30}, ("False", "AnalysisError"))
    assert "could not be measured 2 times in a row" in world.message

    counted.prometheus.start()
    counted.prometheus.wait_ready()
    counted.until("score", {"support-tone-v2": 0.1})
    world.act("retry:2")
    assert (world.status.state, world.told) == ("Progressing", {1: 70, 2: 30}), "one of two measurements"
    world.advance(10)
    assert (world.status.stable_version, world.told) == (2, {2: 100})
