"""The routes of the status endpoint, over HTTP on loopback."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from tests.support.builders import checkpoint, make_report
from tests.support.fake_api import FakeApi
from tests.support.manifests import smallest
from tests.support.rollouts import observed, plan_for

from trimtab_operator.cluster.reports import Reports
from trimtab_operator.cluster.servers import Servers
from trimtab_operator.cluster.store import Store
from trimtab_operator.cluster.trim import Stored
from trimtab_operator.endpoint.authentication import ServerSpeaker, Speaker
from trimtab_operator.endpoint.forwarding import Forwarder
from trimtab_operator.endpoint.refusals import Refusal
from trimtab_operator.endpoint.server import Endpoint
from trimtab_operator.endpoint.versions import Versions
from trimtab_operator.state import Key, ObjectRef
from trimtab_trainer.contract.run_config import ResolvedDataset, ServerConfig
from trimtab_trainer.contract.serving import ServerReport, config_digest

BASE = "/v1alpha1/namespaces/demo/finetunejobs/sample"
PROBE = {
    "conditionalWrites": True,
    "readAfterWrite": True,
    "listAfterWrite": True,
    "multipart": True,
    "checkedAt": "now",
}


class Doorkeeper:
    """Lets everybody in who says so."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def speaker(self, authorization: str, *, namespace: str, name: str) -> Speaker:
        stored = self._store.get("FineTuneJob", namespace, name)
        if authorization != "Bearer good" or stored is None:
            raise Refusal(401, "who are you?")
        return Speaker(stored, attempt=2)

    async def server(self, authorization: str, *, namespace: str, name: str) -> ServerSpeaker:
        stored = self._store.get("ModelRollout", namespace, name)
        if authorization != "Bearer good" or stored is None:
            raise Refusal(401, "who are you?")
        return ServerSpeaker(stored, "server-1", "pod-1", "key")


class World:
    def __init__(self) -> None:
        self.api, self.store, self.reports, self.servers = FakeApi(), Store(), Reports(), Servers()
        self.woken: list[Key] = []
        self.leading, self.leader = True, ""
        for name in ("sample", "second"):
            job = smallest("FineTuneJob")
            job["metadata"]["name"] = name
            job["status"] = {"resolved": {"storageName": "store"}, "attempts": []}
            self.store.put(Stored.of(self.api.put(job)))
        rollout = smallest("ModelRollout")
        rollout["metadata"]["name"] = "tone"
        self.store.put(Stored.of(self.api.put(rollout)))
        forwarder = Forwarder(
            is_leading=lambda: self.leading, leader=lambda: self.leader, url="https://status.svc:8443", port=8443
        )
        versions = Versions(self.api, self.store)  # type: ignore[arg-type]
        self.endpoint = Endpoint(
            Doorkeeper(self.store), self.reports, self.servers, versions, wake=self.woken.append, forwarder=forwarder
        )  # type: ignore[arg-type]

    @property
    def uid(self) -> str:
        stored = self.store.get("FineTuneJob", "demo", "sample")
        assert stored is not None
        return stored.uid


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def client(world: World) -> AsyncIterator[TestClient[Any, Any]]:
    async with TestClient(TestServer(world.endpoint.application())) as client:
        yield client


async def post(
    client: TestClient[Any, Any], route: str, body: Any, token: str = "good", name: str = "sample"
) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    url = BASE.replace("sample", name)
    async with client.post(f"{url}/{route}", data=data, headers={"Authorization": f"Bearer {token}"}) as response:
        return response.status, await response.json()


async def test_the_kubeflow_callbacks_message(world: World, client: TestClient[Any, Any]) -> None:
    body = {
        "trainerStatus": {
            "lastUpdatedTime": "2026-11-21T12:00:00+00:00",
            "progressPercentage": 42,
            "estimatedRemainingSeconds": 77,
            "metrics": [{"name": "loss", "value": "0.5"}],
            "aFieldOfLater": 1,
        },
        "kind": "TrainJob",
    }

    code, answer = await post(client, "status", body)

    assert code == 200
    assert answer["trainerStatus"]["progressPercentage"] == 42
    report = world.reports.of(world.uid, 2)
    assert report is not None
    assert report.kubeflow is not None
    assert report.kubeflow.estimated_remaining_seconds == 77
    assert world.woken == [Key("FineTuneJob", "demo", "sample")]


async def test_a_trainers_report(world: World, client: TestClient[Any, Any]) -> None:
    code, _ = await post(client, "report", make_report(attempt=2).to_json())

    assert code == 200
    report = world.reports.of(world.uid, 2)
    assert report is not None
    assert report.trainer == make_report(attempt=2)


async def test_a_report_of_a_later_release_is_taken(world: World, client: TestClient[Any, Any]) -> None:
    """Pods keep their image when an operator goes back to an older release."""
    body = make_report(attempt=2, storeProbe=PROBE).to_json()

    code, _ = await post(client, "report", body | {"later": 1, "storeProbe": body["storeProbe"] | {"later": 1}})

    assert code == 200
    report = world.reports.of(world.uid, 2)
    assert report is not None
    assert report.trainer == make_report(attempt=2, storeProbe=PROBE)


async def test_the_largest_report_is_taken(world: World, client: TestClient[Any, Any]) -> None:
    metrics = {f"eval_accuracy_of_task_{number}": 0.123456789012345 for number in range(60)}
    checkpoints = [checkpoint(step, attempt=2).model_copy(update={"metrics": metrics}) for step in range(20)]
    datasets = [
        ResolvedDataset(uri=f"s3://lake/{200 * 'x'}/{number}", digest=f"sha256:{64 * '0'}") for number in range(128)
    ]
    report = make_report(attempt=2).model_copy(update={"checkpoints": checkpoints, "datasets": datasets})

    assert await post(client, "report", report.to_json()) == (200, {})
    assert world.reports.of(world.uid, 2) is not None


async def test_a_store_probe_reaches_the_storage_profile(world: World, client: TestClient[Any, Any]) -> None:
    report = make_report(attempt=2, storeProbe=PROBE)

    await post(client, "report", report.to_json())

    assert world.reports.probe("store") == report
    assert Key("StorageProfile", "", "store") in world.woken


@pytest.mark.parametrize(
    ("route", "body", "code", "says"),
    [
        pytest.param("report", b"{", 422, "must be JSON", id="no JSON"),
        pytest.param("report", [], 422, "JSON object", id="no object"),
        pytest.param("report", {"attempt": 2}, 422, "phase: Field required", id="a field is missing"),
        pytest.param("report", {"attempt": 1, "phase": "Training"}, 409, "attempt 1", id="of another attempt"),
        pytest.param("status", {}, 422, "trainerStatus", id="not KEP-2779"),
        pytest.param(
            "status", {"trainerStatus": {"progressPercentage": 300}}, 422, "progressPercentage", id="300 percent"
        ),
        pytest.param("version", {"attempt": 1}, 409, "attempt 1", id="a version for another attempt"),
        pytest.param("report", b" " * 300_000, 413, "at most 262144", id="too large"),
    ],
)
async def test_what_is_refused(client: TestClient[Any, Any], route: str, body: Any, code: int, says: str) -> None:
    status, answer = await post(client, route, body)

    assert status == code
    assert says in answer["message"]


async def test_nobody_gets_in_without_a_token(world: World, client: TestClient[Any, Any]) -> None:
    assert (await post(client, "report", make_report(attempt=2).to_json(), token="bad"))[0] == 401
    assert world.woken == []


@pytest.mark.parametrize("leader", ["", "other_127.0.0.1"])
async def test_a_standby_without_a_leader_to_reach_asks_for_patience(
    world: World, client: TestClient[Any, Any], leader: str
) -> None:
    world.leading, world.leader = False, leader

    async with client.post(f"{BASE}/report", data=b"{}") as response:
        assert response.status == 503
        assert response.headers["Retry-After"]
    assert world.woken == []


async def test_what_was_passed_on_is_not_passed_on_again(world: World, client: TestClient[Any, Any]) -> None:
    world.leading, world.leader = False, "other_127.0.0.1"

    async with client.post(f"{BASE}/report", data=b"{}", headers={"X-Trimtab-Forwarded": "1"}) as response:
        assert "no replica" in (await response.json())["message"]


async def test_a_version_is_reserved_once(world: World, client: TestClient[Any, Any]) -> None:
    first = await post(client, "version", {"attempt": 2, "later": 1})
    again = await post(client, "version", {"attempt": 2})

    assert first == again == (200, {"name": "support-tone-v1", "version": 1})
    job = world.api.find("FineTuneJob", "demo", "sample")
    assert job is not None
    assert job["status"]["modelVersion"] == "support-tone-v1"


async def test_a_taken_version_is_replaced(client: TestClient[Any, Any]) -> None:
    await post(client, "version", {"attempt": 2})

    assert await post(client, "version", {"attempt": 2, "taken": [1, 2]}) == (
        200,
        {"name": "support-tone-v3", "version": 3},
    )


async def test_two_jobs_never_share_a_version(client: TestClient[Any, Any]) -> None:
    answers = await asyncio.gather(
        *(post(client, "version", {"attempt": 2}, name=name) for name in ("sample", "second", "sample"))
    )

    assert answers[0] == answers[2]
    assert {answer["version"] for _, answer in answers} == {1, 2}


async def test_a_reservation_survives_a_status_that_changes_under_it(
    world: World, client: TestClient[Any, Any]
) -> None:
    changed = False

    def somebody_writes(verb: str, kind: str, _name: str) -> None:
        nonlocal changed
        if verb == "patch" and kind == "FineTuneJob" and not changed:
            changed = True
            job = world.api.find("FineTuneJob", "demo", "sample")
            assert job is not None
            job["status"]["state"] = "Publishing"
            world.api.put(job)

    world.api.before = somebody_writes

    code, answer = await post(client, "version", {"attempt": 2})

    assert (code, answer["version"]) == (200, 1)
    job = world.api.find("FineTuneJob", "demo", "sample")
    assert job is not None
    assert (job["status"]["state"], job["status"]["modelVersion"]) == ("Publishing", "support-tone-v1")


def test_references_carry_what_the_client_needs() -> None:
    assert ObjectRef("v1", "Pod", "n", "p", "u").resource_version == ""


SERVER = "/v1alpha1/namespaces/demo/modelrollouts/tone/server"


async def say(client: TestClient[Any, Any], token: str = "good", **fields: Any) -> tuple[int, Any]:
    body = ServerReport(instance="a", **fields).to_json()
    async with client.post(SERVER, json=body, headers={"Authorization": f"Bearer {token}"}) as response:
        return response.status, await response.json()


async def test_a_server_hears_of_new_weights_as_soon_as_there_are_any(
    world: World, client: TestClient[Any, Any]
) -> None:
    stored = world.store.get("ModelRollout", "demo", "tone")
    assert stored is not None
    waiting = asyncio.create_task(say(client, wait_seconds=9))
    while not world.servers.reports(stored.uid):  # noqa: ASYNC110 - the endpoint has no event for a test
        await asyncio.sleep(0)
    assert world.woken == [Key("ModelRollout", "demo", "tone")]
    (config,) = plan_for(observed()).configs.values()
    world.servers.tell(stored.uid, {"key": config}, report_seconds=2)
    code, reply = await asyncio.wait_for(waiting, 5)
    assert (code, reply["digest"], reply["reportSeconds"]) == (200, config_digest(config), 2)
    assert ServerConfig.model_validate(reply["config"]) == config
    assert "config" not in (await say(client, heard=reply["digest"]))[1], "it has it already"


async def test_a_report_of_a_server_of_a_later_release_is_taken(world: World, client: TestClient[Any, Any]) -> None:
    body = ServerReport(instance="a").to_json() | {"later": 1}
    async with client.post(SERVER, json=body, headers={"Authorization": "Bearer good"}) as response:
        assert response.status == 200
    stored = world.store.get("ModelRollout", "demo", "tone")
    assert stored is not None
    assert len(world.servers.reports(stored.uid)) == 1


async def test_a_server_of_another_make_is_told_nothing(world: World, client: TestClient[Any, Any]) -> None:
    stored = world.store.get("ModelRollout", "demo", "tone")
    assert stored is not None
    (config,) = plan_for(observed()).configs.values()
    world.servers.tell(stored.uid, {"other key": config}, report_seconds=2)
    assert "config" not in (await say(client))[1]


@pytest.mark.parametrize(
    ("token", "body", "code"),
    [
        pytest.param("bad", {"instance": "a"}, 401, id="no token of ours"),
        pytest.param("good", {"instance": ["a"]}, 422, id="wrong type"),
        pytest.param("good", [], 422, id="no object"),
    ],
)
async def test_what_a_server_may_not_say(token: str, body: Any, code: int, client: TestClient[Any, Any]) -> None:
    async with client.post(SERVER, json=body, headers={"Authorization": f"Bearer {token}"}) as response:
        assert response.status == code
