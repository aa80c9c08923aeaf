"""A stand-in for the Hugging Face hub: the part of its protocol that `huggingface_hub` uses to list and download."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from tests.support.http_server import answering

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Repository:
    """One model or data set."""

    files: dict[str, bytes]
    token: str = ""
    """If set, only requests with it are answered."""
    gated: bool = False
    revisions: tuple[str, ...] = ("main", "v1")


@dataclass
class Hub:
    """Repositories by path: `org/name` for models, `datasets/org/name` for data sets."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    requested: list[str] = field(default_factory=list)
    failures: int = 0
    """How many requests are still to be answered with 503."""
    corrupt: bool = False
    """Downloads have a flipped bit."""


@contextmanager
def running_hub(hub: Hub) -> Iterator[str]:
    """Serve a hub on a free port; its URL, for HF_ENDPOINT."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            answer(self, hub)

        do_HEAD = do_GET  # noqa: N815 - a name of the base class

    with answering(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        yield url


def answer(handler: BaseHTTPRequestHandler, hub: Hub) -> None:
    """Answer one request."""
    path = unquote(urlsplit(handler.path).path).strip("/")
    hub.requested.append(path)
    if hub.failures > 0:
        hub.failures -= 1
        send(handler, 503, b"busy")
        return
    kind, _, rest = path.removeprefix("api/").partition("/") if path.startswith("api/") else ("", "", path)
    name = rest if kind != "datasets" else f"datasets/{rest}"
    repository, tail = find(hub, name)
    if repository is None:
        send(handler, 404, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        return
    if repository.token and handler.headers.get("Authorization") != f"Bearer {repository.token}":
        code = "GatedRepo" if repository.gated else "RepoNotFound"
        send(handler, 403 if repository.gated else 401, b"{}", {"X-Error-Code": code, "X-Error-Message": "no access"})
        return
    if kind:
        send_listing(handler, repository, tail)
    else:
        send_file(handler, hub, repository, tail)


def find(hub: Hub, path: str) -> tuple[Repository | None, str]:
    """The repository at the head of a path, and the rest of the path."""
    for name, repository in hub.repositories.items():
        if path == name or path.startswith(name + "/"):
            return repository, path[len(name) :].strip("/")
    return None, ""


def send_listing(handler: BaseHTTPRequestHandler, repository: Repository, tail: str) -> None:
    """`/api/models/<repository>[/revision/<revision>]`."""
    revision = tail.removeprefix("revision/") if tail else "main"
    if revision not in {*repository.revisions, COMMIT}:
        send(handler, 404, b"{}", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"})
        return
    siblings = []
    for name, data in repository.files.items():
        entry: dict[str, object] = {"rfilename": name, "size": len(data), "blobId": hashlib.sha1(data).hexdigest()}
        if name.endswith((".safetensors", ".bin", ".parquet")):
            entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        siblings.append(entry)
    body = json.dumps({"id": "stand-in/repository", "sha": COMMIT, "siblings": siblings, "private": False}).encode()
    send(handler, 200, body, {"Content-Type": "application/json"})


def send_file(handler: BaseHTTPRequestHandler, hub: Hub, repository: Repository, tail: str) -> None:
    """`/<repository>/resolve/<revision>/<file>`."""
    name = tail.split("/", 2)[-1]
    data = repository.files.get(name)
    if data is None:
        send(handler, 404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        return
    headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
    if hub.corrupt:
        data = bytes([data[0] ^ 1]) + data[1:]
    send(handler, 200, data, headers)


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
    """Send a reply."""
    handler.send_response_only(status)
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)
