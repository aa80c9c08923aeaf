"""What requests for the other tasks must look like, and what they are told when they do not."""

import asyncio
import base64
import io
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.support.media_models import RATE, write_wav
from tests.support.published_tasks import CASES, MAX_LENGTH, Version, publish
from tests.support.serving import FolderSource, Running, make_config, running, served

from trimtab_trainer.server import task_endpoint
from trimtab_trainer.server.rooms import MEDIA_AT_ONCE


def png(width: int, height: int, kind: str = "PNG") -> str:
    buffer = io.BytesIO()
    Image.effect_noise((width, height), 50).save(buffer, kind)
    return base64.b64encode(buffer.getvalue()).decode()


def half(image: str) -> str:
    data = base64.b64decode(image)
    return base64.b64encode(data[: 2 * len(data) // 3]).decode()


def wav(seconds: float, directory: Path, rate: int = RATE) -> bytes:
    return write_wav(directory / "a.wav", [0.0] * round(seconds * RATE), rate=rate).read_bytes()


@asynccontextmanager
async def serving(kind: str, bases: dict[str, Path], tmp_path_factory: Any) -> AsyncIterator[tuple[Running, Version]]:
    """A version that has learned nothing."""
    case = CASES[kind]
    version = publish(case, bases[case.model], tmp_path_factory.mktemp(kind.partition(" ")[0]), steps=0)
    config = make_config(
        served("tone-v1", form="safetensors"), task=case.task, maxSequenceLength=MAX_LENGTH, offerBaseModel=False
    )
    async with running(config, FolderSource(version.base, {"tone-v1": version.path})) as server:
        yield server, version


Refusal = tuple[dict[str, Any], int, str | None, str]
IMAGE = png(8, 8)
REFUSALS: dict[str, list[Refusal]] = {
    "texts": [
        ({}, 400, "input", "`input` is required"),
        ({"input": "a", "task": "tone"}, 400, "task", "has only one task"),
        ({"messages": [{"role": "user", "content": "a"}]}, 400, "messages", "are for reward models"),
    ],
    "rewards": [
        ({"messages": [{"role": "user", "content": "a"}]}, 400, "messages", "the last role is user"),
        ({"messages": [{"role": "assistant", "content": "a" * 99}]}, 400, "messages", "takes 64 tokens"),
        ({"messages": [{"role": "assistant", "content": "a"}], "input": "a"}, 400, "input", "exclude each other"),
    ],
    "words": [
        ({"inputs": " "}, 400, "inputs", "must not be empty"),
        ({"inputs": ["a", "b" * 99]}, 400, "inputs.1", "takes 64 tokens; `inputs.1` has 99"),
        ({"inputs": "a", "parameters": {"is_split_into_words": True}}, 400, "inputs", "must be a list of words"),
        ({"inputs": [["a"]]}, 400, "inputs", "set `parameters.is_split_into_words`"),
        ({"inputs": []}, 400, "inputs", "at least 1 item"),
        ({"inputs": "a", "parameters": {"stride": 1}}, 400, "parameters.stride", "is not a field"),
    ],
    "questions": [
        ({"inputs": {"question": "q" * 60, "context": "c"}}, 400, "inputs", "leaves 4 of `maxSequenceLength` (64)"),
        ({"inputs": {"question": "", "context": "c"}}, 400, "inputs.question", "at least 1 character"),
        ({"inputs": {"question": "q", "context": "c" * 9000}}, 400, "inputs.context", "send at most 64"),
        ({"inputs": {"question": "q"}}, 400, "inputs.context", "required"),
    ],
    "pictures": [
        ({"inputs": "https://a/b.png"}, 400, "inputs", "addresses are not fetched"),
        ({"inputs": "%%%"}, 400, "inputs", "base64"),
        ({"inputs": base64.b64encode(b"no image").decode()}, 400, "inputs", "one of the formats PNG, JPEG"),
        ({"inputs": [IMAGE, png(5000, 5000)]}, 400, "inputs.1", "5000 x 5000 pixels; send at most 16000000"),
        ({"inputs": png(1, 40)}, 400, "inputs", "not be more than 16 times"),
        ({"inputs": [IMAGE] * 17}, 400, "inputs", "at most 16 items"),
        ({"inputs": half(IMAGE)}, 400, "inputs", "cannot be read"),
        ({"inputs": half(png(64, 64, "JPEG"))}, 400, "inputs", "cannot be read"),
        ({"inputs": IMAGE, "parameters": {"top_k": 0}}, 400, "parameters.top_k", "greater than or equal to 1"),
        ({"inputs": "a" * (33 << 20)}, 413, None, "must not be larger than"),
    ],
    "scenes": [
        ({"inputs": IMAGE, "parameters": {"threshold": 2}}, 400, "parameters.threshold", "less than or equal to 1"),
    ],
    "choices": [
        ({"inputs": IMAGE}, 400, "parameters", "required"),
        ({"inputs": IMAGE, "parameters": {"candidate_labels": []}}, 400, "parameters.candidate_labels", "at least 1"),
        (
            {"inputs": IMAGE, "parameters": {"candidate_labels": ["red", "x" * 99]}},
            400,
            "parameters.candidate_labels.1",
            "takes 64 tokens of text",
        ),
        (
            {"inputs": IMAGE, "parameters": {"candidate_labels": ["red"], "hypothesis_template": "no place"}},
            400,
            "parameters.hypothesis_template",
            "pattern",
        ),
    ],
}


@pytest.mark.parametrize("kind", REFUSALS)
async def test_bad_requests_are_told_what_to_change(
    kind: str, bases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with serving(kind, bases, tmp_path_factory) as (server, version):
        for body, status, param, words in REFUSALS[kind]:
            answer = await server.client.post(version.case.url, json={"model": "tone", **body})
            error = answer.json()["error"]
            assert (answer.status_code, error["param"]) == (status, param), error
            assert words in error["message"], error
        other = "/v1/classify" if kind not in {"texts", "rewards"} else "/v1/token-classification"
        asked = {"model": "tone", "input" if other == "/v1/classify" else "inputs": "a"}
        wrong = (await server.client.post(other, json=asked)).json()["error"]
        assert f"use {version.case.url}" in wrong["message"]
        row = version.case.request(version.rows[0], version.folder)
        assert (await server.client.post(version.case.url, json={"model": "tone", **row})).status_code == 200


@pytest.mark.parametrize(
    ("fields", "file", "param", "words"),
    [
        pytest.param({}, b"x", "model", "`model` is required", id="no model"),
        pytest.param({"model": "tone"}, b"", "file", "`file` is required", id="no recording"),
        pytest.param({"model": "tone", "language": "en"}, b"x", "language", "leave it out", id="a language"),
        pytest.param({"model": "tone", "temperature": "1"}, b"x", "temperature", "must be 0", id="temperature"),
        pytest.param({"model": "tone", "response_format": "srt"}, b"x", "response_format", "json or text", id="format"),
        pytest.param({"model": "tone"}, b"ID3 mp3", "file", "It must be a WAV file", id="no WAV"),
        pytest.param({"model": "tone"}, 0.001, "file", "0.001 seconds; this model takes 0.010 to 0.6", id="too short"),
        pytest.param({"model": "tone"}, 2.0, "file", "2.0 seconds; this model takes at most 0.6", id="too long"),
        pytest.param({"model": "tone"}, 0, "file", "says 1 samples a second", id="a rate that nobody records at"),
    ],
)
async def test_recordings_are_bounded(  # noqa: PLR0917 - a table's columns and fixtures
    fields: dict[str, str],
    file: Any,
    param: str,
    words: str,
    bases: dict[str, Path],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    content = file if isinstance(file, bytes) else wav(file or 0.1, tmp_path, rate=RATE if file else 1)
    async with serving("recordings", bases, tmp_path_factory) as (server, version):
        answer = await server.client.post(version.case.url, data=fields, files={"file": content})
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (400, param), error
        assert words in error["message"], error


async def test_transcripts_as_text_and_broken_forms(
    bases: dict[str, Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with serving("recordings", bases, tmp_path_factory) as (server, version):
        form = {"model": "tone", "response_format": "text", "temperature": "0", "user": "anna"}
        answer = await server.client.post(version.case.url, data=form, files={"file": wav(0.1, tmp_path)})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        for headers, body in (
            ({"content-type": "application/json"}, b"{}"),
            ({"content-type": "multipart/form-data; boundary=x"}, b"--x\r\nno end"),
            ({"content-type": "multipart/form-data; boundary=x"}, b"--x\r\n\r\nno name\r\n--x--"),
        ):
            refused = await server.client.post(version.case.url, content=body, headers=headers)
            assert refused.status_code == 400, refused.text


def test_a_wav_file_that_promises_more_than_it_has(tmp_path: Path) -> None:
    """What a header says is not believed."""
    from trimtab_trainer.data.media import Media  # noqa: PLC0415
    from trimtab_trainer.tasks.recordings import read_recording  # noqa: PLC0415

    data = bytearray(wav(0.1, tmp_path))
    data[40:44] = struct.pack("<I", 1 << 30)
    found = read_recording(Media(content=bytes(data)), rate=RATE, place="row", max_seconds=1e9)
    assert len(found) <= round(0.1 * RATE)


async def test_who_sends_slowly_is_told_so_and_keeps_nobody_waiting(
    bases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_endpoint, "UPLOAD_SECONDS", 0.05)

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with serving("pictures", bases, tmp_path_factory) as (server, version):
        late = [server.client.post(version.case.url, content=slow()) for _ in range(MEDIA_AT_ONCE + 1)]
        assert {answer.status_code for answer in await asyncio.gather(*late)} == {408}
        body = {"model": "tone", "inputs": IMAGE}
        assert (await server.client.post(version.case.url, json=body)).status_code == 200
