"""The router before vLLM: adapters come and go, requests follow the weights, and nothing is dropped."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.serving import FolderSource, events, eventually, make_config, served
from tests.support.vllm import Routed, routed
from tests.support.vllm_stand_in import WORDS, StandIn

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.run_config import ServerConfig
from trimtab_trainer.contract.serving import VersionCounters
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.server import news

ONE = make_config(served("tone-v1"))
HALVES = make_config(served("tone-v1", weight=50), served("tone-v2", weight=50), revision=2)
TWO = make_config(served("tone-v2"), revision=3)

WHOLE = make_config(served("tone-v2", form="safetensors"), offerBaseModel=False)


@pytest.fixture
def adapters(tmp_path: Path) -> FolderSource:
    folders = {f"tone-v{number}": adapter(tmp_path / f"v{number}") for number in (1, 2, 3)}
    return FolderSource(tmp_path / "base", folders)


@pytest.fixture
async def vllm() -> StandIn:
    return StandIn()


def adapter(folder: Path, *, rank: int = 8, kind: str = "LORA") -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": kind, "r": rank}))
    return folder


def states(server: Routed) -> dict[str, str]:
    return {version.served.name: version.state.value for version in server.versions.report()}


def refusal(server: Routed, name: str) -> TrainerError:
    (found,) = [version.error for version in server.versions.report() if version.served.name == name]
    assert found is not None
    return found


def counted(server: Routed, name: str) -> VersionCounters:
    return news.counters(server.metrics, [name])[0]


async def until_loaded(server: Routed, config: ServerConfig) -> None:
    server.versions.configure(config)
    wanted = {served.name: "Ready" for served in config.versions}
    await eventually(lambda: states(server) == wanted)


async def test_answers_carry_the_versions_name(adapters: FolderSource, vllm: StandIn) -> None:
    async with routed(ONE, adapters, vllm) as server:
        answer = await server.chat(user="anna", temperature=0.5)
        assert answer.json()["choices"][0]["message"]["content"] == "".join(WORDS)
        assert (answer.json()["model"], answer.headers["x-trimtab-version"]) == ("tone-v1", "tone-v1")
        asked = vllm.asked[-1]
        assert (asked["temperature"], asked["user"]) == (0.5, "anna")
        assert asked["model"] in vllm.adapters
        assert (await server.chat(model="base")).json()["model"] == "base"
        assert (await server.chat(model="other")).status_code == 404
        names = [model["id"] for model in (await server.client.get("/v1/models")).json()["data"]]
        assert names == ["tone", "tone-v1", "base"]


async def test_vllms_adapter_api_stays_inside_the_pod(adapters: FolderSource, vllm: StandIn) -> None:
    async with routed(ONE, adapters, vllm) as server:
        body = {"lora_name": "evil", "lora_path": "/etc"}
        assert (await server.client.post("/v1/load_lora_adapter", json=body)).status_code == 404


@pytest.mark.parametrize("wants_usage", [True, False])
async def test_streams_are_passed_on_and_counted(adapters: FolderSource, vllm: StandIn, wants_usage: bool) -> None:  # noqa: FBT001 - a case
    async with routed(ONE, adapters, vllm) as server:
        answer = await server.chat(stream=True, **({"stream_options": {"include_usage": True}} if wants_usage else {}))
        *pieces, done = events(answer.text)
        assert done == "[DONE]"
        assert {piece["model"] for piece in pieces} == {"tone-v1"}
        texts = [choice["delta"].get("content", "") for piece in pieces for choice in piece["choices"]]
        assert "".join(texts) == "".join(WORDS)
        assert [bool(piece.get("usage")) for piece in pieces].count(True) == wants_usage
        counters = counted(server, "tone-v1")
        assert (counters.requests, counters.errors, counters.cut_answers) == (1, 0, 1)
        assert counters.answer_tokens.total == len(WORDS)
        assert sum(counters.first_text_seconds.counts) == 1


async def test_no_request_is_dropped_while_weights_move(adapters: FolderSource, vllm: StandIn) -> None:
    answers: list[tuple[int, str]] = []
    async with routed(ONE, adapters, vllm) as server:
        stop = asyncio.Event()

        async def ask(stream: bool) -> None:  # noqa: FBT001 - a kind of client
            while not stop.is_set():
                answer = await server.chat(stream=stream)
                whole = answer.text.endswith("data: [DONE]\n\n") or not stream
                answers.append((answer.status_code if whole else 0, answer.headers["x-trimtab-version"]))

        clients = [asyncio.create_task(ask(stream=index % 2 == 0)) for index in range(6)]
        for config in (
            HALVES,
            TWO,
            make_config(served("tone-v1", weight=10), served("tone-v2", weight=90), revision=4),
            ONE,
        ):
            await until_loaded(server, config)
            seen = len(answers)
            await eventually(lambda seen=seen: len(answers) > seen + 20)
        stop.set()
        await asyncio.gather(*clients)
        assert {status for status, _ in answers} == {200}
        assert {version for _, version in answers} == {"tone-v1", "tone-v2"}
        assert len(vllm.adapters) == 1, "the canary was unloaded"


async def test_unloading_drains(adapters: FolderSource, vllm: StandIn) -> None:
    async with routed(ONE, adapters, vllm) as server:
        vllm.gate.clear()
        open_requests = [asyncio.create_task(server.chat(stream=stream)) for stream in (False, True)]
        await eventually(lambda: len(vllm.open) == 2)
        server.versions.configure(TWO)
        await eventually(lambda: states(server) == {"tone-v1": "Draining", "tone-v2": "Ready"})
        assert len(vllm.adapters) == 2
        assert adapters.discarded == []
        vllm.gate.set()
        assert [(await each).status_code for each in open_requests] == [200, 200]
        await eventually(lambda: states(server) == {"tone-v2": "Ready"} and len(vllm.adapters) == 1)
        await eventually(lambda: adapters.discarded == ["tone-v1"])


async def test_vllm_stops_working_for_a_client_that_left(adapters: FolderSource, vllm: StandIn) -> None:
    async with routed(ONE, adapters, vllm) as server:
        vllm.gate.clear()
        request = asyncio.create_task(server.chat(stream=True))
        await eventually(lambda: len(vllm.open) == 1)
        request.cancel()
        await eventually(lambda: not vllm.open)
        await eventually(lambda: all(version.in_flight == 0 for version in server.versions.report()))
        assert counted(server, "tone-v1").errors == 0


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        pytest.param({"rank": 64}, "LoRA rank 64 is greater than max_lora_rank 16", id="rank"),
        pytest.param({"kind": "PREFIX_TUNING"}, "serves LORA only", id="another adapter"),
    ],
)
async def test_a_refused_adapter_says_why_and_the_fix_comes_through(
    adapters: FolderSource, vllm: StandIn, tmp_path: Path, shape: dict[str, Any], said: str
) -> None:
    adapters.folders = {**adapters.folders, "tone-v2": adapter(tmp_path / "bad", **shape)}
    async with routed(ONE, adapters, vllm) as server:
        server.versions.configure(HALVES)
        await eventually(lambda: states(server) == {"tone-v1": "Ready", "tone-v2": "Refused"})
        error = refusal(server, "tone-v2")
        assert error.reason is TrainerReason.MODEL_INVALID
        assert said in str(error)
        assert (await server.chat()).json()["model"] == "tone-v1"
        await until_loaded(server, make_config(served("tone-v1", weight=0), served("tone-v3"), revision=4))
        assert (await server.chat()).json()["model"] == "tone-v3"


async def test_bytes_that_do_not_match_never_reach_vllm(adapters: FolderSource, vllm: StandIn) -> None:
    adapters.problems["tone-v2"] = TrainerError(
        TrainerReason.DIGEST_MISMATCH, "adapter_model.safetensors has sha256 f00."
    )
    async with routed(ONE, adapters, vllm) as server:
        server.versions.configure(HALVES)
        await eventually(lambda: states(server).get("tone-v2") == "Refused")
        assert refusal(server, "tone-v2").reason is TrainerReason.DIGEST_MISMATCH
        assert list(vllm.adapters.values()) == [str(adapters.folders["tone-v1"])]


async def test_adapters_come_back_after_vllm_started_anew(adapters: FolderSource, vllm: StandIn) -> None:
    async with routed(ONE, adapters, vllm) as server:
        vllm.down = True
        vllm.adapters.clear()
        async with asyncio.timeout(10):
            while (await server.client.get("/readyz")).status_code == 200:
                pass
        answer = await server.chat()
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_not_ready")
        vllm.down = False
        await eventually(lambda: len(vllm.adapters) == 1)
        await eventually(lambda: states(server) == {"tone-v1": "Ready"})
        assert (await server.chat()).status_code == 200
        assert counted(server, "tone-v1").errors == 0


async def test_a_new_router_begins_with_an_empty_table(adapters: FolderSource, vllm: StandIn) -> None:
    vllm.adapters["tone-v7-0123"] = "/models/gone"
    async with routed(ONE, adapters, vllm):
        assert list(vllm.adapters.values()) == [str(adapters.folders["tone-v1"])]


async def test_faults_of_vllm_are_counted_and_the_clients_are_not(adapters: FolderSource, vllm: StandIn) -> None:
    async with routed(ONE, adapters, vllm) as server:
        refused = await server.chat(temperature=-1)
        assert (refused.status_code, counted(server, "tone-v1").errors) == (400, 0)
        assert "temperature must be non-negative" in refused.json()["error"]["message"]
        vllm.fault = "CUDA error: an illegal memory access was encountered"
        failed = await server.chat()
        assert (failed.status_code, failed.json()["error"]["message"]) == (500, vllm.fault)
        vllm.fault, vllm.breaks_streams = "", True
        assert "broke the answer off" in (await server.chat(stream=True)).text
        counters = counted(server, "tone-v1")
        assert (counters.requests, counters.errors) == (3, 2)


async def test_a_whole_model_takes_the_base_models_place(adapters: FolderSource, vllm: StandIn) -> None:
    async with routed(WHOLE, adapters, vllm) as server:
        for name in ("tone", "tone-v2"):
            answer = await server.chat(model=name)
            assert (answer.json()["model"], answer.headers["x-trimtab-version"]) == ("tone-v2", "tone-v2")
        assert vllm.asked[-1]["model"] == "base", "vLLM's name of what it was started with"
        assert (await server.chat(model="base")).status_code == 404, "no base model is there"
        assert (vllm.adapters, counted(server, "tone-v2").requests) == ({}, 2)


async def test_a_whole_model_whose_bytes_do_not_match_is_refused(adapters: FolderSource, vllm: StandIn) -> None:
    adapters.problems["tone-v2"] = TrainerError(TrainerReason.DIGEST_MISMATCH, "model.safetensors has another sha256")
    async with routed(WHOLE, adapters, vllm, wait=False) as server:
        with pytest.raises(TrainerError, match="another sha256"):
            await server.versions.load_base()
        assert not server.versions.ready


async def test_users_stay_with_their_version(adapters: FolderSource, vllm: StandIn) -> None:
    async with routed(HALVES, adapters, vllm) as server:
        seen = {user: {(await server.chat(user=user)).json()["model"] for _ in range(3)} for user in "abcdefghijkl"}
        assert all(len(versions) == 1 for versions in seen.values())
        assert set().union(*seen.values()) == {"tone-v1", "tone-v2"}


def test_the_router_starts_without_torch() -> None:
    """It would cost ten seconds and half a gigabyte beside every vLLM."""
    program = "import sys, trimtab_trainer.server.vllm.assembly; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
