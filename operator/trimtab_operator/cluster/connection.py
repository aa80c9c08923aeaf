"""Where the API server is and who we are: in-cluster service account or kubeconfig.

The `kubernetes` package would do this too; importing it costs 70 MiB and a second (docs/decisions).
"""

import asyncio
import base64
import os
import ssl
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import yaml

from trimtab_operator import names
from trimtab_operator.errors import OperatorError

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TOKEN_SECONDS = 60.0
"""The kubelet replaces a projected token well before it expires; a minute of caching is safe."""


@dataclass(slots=True)
class Token:
    """A bearer token that may change while we run: from a file, from a command, or fixed."""

    value: str = ""
    file: Path | None = None
    command: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    _fresh_until: float = 0.0

    async def header(self) -> str:
        """The `Authorization` header, or an empty string."""
        if (self.file or self.command) and time.monotonic() >= self._fresh_until:
            self.value = self.file.read_text().strip() if self.file else await self._run()
            self._fresh_until = time.monotonic() + _TOKEN_SECONDS
        return f"Bearer {self.value}" if self.value else ""

    async def _run(self) -> str:
        process = await asyncio.create_subprocess_exec(
            *self.command, env={**os.environ, **self.environment}, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        if process.returncode:
            raise OperatorError(
                f"credential command {self.command[0]} of the kubeconfig failed with {process.returncode}"
            )
        return str(orjson.loads(output)["status"].get("token", ""))


@dataclass(frozen=True, slots=True)
class Connection:
    """The API server's address, its authority, and our credentials."""

    server: str
    tls: ssl.SSLContext | bool
    token: Token
    namespace: str = "default"
    agent: str = names.FIELD_MANAGER
    """User agent: how audit logs tell us from others."""

    def session(
        self,
        *,
        seen: Callable[[str, str], None] | None = None,
        connections: int = 64,
        responses: type[aiohttp.ClientResponse] = aiohttp.ClientResponse,
    ) -> aiohttp.ClientSession:
        """An HTTP session of the running event loop. `seen(method, path)` hears of every request."""

        async def authenticate(
            request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
        ) -> aiohttp.ClientResponse:
            header = await self.token.header()
            if header:
                request.headers["Authorization"] = header
            if seen is not None:
                seen(request.method, request.url.path_qs)
            return await handler(request)

        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, ssl=self.tls, keepalive_timeout=60),
            headers={"User-Agent": self.agent},
            middlewares=(authenticate,),
            response_class=responses,
            read_bufsize=2**20,
        )


def connect(environment: dict[str, str] | None = None) -> Connection:
    """KUBECONFIG where it is set, else the pod's service account, else ~/.kube/config."""
    env = dict(os.environ) if environment is None else environment
    if not env.get("KUBECONFIG") and (_SERVICE_ACCOUNT / "token").is_file() and env.get("KUBERNETES_SERVICE_HOST"):
        return _in_cluster(env)
    first = env.get("KUBECONFIG", "").split(os.pathsep)[0]
    return _from_kubeconfig(Path(first) if first else Path.home() / ".kube" / "config")


def _in_cluster(env: dict[str, str]) -> Connection:
    host = env["KUBERNETES_SERVICE_HOST"]
    host = f"[{host}]" if ":" in host else host
    namespace = _SERVICE_ACCOUNT / "namespace"
    return Connection(
        server=f"https://{host}:{env.get('KUBERNETES_SERVICE_PORT', '443')}",
        tls=ssl.create_default_context(cafile=str(_SERVICE_ACCOUNT / "ca.crt")),
        token=Token(file=_SERVICE_ACCOUNT / "token"),
        namespace=namespace.read_text().strip() if namespace.is_file() else "default",
    )


def _from_kubeconfig(path: Path) -> Connection:
    if not path.is_file():
        raise OperatorError(f"no cluster: {path} does not exist and this is no pod; set KUBECONFIG")
    config: dict[str, Any] = yaml.safe_load(path.read_text()) or {}
    contexts, clusters, users = (_by_name(config, section) for section in ("contexts", "clusters", "users"))
    context = contexts.get(config.get("current-context", ""), {}).get("context")
    if context is None:
        raise OperatorError(f"{path} has no current-context; choose one with `kubectl config use-context`")
    cluster = clusters[context["cluster"]]["cluster"]
    user = users.get(context.get("user", ""), {}).get("user") or {}
    server = str(cluster["server"]).rstrip("/")
    return Connection(
        server=server,
        tls=_tls(cluster, user, path.parent) if server.startswith("https") else False,
        token=_token(user, path.parent),
        namespace=context.get("namespace", "default"),
    )


def _by_name(config: dict[str, Any], section: str) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in config.get(section) or []}


def _tls(cluster: dict[str, Any], user: dict[str, Any], base: Path) -> ssl.SSLContext:
    authority = _material(cluster, "certificate-authority", base)
    tls = ssl.create_default_context(cadata=authority.decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    certificate, key = _material(user, "client-certificate", base), _material(user, "client-key", base)
    if certificate and key:
        # Python's ssl reads a chain from files only; the directory is private and short-lived.
        with tempfile.TemporaryDirectory() as directory:
            pair = Path(directory) / "pair.pem"
            pair.touch(mode=0o600)
            pair.write_bytes(certificate + b"\n" + key)
            tls.load_cert_chain(pair)
    return tls


def _material(section: dict[str, Any], name: str, base: Path) -> bytes:
    if section.get(f"{name}-data"):
        return base64.b64decode(section[f"{name}-data"])
    return (base / section[name]).read_bytes() if section.get(name) else b""


def _token(user: dict[str, Any], base: Path) -> Token:
    if user.get("exec"):
        plugin = user["exec"]
        environment = {item["name"]: item["value"] for item in plugin.get("env") or []}
        return Token(command=(plugin["command"], *(plugin.get("args") or ())), environment=environment)
    if user.get("tokenFile"):
        return Token(file=base / user["tokenFile"])
    return Token(value=user.get("token", ""))
