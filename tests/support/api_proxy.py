"""A proxy in front of an API server that breaks watches in chosen ways."""

import asyncio
import json
import ssl
import threading
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web
from tests.support.control_plane import TOKEN, ControlPlane

_HOP = {"transfer-encoding", "content-length", "content-encoding", "connection", "date", "server"}


def status(code: int, message: str) -> bytes:
    """A watch event that says the watch is over."""
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code, "message": message}
    return json.dumps({"type": "ERROR", "object": body}).encode() + b"\n"


class ApiProxy:
    """Plain HTTP in, the control plane's HTTPS out; runs in a thread."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._watches: dict[asyncio.Queue[bytes | None], str] = {}
        self.address = ""
        self.frozen = False
        """While set, watches deliver nothing: what happens meanwhile is lost to them."""

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        asyncio.run_coroutine_threadsafe(self._session.close(), self._loop).result(10)
        # Connections that were cut need a turn of the loop to close their sockets.
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0.3), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def watches(self) -> list[str]:
        """Paths of the watches that are open."""
        return sorted(self._watches.values())

    def break_watches(self, message: bytes | None, *, plural: str = "") -> int:
        """Send a last message to open watches (of one kind) and end them; None just cuts the connection."""

        async def send() -> int:
            chosen = [queue for queue, path in self._watches.items() if path.endswith(f"/{plural}") or not plural]
            for queue in chosen:
                if message is not None:
                    queue.put_nowait(message)
                queue.put_nowait(None)
            return len(chosen)

        return asyncio.run_coroutine_threadsafe(send(), self._loop).result(10)

    async def _start(self) -> None:
        tls = ssl.create_default_context(cafile=self._plane.directory / "tls.crt")
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls, limit=0), headers={"Authorization": f"Bearer {TOKEN}"}
        )
        application = web.Application(client_max_size=2**24)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.address = f"http://127.0.0.1:{port}"

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        url = f"https://127.0.0.1:{self._plane.port}{request.raw_path}"
        headers = {
            key: value for key, value in request.headers.items() if key.lower() not in (*_HOP, "host", "authorization")
        }
        data = await request.read()
        timeout = aiohttp.ClientTimeout(total=None)
        async with self._session.request(
            request.method, url, data=data or None, headers=headers, timeout=timeout
        ) as answer:
            kept = {key: value for key, value in answer.headers.items() if key.lower() not in _HOP}
            if request.query.get("watch") != "true" or answer.status != 200:
                return web.Response(status=answer.status, body=await answer.read(), headers=kept)
            return await self._relay(request, answer, kept)

    async def _relay(
        self, request: web.Request, answer: aiohttp.ClientResponse, headers: dict[str, str]
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=200, headers=headers)
        await response.prepare(request)
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._watches[queue] = request.path
        reader = asyncio.create_task(self._read(answer, queue))
        try:
            while (line := await queue.get()) is not None:
                await response.write(line)
        finally:
            reader.cancel()
            del self._watches[queue]
        return response

    async def _read(self, answer: aiohttp.ClientResponse, queue: asyncio.Queue[bytes | None]) -> None:
        try:
            async for line in answer.content:
                if not self.frozen:
                    queue.put_nowait(line)
        finally:
            queue.put_nowait(None)
