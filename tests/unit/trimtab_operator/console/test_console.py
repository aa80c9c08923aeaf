"""The page for people: it shows what there is, escapes what users wrote, and runs and loads nothing."""

import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any, get_args

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from tests.support.builders import NOW, make_job, make_report, make_version, success
from tests.support.cluster import Manifest
from tests.support.rollout_world import stepping
from tests.support.world import World

from trimtab_operator.api.common import Condition
from trimtab_operator.api.v1alpha1 import FineTuneJob
from trimtab_operator.api.v1alpha1.fine_tune_job import JobState
from trimtab_operator.api.v1alpha1.gates import GatePhase
from trimtab_operator.cluster.store import Store
from trimtab_operator.cluster.trim import Stored
from trimtab_operator.console.curves import loss_curve, weight_curve
from trimtab_operator.console.history import MAX_POINTS, History, Losses, Weights
from trimtab_operator.console.pages import Pages
from trimtab_operator.console.server import Console
from trimtab_operator.console.words import ago, condition_mood, mood, number
from trimtab_operator.status.model_rollout.situation import State as RolloutState

EVIL = "<script>alert(1)</script>"
SECRET = "s3cr3t-name"
_VOID = {"meta", "link", "line", "polyline", "rect", "br"}


class Page(HTMLParser):
    """What a browser would see: cells of tables by id, links, tags; unbalanced tags fail."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.links: list[str] = []
        self.text: list[str] = []
        self.cells: dict[str, list[list[str]]] = {}
        self._open: list[str] = []
        self._table = ""
        self.feed(text)
        assert self._open == [], self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.tags.append((tag, known))
        if tag == "a":
            self.links.append(str(known["href"]))
        if tag == "table":
            self._table = known.get("id") or "conditions"
            self.cells[self._table] = []
        if tag == "tr":
            self.cells[self._table].append([])
        if tag in ("td", "th"):
            self.cells[self._table][-1].append("")
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if "td" in self._open or "th" in self._open:
            self.cells[self._table][-1][-1] += data

    @property
    def pictures(self) -> list[str]:
        """The points of every line that is drawn."""
        return [str(attributes["points"]) for tag, attributes in self.tags if tag == "polyline"]


def stored(body: Manifest, kind: str, uid: str, version: int = 1) -> Stored:
    metadata = {"namespace": "demo", "uid": uid, "resourceVersion": str(version), "generation": 1}
    body = {**body, "kind": kind, "metadata": body["metadata"] | metadata}
    return Stored.of(body)


def running_job() -> Manifest:
    world = World(make_job(model={"uri": "s3://models/base", "secretName": SECRET}))
    world.settle().advance(1).run().advance(6)
    world.say(make_report(progress={"step": 3, "totalSteps": 10, "loss": 1.5}))
    checkpoints = [
        {"step": step, "attempt": 1, "uri": "s3://b/k", "manifestSha256": "0" * 64, "bytes": 1, "time": "", "metrics": {"eval_loss": loss}}
        for step, loss in ((1, 3.0), (2, 2.0))
    ]  # fmt: skip
    return {**world.job.to_json(), "status": world.wire | {"checkpoints": checkpoints}}


def done_job() -> Manifest:
    world = World(make_job(name="done")).settle().advance(1).run().advance(6)
    world.reserve()
    world.advance(6).succeed(success())
    return {**world.job.to_json(), "status": world.wire}


def filled() -> Store:
    store = Store()
    store.put(stored(running_job(), "FineTuneJob", "job-1"))
    store.put(stored(done_job(), "FineTuneJob", "job-2"))
    gate = {
        "name": "not worse",
        "metric": "loss",
        "source": "test",
        "phase": "Failed",
        "holdsBack": True,
        "message": EVIL,
    }
    parent = make_version(1, source={"name": "done", "uid": "1", "attempt": 1, "step": 60})
    child = make_version(2, gates=[gate], lineage={"parentVersion": "support-tone-v1"})
    store.put(stored(parent.to_json(), "ModelVersion", "version-1"))
    store.put(stored(child.to_json(), "ModelVersion", "version-2"))
    world = stepping({"setWeight": 10}, {"pause": {}})
    store.put(stored({**world.rollout.to_json(), "status": world.wire}, "ModelRollout", "rollout-1"))
    return store


@pytest.fixture(scope="module")
def store() -> Store:
    return filled()


@pytest.fixture
def application(store: Store) -> web.Application:
    console = Console(store)
    console._history.look(store, now=NOW)
    application = web.Application()
    console.add_to(application)
    return application


async def get(application: web.Application, path: str) -> tuple[int, Any, str]:
    async with TestClient(TestServer(application)) as client:
        response = await client.get(path)
        return response.status, response.headers, await response.text()


PAGES = [
    "/console",
    "/console/jobs/demo/tone",
    "/console/jobs/demo/done",
    "/console/versions/demo/support-tone-v1",
    "/console/versions/demo/support-tone-v2",
    "/console/rollouts/demo/tone",
]


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_is_whole_runs_nothing_and_shows_no_secret(path: str, application: web.Application) -> None:
    code, headers, text = await get(application, path)
    assert (code, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    page = Page(text)
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "script-src" not in headers["Content-Security-Policy"]
    for tag, attributes in page.tags:
        assert tag not in ("script", "style", "iframe", "form", "img", "object")
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
        assert not str(attributes.get("href", "/console")).startswith(("http", "//", "javascript"))
    assert SECRET not in text


async def test_every_link_leads_somewhere(application: web.Application) -> None:
    async with TestClient(TestServer(application)) as client:
        seen, waiting = set[str](), ["/console", "/console/style.css"]
        while waiting:
            path = waiting.pop()
            seen.add(path)
            response = await client.get(path)
            assert response.status == 200, path
            if response.content_type == "text/html":
                waiting += [link for link in Page(await response.text()).links if link not in seen]
    assert seen == {*PAGES, "/console/style.css"}


async def test_the_overview(application: web.Application) -> None:
    page = Page((await get(application, "/console"))[2])
    jobs = {row[1]: row for row in page.cells["jobs"][1:]}
    assert [text.strip() for text in jobs["tone"][2:5]] == ["Running", "3 of 10", "1.5"]
    assert jobs["done"][2] == "Complete"
    versions = {row[1]: row for row in page.cells["versions"][1:]}
    assert versions["support-tone-v2"][2:4] == ["imported", "support-tone-v1"]
    assert page.cells["rollouts"][1][1:5] == ["tone", "Paused", "2", "1"]
    assert page.cells["rollouts"][1][5].split() == ["v1", "90", "%", "v2", "10", "%"]


async def test_a_jobs_losses_are_drawn(application: web.Application) -> None:
    _, _, text = await get(application, "/console/jobs/demo/tone")
    page = Page(text)
    assert len(page.pictures) == 2, "training and validation"
    assert [len(points.split()) for points in page.pictures] == [1, 2]


async def test_a_versions_gates_are_shown_as_text(application: web.Application) -> None:
    _, _, text = await get(application, "/console/versions/demo/support-tone-v2")
    assert EVIL not in text
    assert Page(text).cells["gates"][1] == ["not worse", "Failed", EVIL]


async def test_what_is_not_there(application: web.Application) -> None:
    for path in ("/console/jobs/demo/nobody", "/console/jobs/other/tone", "/console/secrets/demo/x"):
        assert (await get(application, path))[0] == 404
    async with TestClient(TestServer(application)) as client:
        assert (await client.post("/console")).status == 405, "nothing can be changed"


# ── Words and colours ──


@pytest.mark.parametrize("words", [JobState, RolloutState, GatePhase])
def test_every_word_of_a_state_has_a_mood(words: Any) -> None:
    assert [word for word in get_args(words) if mood(word) == "plain"] == []


def said(kind: str, status: str) -> Condition:
    return Condition(type=kind, status=status, reason="R", message="", last_transition_time="", observed_generation=1)


@pytest.mark.parametrize(
    ("kind", "status", "expected"),
    [
        pytest.param("Ready", "True", "good", id="ready"),
        pytest.param("Ready", "False", "plain", id="not ready yet"),
        pytest.param("Stalled", "True", "bad", id="stalled"),
        pytest.param("Stalled", "False", "plain", id="nobody has to do anything"),
        pytest.param("Reconciling", "True", "moving", id="on its way"),
        pytest.param("Promotable", "False", "bad", id="a gate failed"),
        pytest.param("Verified", "Unknown", "plain", id="not read back"),
    ],
)
def test_what_a_condition_looks_like(kind: str, status: str, expected: str) -> None:
    assert condition_mood(said(kind, status)) == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param("0.512345678", "0.5123", id="a fraction"),
        pytest.param(18422.4, "18,422", id="a large one"),
        pytest.param("nan", "nan", id="no number"),
        pytest.param("many", "many", id="a word"),
    ],
)
def test_numbers_are_short(value: object, text: str) -> None:
    assert number(value) == text


def test_times_are_told_from_now() -> None:
    assert ago("2026-11-21T11:48:00Z", NOW) == "12m ago"
    assert ago("", NOW) == ""


def luminance(colour: str) -> float:
    """As WCAG 2 defines it."""
    digits = colour.removeprefix("#")
    if len(digits) == 3:
        digits = "".join(digit * 2 for digit in digits)
    parts = [int(digits[index : index + 2], 16) / 255 for index in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colours_are_readable_by_day_and_by_night(store: Store) -> None:
    """WCAG 2 AA: 4.5 for text, on the page and on a message's ground."""
    blocks = re.findall(r":root \{([^}]*--page[^}]*)\}", Pages(store, History()).style())
    assert len(blocks) == 2
    for block in blocks:
        colours = dict(re.findall(r"--(\w+): (#\w+)", block))
        for name in ("text", "quiet", "link", "good", "bad", "moving", "waiting"):
            for ground in ("page", "soft"):
                light, dark = sorted((luminance(colours[name]), luminance(colours[ground])), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (name, ground)


# ── Curves ──


def test_a_loss_curve_goes_down_and_stays_in_the_picture() -> None:
    picture = loss_curve(Losses({1: 3.0, 2: 2.0, 3: float("nan"), 4: 1.0}, {2: 2.5}))
    assert picture is not None
    training = [tuple(map(float, point.split(","))) for point in picture.lines[0].points.split()]
    assert [x for x, _ in training] == sorted(x for x, _ in training)
    assert [y for _, y in training] == sorted(y for _, y in training), "a smaller loss is lower: y grows downwards"
    assert all(0 <= x <= picture.width and 0 <= y <= picture.height for x, y in training)
    assert (len(training), picture.lines[1].label) == (3, "validation")


@pytest.mark.parametrize(
    "losses", [pytest.param(Losses(), id="none"), pytest.param(Losses({3: 1.0}), id="a single point")]
)
def test_no_curve_without_two_points(losses: Losses) -> None:
    assert loss_curve(losses) is None


def test_weights_change_in_steps() -> None:
    history = [Weights(NOW, {1: 100}), Weights(NOW + timedelta(seconds=60), {1: 90, 2: 10})]
    picture = weight_curve(history, now=NOW + timedelta(seconds=120))
    assert picture is not None
    assert [line.label for line in picture.lines] == ["version 1", "version 2"]
    heights = [float(point.split(",")[1]) for point in picture.lines[0].points.split()]
    assert heights[0] == heights[1] < heights[2] == heights[3]


def test_what_is_remembered_is_bounded() -> None:
    store, history = Store(), History()
    body = running_job()
    for step in range(3 * MAX_POINTS):
        body["status"] = body["status"] | {"progress": {"step": step, "loss": 1.0}, "checkpoints": []}
        store.put(stored(body, "FineTuneJob", "job-1", version=step + 1))
        history.look(store, now=datetime.now(UTC))
    job = FineTuneJob.parse(store.by_uid("job-1").body())  # type: ignore[union-attr]
    steps = sorted(history.losses(job).training)
    assert len(steps) <= MAX_POINTS + 1
    assert (steps[0], steps[-1]) == (0, 3 * MAX_POINTS - 1)


def test_who_does_not_want_it_does_not_pay_for_it() -> None:
    code = "import sys, trimtab_operator.runtime; print('jinja2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
