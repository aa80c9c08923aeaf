"""Versions come, share traffic, go and are refused while requests are open."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from tests.support.serving import FolderSource, Running, eventually, make_config, running, served, text_of

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.errors import TrainerError

BAD_BYTES = TrainerError(TrainerReason.DIGEST_MISMATCH, "adapter_model.safetensors has sha256 f00.")
OFFLINE = TrainerError(TrainerReason.STORAGE_UNAVAILABLE, "The store does not answer.")


async def states(server: Running) -> dict[str, str]:
    body = (await server.client.get("/readyz")).json()
    return {version["name"]: version["state"] for version in body["versions"]}


async def test_models_are_listed(source: FolderSource) -> None:
    async with running(make_config(served("tone-v1"), served("tone-v2", weight=0)), source) as server:
        listed = (await server.client.get("/v1/models")).json()
        assert [model["id"] for model in listed["data"]] == ["tone", "tone-v1", "tone-v2", "base"]
        assert (await server.client.get("/v1/models/tone-v2")).json()["id"] == "tone-v2"
        assert (await server.client.get("/v1/models/none")).status_code == 404


async def test_traffic_follows_weights_and_users_stick(source: FolderSource) -> None:
    config = make_config(served("tone-v1", weight=50), served("tone-v2", weight=50))
    async with running(config, source) as server:
        answers = await asyncio.gather(
            *(server.chat("Hi", user=f"u{number % 12}", max_tokens=1) for number in range(36))
        )
        by_user: dict[int, set[str]] = {}
        for number, answer in enumerate(answers):
            by_user.setdefault(number % 12, set()).add(answer.headers["x-trimtab-version"])
        assert all(len(versions) == 1 for versions in by_user.values())
        assert set.union(*by_user.values()) == {"tone-v1", "tone-v2"}
        by_chance = await asyncio.gather(*(server.chat("Hi", max_tokens=1) for _ in range(40)))
        assert set(Counter(answer.json()["model"] for answer in by_chance)) == {"tone-v1", "tone-v2"}


async def test_a_canary_grows_and_replaces_without_one_failed_request(source: FolderSource) -> None:
    async with running(make_config(served("tone-v1")), source) as server:
        expected = {name: text_of(await server.chat("Hi", model=name)) for name in ("tone-v1", "base")}
        seen: list[tuple[str, str]] = []
        done = False

        async def load() -> None:
            while not done:
                answer = await server.chat("Hi")
                seen.append((answer.json()["model"], text_of(answer)))

        clients = [asyncio.create_task(load()) for _ in range(4)]
        for first, second in ((90, 10), (50, 50), (0, 100)):
            server.versions.configure(make_config(served("tone-v1", weight=first), served("tone-v2", weight=second)))
            await server.until_ready()
            so_far = len(seen)
            await eventually(lambda so_far=so_far: len(seen) > so_far + 12)
        server.versions.configure(make_config(served("tone-v2")))
        await eventually(lambda: len(server.versions.report()) == 1)
        done = True
        await asyncio.gather(*clients)
        expected["tone-v2"] = text_of(await server.chat("Hi", model="tone-v2"))
        assert {name for name, _ in seen} == {"tone-v1", "tone-v2"}
        assert all(text == expected[name] for name, text in seen)
        assert (await server.chat("Hi", model="tone-v1")).status_code == 404
        assert text_of(await server.chat("Hi", model="base")) == expected["base"]


async def test_a_removed_version_finishes_its_answers_first(source: FolderSource) -> None:
    async with running(make_config(served("tone-v1"), served("tone-v2")), source) as server:
        with server.versions.lease("tone-v2", None) as target:
            server.versions.configure(make_config(served("tone-v1")))
            assert await states(server) == {"tone-v1": "Ready", "tone-v2": "Draining"}
            assert (await server.chat("Hi", model="tone-v2")).status_code == 404
            assert text_of(await server.chat("Hi", model="tone-v1"))
            assert target.adapter in target.lane.model.adapters.loaded
        await eventually(lambda: len(server.versions.report()) == 1)
        await eventually(lambda: target.adapter not in target.lane.model.adapters.loaded)
        await eventually(lambda: source.discarded == ["tone-v2"])


async def test_an_all_new_configuration_waits_for_its_version(source: FolderSource) -> None:
    async with running(make_config(served("tone-v1")), source) as server:
        source.problems["tone-v2"] = OFFLINE
        server.versions.configure(make_config(served("tone-v2")))
        await eventually(lambda: any(version.error for version in server.versions.report()))
        assert (await server.chat("Hi")).json()["model"] == "tone-v1"
        del source.problems["tone-v2"]
        server.versions.configure(make_config(served("tone-v2")))
        await eventually(lambda: [version.served.name for version in server.versions.report()] == ["tone-v2"])
        assert (await server.chat("Hi")).json()["model"] == "tone-v2"


@pytest.mark.parametrize("error", [BAD_BYTES, OFFLINE])
async def test_a_refused_version_leaves_its_traffic_to_the_others(error: TrainerError, source: FolderSource) -> None:
    source.problems["tone-v2"] = error
    async with running(make_config(served("tone-v1", weight=10), served("tone-v2", weight=90)), source) as server:
        answers = await asyncio.gather(*(server.chat("Hi", max_tokens=1) for _ in range(8)))
        assert {answer.json()["model"] for answer in answers} == {"tone-v1"}
        ready = await server.client.get("/readyz")
        assert ready.status_code == 200
        refused = next(version for version in ready.json()["versions"] if version["name"] == "tone-v2")
        assert (refused["state"], refused["reason"], refused["message"]) == ("Refused", error.reason, str(error))
        named = await server.chat("Hi", model="tone-v2")
        assert (named.status_code, named.json()["error"]["code"]) == (503, "model_not_ready")
        metrics = (await server.client.get("/metrics")).text
        assert 'trimtab_server_version_ready{version="tone-v2"} 0.0' in metrics


async def test_nothing_but_a_refused_version_is_the_end(source: FolderSource) -> None:
    source.problems["tone-v1"] = BAD_BYTES
    async with running(make_config(served("tone-v1")), source, wait=False) as server:
        await eventually(lambda: server.versions.fatal)
        assert server.versions.fatal is BAD_BYTES
        answer = await server.chat("Hi")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert (await server.client.get("/readyz")).status_code == 503
        assert (await server.client.get("/healthz")).status_code == 200


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"baseModel": {"uri": "s3://trimtab/other"}}, "base_model", id="another base model"),
        pytest.param({"task": {"sequenceClassification": {}}}, "task", id="another task"),
        pytest.param({"modelName": "mood"}, "model_name", id="another name"),
    ],
)
async def test_what_needs_a_new_pod_is_refused_and_said(
    change: dict[str, Any], words: str, source: FolderSource
) -> None:
    async with running(make_config(served("tone-v1")), source) as server:
        server.versions.configure(make_config(served("tone-v2"), **change))
        body = (await server.client.get("/readyz")).json()
        assert words in body["configProblem"]
        assert "trimtab_server_config_refused 1.0" in (await server.client.get("/metrics")).text
        assert (await server.chat("Hi")).json()["model"] == "tone-v1"
        server.versions.configure(make_config(served("tone-v2")))
        assert (await server.client.get("/readyz")).json()["configProblem"] == ""


async def test_metrics_tell_the_versions_apart(source: FolderSource) -> None:
    async with running(make_config(served("tone-v1"), served("tone-v2", weight=0)), source) as server:
        await asyncio.gather(server.chat("Hi", max_tokens=3), server.chat("Hi", model="tone-v2", max_tokens=5))
        await server.chat("Hi", model="other")
        await eventually(lambda: not any(lane.running for lane in server.engine.lanes))
        lines = (await server.client.get("/metrics")).text.splitlines()
        for line in (
            'trimtab_server_requests_total{code="200",endpoint="chat",version="tone-v1"} 1.0',
            'trimtab_server_requests_total{code="404",endpoint="chat",version=""} 1.0',
            'trimtab_server_errors_total{endpoint="chat",version="tone-v1"} 0.0',
            'trimtab_server_completion_tokens_total{version="tone-v1"} 3.0',
            'trimtab_server_completion_tokens_total{version="tone-v2"} 5.0',
            'trimtab_server_request_seconds_count{endpoint="chat",version="tone-v2"} 1.0',
            'trimtab_server_first_text_seconds_count{version="tone-v1"} 1.0',
            'trimtab_server_version_weight{version="tone-v1"} 100.0',
            "trimtab_server_running_requests 0.0",
        ):
            assert line in lines
