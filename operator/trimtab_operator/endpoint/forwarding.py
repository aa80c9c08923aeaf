"""A replica that does not lead passes what trainers say on to the one that does."""

import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from trimtab_operator.endpoint.refusals import Refusal

_FORWARDED = "X-Trimtab-Forwarded"
_TIMEOUT = aiohttp.ClientTimeout(total=10, sock_connect=3)


class Forwarder:
    """Knows who leads, and how to reach it."""

    def __init__(self, *, is_leading: Callable[[], bool], leader: Callable[[], str], url: str, port: int) -> None:
        self._is_leading = is_leading
        self._leader = leader
        self._host = urlsplit(url).hostname or ""
        self._port = port
        self._session: aiohttp.ClientSession | None = None
        self._authority = ""

    @property
    def leading(self) -> bool:
        """Whether this replica answers itself."""
        return self._is_leading()

    def trust(self, authority: str) -> None:
        """PEM of the authority that signed the replicas' certificate."""
        self._authority = authority

    async def forward(self, request: web.Request, data: bytes) -> web.Response:
        """The leader's answer.

        Raises:
            Refusal: nobody leads, or the leader does not answer.
        """
        address = self._leader().rpartition("_")[2]
        if not address or _FORWARDED in request.headers:
            raise Refusal(503, "no replica of the operator leads at the moment; try again", retry_after=2)
        host = f"[{address}]" if ":" in address else address
        headers = {
            "Authorization": request.headers.get("Authorization", ""),
            _FORWARDED: "1",
            "Content-Type": "application/json",
        }
        try:
            async with self._client().post(
                f"https://{host}:{self._port}{request.path}",
                data=data,
                headers=headers,
                server_hostname=self._host,
                timeout=_TIMEOUT,
            ) as response:
                body = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Refusal(503, "the operator's leader does not answer; try again", retry_after=2) from error
        answer = web.Response(status=response.status, body=body, content_type="application/json")
        if "Retry-After" in response.headers:
            answer.headers["Retry-After"] = response.headers["Retry-After"]
        return answer

    async def close(self) -> None:
        """Drop the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            # The certificate names the Service, not the pod: it is checked against the Service's name.
            tls = ssl.create_default_context(cadata=self._authority or None)
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls, limit=512))
        return self._session
