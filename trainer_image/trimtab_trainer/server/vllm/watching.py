"""Looks after vLLM: when it has started anew, its adapters are gone."""

import asyncio

from trimtab_trainer import logs
from trimtab_trainer.server.versions import State, Versions
from trimtab_trainer.server.vllm.api import AwayError, Vllm
from trimtab_trainer.server.vllm.loading import Target

LOOK_SECONDS = 2.0


async def watch(vllm: Vllm, versions: Versions[Target], *, look_seconds: float = LOOK_SECONDS) -> None:
    """Have what vLLM lost loaded again, for ever."""
    while True:
        await asyncio.sleep(look_seconds)
        expected = [(version, version.target) for version in versions.report() if version.state is State.READY]
        was_ready = vllm.ready
        try:
            present = await vllm.models()
        except AwayError as error:
            if was_ready:
                logs.warning("vllm_away", error=error)
            continue
        for version, target in expected:
            # One that was unloaded or exchanged meanwhile is not lost.
            if target is not None and version.target is target and target.model not in present:
                versions.lost(version)
