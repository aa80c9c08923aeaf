"""The way to the operator: what this server is and counts goes up, the newest weights come down.

Without an operator the server goes on with what it has: the mounted file is what it started with, and the kubelet renews it.
"""

import asyncio
import os
import time
import uuid
from collections.abc import Mapping
from typing import Any

import requests
from pydantic import ValidationError

from trimtab_trainer import logs
from trimtab_trainer.contract import mounts
from trimtab_trainer.contract.serving import MAX_WAIT_SECONDS, ServerReply, ServerReport
from trimtab_trainer.reporting.progress import StatusEndpoint
from trimtab_trainer.server import news
from trimtab_trainer.server.metrics import Metrics
from trimtab_trainer.server.versions import Versions

RETRY_SECONDS = 2.0
MAX_RETRY_SECONDS = 15.0
_MARGIN_SECONDS = 10.0
"""For the answer itself, on top of what it may wait."""


class OperatorChannel:
    """Reports for ever, and follows the answers. Failures never disturb serving."""

    def __init__(self, endpoint: StatusEndpoint, versions: Versions[Any], metrics: Metrics) -> None:
        self._endpoint, self._versions, self._metrics = endpoint, versions, metrics
        self._instance = uuid.uuid4().hex
        self._heard = ""
        self._used = ""
        self._wait = 0.0
        self._failing = False

    async def run(self) -> None:
        """Two loops: one waits at the operator for news, the other brings it news of ours at once."""
        await asyncio.gather(self._listen(), self._tell())

    async def _listen(self) -> None:
        pause = RETRY_SECONDS
        while True:
            if await self._exchange(self._wait):
                pause = RETRY_SECONDS
            else:
                await asyncio.sleep(pause)
                pause = min(2 * pause, MAX_RETRY_SECONDS)

    async def _tell(self) -> None:
        while True:
            await self._versions.changed.wait()
            self._versions.changed.clear()
            await self._exchange(0.0)

    async def _exchange(self, wait_seconds: float) -> bool:
        """One report and its answer; False where there was none."""
        report = self._report(wait_seconds)
        try:
            body = await asyncio.to_thread(
                self._endpoint.post, report.to_json(), timeout=wait_seconds + _MARGIN_SECONDS
            )
            reply = ServerReply.model_validate(body, extra="ignore")
        except (requests.RequestException, OSError, ValidationError) as error:
            self._say(f"{type(error).__name__}: {error}")
            return False
        self._say("")
        self._wait = min(reply.report_seconds, MAX_WAIT_SECONDS)
        self._versions.heard_at = time.monotonic()
        if reply.config is not None and report.heard == self._heard:
            # Else the other loop has heard something since, which may be newer; the next answer tells.
            self._heard = reply.digest
            if self._versions.configure(reply.config):
                self._used = reply.digest
            self._versions.changed.set()
        return True

    def _report(self, wait_seconds: float) -> ServerReport:
        versions = self._versions.report()
        return ServerReport(
            instance=self._instance,
            digest=self._used,
            heard=self._heard,
            config_problem=self._versions.config_problem[:1000],
            versions=news.states(versions),
            counters=news.counters(self._metrics, [version.served.name for version in versions]),
            wait_seconds=wait_seconds,
        )

    def _say(self, problem: str) -> None:
        """Once when it begins to fail, once when it works again."""
        if bool(problem) != self._failing:
            self._failing = bool(problem)
            if problem:
                logs.warning("operator_away", url=self._endpoint.url, error=problem)
            else:
                logs.fact("operator_heard", url=self._endpoint.url)


def operator_endpoint(environment: Mapping[str, str] = os.environ) -> StatusEndpoint | None:
    """Where the operator listens; None where nobody said so."""
    url = environment.get(mounts.SERVER_URL_VARIABLE, "")
    return StatusEndpoint(url, environment) if url else None
