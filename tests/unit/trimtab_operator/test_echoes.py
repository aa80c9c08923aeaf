"""What Kopf reads of a watch: all that the Store does not know, unchanged."""

import orjson
import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from trimtab_operator import echoes
from trimtab_operator.echoes import is_echo, is_urgent, without_echoes

VERSION = 7
"""At which the Store knows the object."""


def is_known(kind: str, uid: str, version: int) -> bool:
    return (kind, uid) == ("Job", "known") and version <= VERSION


def event(change: str, uid: str = "known", version: int = VERSION, kind: str = "Job") -> bytes:
    metadata = {"name": "a", "uid": uid, "resourceVersion": str(version), "annotations": {"said": 'a\n"quote"'}}
    return orjson.dumps({"type": change, "object": {"kind": kind, "metadata": metadata}})


BOOKMARK = orjson.dumps({"type": "BOOKMARK", "object": {"kind": "Job", "metadata": {"resourceVersion": "9"}}})
ERROR = orjson.dumps({"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}})


@pytest.mark.parametrize(
    ("line", "echo"),
    [
        pytest.param(event("MODIFIED"), True, id="as it is known"),
        pytest.param(event("ADDED"), True, id="the creation of what is known"),
        pytest.param(event("MODIFIED", version=6), True, id="as it was before"),
        pytest.param(event("MODIFIED", version=8), False, id="news"),
        pytest.param(event("MODIFIED", uid="other"), False, id="an object of the same name"),
        pytest.param(event("DELETED"), False, id="a deletion"),
        pytest.param(BOOKMARK, False, id="a bookmark"),
        pytest.param(ERROR, False, id="an error"),
    ],
)
def test_echo(line: bytes, *, echo: bool) -> None:
    assert is_echo(orjson.loads(line), is_known) == echo


@pytest.mark.parametrize(
    ("line", "urgent"),
    [
        pytest.param(event("ADDED", kind="FineTuneJob"), True, id="a new job"),
        pytest.param(event("MODIFIED", kind="FineTuneJob"), False, id="a job goes on"),
        pytest.param(event("ADDED"), False, id="an attempt's Job, which we have made"),
        pytest.param(BOOKMARK, False, id="a bookmark"),
        pytest.param(ERROR, False, id="an error"),
    ],
)
def test_urgent(line: bytes, *, urgent: bool) -> None:
    assert is_urgent(orjson.loads(line)) == urgent


LINES = [
    event("ADDED"),
    event("MODIFIED", version=8),
    BOOKMARK,
    event("MODIFIED", version=6),
    event("DELETED"),
    ERROR,
    b"no event at all",
]
NEWS = [LINES[1], BOOKMARK, LINES[4], ERROR, LINES[6]]


STREAM = b"".join(line + b"\n" for line in LINES)


@pytest.mark.parametrize(
    ("query", "size", "lines"),
    [
        pytest.param({"watch": "true"}, 10_000, NEWS, id="all at once"),
        pytest.param({"watch": "true"}, 61, NEWS, id="in pieces"),
        pytest.param({"watch": "true"}, 1, NEWS, id="byte by byte"),
        pytest.param({}, 10_000, LINES, id="a list is no watch"),
    ],
)
async def test_stream(monkeypatch: pytest.MonkeyPatch, query: dict[str, str], size: int, lines: list[bytes]) -> None:
    monkeypatch.setattr(echoes, "_ANSWER_SECONDS", 0)
    assert await read(query, size, is_known) == lines


async def test_an_answer_that_comes_with_its_event_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answered: set[str] = set()

    async def answer() -> None:
        answered.add("known")

    def is_answered(_kind: str, uid: str, _version: int) -> bool:
        return uid in answered

    monkeypatch.setattr(echoes, "until_answered", answer)
    assert await read({"watch": "true"}, 10_000, is_answered) == [BOOKMARK, LINES[4], ERROR, LINES[6]]


async def read(query: dict[str, str], size: int, known: echoes.Known) -> list[bytes]:
    """What Kopf reads of the stream, when it comes in pieces of this size."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for begin in range(0, len(STREAM), size):
            await response.write(STREAM[begin : begin + size])
        return response

    application = web.Application()
    application.router.add_get("/jobs", answer)
    async with (
        TestServer(application) as server,
        ClientSession(response_class=without_echoes(known)) as session,
        session.get(server.make_url("/") / "jobs", params=query) as response,
    ):
        return b"".join([chunk async for chunk in response.content.iter_chunked(2**20)]).splitlines()
