"""An HTTP proxy in front of an S3 server that breaks chosen requests in chosen ways."""

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.http_server import answering

Condition = Callable[["Request"], bool]


@dataclass(frozen=True)
class Request:
    """What a fault can be chosen by."""

    method: str
    key: str
    """Path without the bucket."""
    query: dict[str, list[str]]
    body: bytes
    headers: dict[str, str]


@dataclass
class Fault:
    """What happens to the requests that a condition picks, the first `times` of them.

    Kinds: `error` answers with `status` and `code` and does not forward; `loseReply` forwards and then closes the connection;
    `truncate` forwards and sends half of the reply's body; `flip` inverts a bit in the middle of the reply's body;
    `flipRequest` inverts one in the request's body before it is forwarded; `strip` forwards without `If-None-Match`;
    `hold` sets `arrived`, and forwards once `released` is set.
    """

    kind: str
    when: Condition = lambda _: True
    times: int = 1_000_000
    status: int = 500
    code: str = "InternalError"
    arrived: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    hits: int = 0


class FaultProxy:
    """Forward requests to an S3 server, but for the faults in `faults`."""

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target)
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> Fault:
        self.faults.append(fault)
        return fault

    def choose(self, request: Request) -> Fault | None:
        with self._lock:
            self.requests.append(request)
            for fault in self.faults:
                if fault.hits < fault.times and fault.when(request):
                    fault.hits += 1
                    return fault
        return None


def flip_bit(data: bytes) -> bytes:
    """The same bytes with one bit in the middle inverted."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :] if data else data


@contextmanager
def fault_proxy(target: str) -> Iterator[tuple[FaultProxy, str]]:
    """Run a proxy in front of `target`; the proxy and its URL."""
    proxy = FaultProxy(target)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

        def _handle(self) -> None:
            serve(self, proxy)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle  # noqa: N815 - names of the base class

    class Server(ThreadingHTTPServer):
        request_queue_size = 128

    with answering(Server(("127.0.0.1", 0), Handler)) as url:
        yield proxy, url


def serve(handler: BaseHTTPRequestHandler, proxy: FaultProxy) -> None:
    """Answer one request."""
    body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    parts = urlsplit(handler.path)
    request = Request(
        handler.command,
        parts.path.lstrip("/").partition("/")[2],
        parse_qs(parts.query, keep_blank_values=True),
        body,
        {name.lower(): value for name, value in handler.headers.items()},
    )
    fault = proxy.choose(request)
    kind = fault.kind if fault else ""
    if fault and kind == "error":
        text = f"<Error><Code>{fault.code}</Code><Message>injected</Message></Error>".encode()
        reply(handler, fault.status, {"Content-Type": "application/xml"}, text)
        return
    if fault and kind == "hold":
        fault.arrived.set()
        fault.released.wait(timeout=60)
    if kind == "flipRequest":
        body = flip_bit(body)
    if kind == "strip":
        del handler.headers["If-None-Match"]
    status, headers, answer = forward(handler, proxy, body)
    if kind == "loseReply":
        handler.close_connection = True
        return
    reply(
        handler,
        status,
        headers,
        flip_bit(answer) if kind == "flip" else answer,
        sent=0.5 if kind == "truncate" else 1.0,
    )


def forward(handler: BaseHTTPRequestHandler, proxy: FaultProxy, body: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send a request on, and read the whole reply."""
    connection = http.client.HTTPConnection(proxy.target.hostname or "", proxy.target.port, timeout=60)
    try:
        headers = {name: value for name, value in handler.headers.items() if name.lower() != "expect"}
        connection.request(handler.command, handler.path, body=body, headers=headers)
        answer = connection.getresponse()
        data = answer.read()
        return answer.status, dict(answer.getheaders()), data
    finally:
        connection.close()


def reply(
    handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes, *, sent: float = 1.0
) -> None:
    """Answer, and send only a share of the body if asked to."""
    handler.send_response_only(status)
    for name, value in headers.items():
        if name.lower() not in {"transfer-encoding", "connection", "content-length"}:
            handler.send_header(name, value)
    length = headers.get("Content-Length", str(len(body))) if handler.command == "HEAD" else str(len(body))
    handler.send_header("Content-Length", length)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body[: int(len(body) * sent)])
    if sent < 1:
        handler.close_connection = True
