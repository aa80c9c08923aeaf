"""Which versions there are, how far each one is, and who answers now. Level-triggered: every pass compares with the newest configuration.

New versions load first; then the routing switches, for all requests at once; then what is no longer wanted drains and
goes. While no version of the newest configuration can answer, the ones before it go on. The event loop's thread owns
everything here.
"""

import asyncio
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from trimtab_trainer import logs
from trimtab_trainer.contract.exit_codes import EXIT_CODE_OF, USER_MUST_ACT, TrainerReason
from trimtab_trainer.contract.run_config import ServedVersion, ServerConfig
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.server.metrics import Metrics
from trimtab_trainer.server.routing import BASE, Routing, Share

RETRY_SECONDS = 5.0
MAX_RETRY_SECONDS = 300.0
MAX_GUIDED_RETRY_SECONDS = 20.0
"""Where an operator watches, what was mended is to be noticed soon."""
OPERATOR_SILENCE_SECONDS = 120.0
"""After as long without the operator, the file is believed again."""


Target = TypeVar("Target")
"""What answers a request, as the loader made it."""


class Loader(Protocol[Target]):
    """Brings versions to where they can answer. Its methods run on the event loop, one at a time."""

    base: Target | None
    """The base model as requests may name it; None where it cannot be asked."""

    async def load_base(self, config: ServerConfig) -> None:
        """What every version needs. Raises TrainerError."""

    async def load_version(self, config: ServerConfig, served: ServedVersion) -> Target:
        """Download, verify and load one version. Raises TrainerError."""

    async def unload(self, served: ServedVersion, target: Target) -> None:
        """Give back what a version holds. Nothing uses it any more."""


class State(StrEnum):
    """How far a version is."""

    LOADING = "Loading"
    READY = "Ready"
    REFUSED = "Refused"
    DRAINING = "Draining"


@dataclass(eq=False)
class Version(Generic[Target]):
    """One version with its model in memory, or the reason why not."""

    served: ServedVersion
    target: Target | None = None
    error: TrainerError | None = None
    failures: int = 0
    retry_at: float = 0.0
    wanted: bool = True
    in_flight: int = 0

    @property
    def state(self) -> State:
        """How far it is."""
        if self.target is not None:
            return State.READY if self.wanted else State.DRAINING
        return State.REFUSED if self.error is not None else State.LOADING


class UnknownModelError(Exception):
    """A request names a model that is not here."""


class NotReadyError(Exception):
    """The version is known but cannot answer now."""


class Versions(Generic[Target]):
    """All versions of one server."""

    def __init__(
        self, config: ServerConfig, loader: Loader[Target], metrics: Metrics, *, is_guided: bool = False
    ) -> None:
        self.config = config
        self.is_guided = is_guided
        """An operator hears of every refusal and sends the remedy: nothing is a reason to end the process."""
        self.heard_at = -math.inf
        """When the operator answered last (monotonic): its word is newer than the file's."""
        self.changed = asyncio.Event()
        """Something that the operator should know has changed."""
        self.config_problem = ""
        """Why the newest configuration is not used."""
        self._loader, self._metrics = loader, metrics
        self._versions: dict[tuple[str, str], Version[Target]] = {}
        self._routing = Routing(config.model_name, ())
        self._changed = asyncio.Event()
        self._base_loaded = False
        self._answers = False
        self._settle()

    # What requests need

    @contextmanager
    def lease(self, model: str, user: str | None) -> Iterator[Target]:
        """The target for a request; it stays in memory as long as the block runs.

        Raises:
            UnknownModelError: no such name here.
            NotReadyError: it is still loading, was refused, or no version has any weight.
        """
        if model == BASE and self._loader.base is not None:
            yield self._loader.base
            return
        version, target = self._find(model, user)
        version.in_flight += 1
        try:
            yield target
        finally:
            version.in_flight -= 1
            if not version.wanted:
                self._changed.set()

    def names(self) -> list[str]:
        """Model names that can be asked for now."""
        ready = [version.served.name for version in self._versions.values() if version.state is State.READY]
        return [self.config.model_name, *ready, *([BASE] if self._loader.base else [])]

    @property
    def ready(self) -> bool:
        """One version answers; before the first answer all of the configuration must be in memory or refused."""
        if not self._base_loaded or self._routing.pick(0.0) is None:
            return False
        # A version that comes later, a canary, takes no server away while it loads.
        self._answers = self._answers or all(v.state is not State.LOADING for v in self._versions.values())
        return self._answers

    @property
    def fatal(self) -> TrainerError | None:
        """Why nothing here can ever answer until a user acts; None while something answers or trying again may help."""
        errors = [version.error for version in self._versions.values()]
        if self._routing.pick(0.0) is not None or not errors or self.is_guided:
            return None
        refused = [error for error in errors if error and EXIT_CODE_OF[error.reason] in USER_MUST_ACT]
        return refused[0] if len(refused) == len(errors) else None

    def report(self) -> list[Version[Target]]:
        """All versions, for people and probes."""
        return list(self._versions.values())

    # What the configuration asks for

    async def load_base(self) -> None:
        """Load the base model; versions can only follow."""
        await self._loader.load_base(self.config)
        self._base_loaded = True
        for version in self._versions.values():
            version.error = None
        self._changed.set()

    def base_failed(self, error: TrainerError) -> None:
        """The base model cannot be had now: no version can come before it."""
        for version in self._versions.values():
            version.error = error
        self.changed.set()

    def lost(self, version: Version[Target]) -> None:
        """A version is not in memory any more, though nobody unloaded it: load it again."""
        logs.warning("version_lost", version=version.served.name)
        version.target = None
        self._settle()
        self._changed.set()

    @property
    def max_retry_seconds(self) -> float:
        """The longest pause between two tries."""
        return MAX_GUIDED_RETRY_SECONDS if self.is_guided else MAX_RETRY_SECONDS

    def configure(self, config: ServerConfig) -> bool:
        """Follow a new configuration as far as a running server can; False where it cannot."""
        problem = _what_needs_a_new_pod(self.config, config)
        if problem:
            self.refuse_config(problem)
            return False
        self.config, self.config_problem = config, ""
        self._metrics.config_refused.set(0)
        logs.fact("config_changed", weights=",".join(f"{served.name}:{served.weight}" for served in config.versions))
        for version in self._versions.values():
            version.retry_at = 0.0
        self._settle()
        self._changed.set()
        return True

    def is_outdated(self, config: ServerConfig) -> bool:
        """Whether a file is older than what the operator said: the kubelet takes a minute to renew it."""
        heard = time.monotonic() - self.heard_at < OPERATOR_SILENCE_SECONDS
        return heard and config.revision <= self.config.revision

    def refuse_config(self, problem: str) -> None:
        """Keep the old configuration, and say why."""
        self.config_problem = problem
        self._metrics.config_refused.set(1)
        self.changed.set()
        logs.warning("config_refused", problem=problem)

    async def follow(self) -> None:
        """Load what is missing and unload what has drained, for ever.

        Raises:
            TrainerError: every version is refused, and none can ever answer until a user acts.
        """
        while True:
            self._changed.clear()
            if await self._advance():
                continue
            due = [v.retry_at for v in self._versions.values() if v.wanted and v.state is State.REFUSED]
            pause = max(0.0, min(due) - time.monotonic()) if due else None
            try:
                await asyncio.wait_for(self._changed.wait(), pause)
            except TimeoutError:
                continue

    async def _advance(self) -> bool:
        """One load or unload; False where there is nothing to do."""
        for key, version in list(self._versions.items()):
            if version.target is not None and not version.wanted and version.in_flight == 0:
                # Out of the table first: a configuration that wants it back meanwhile loads it anew.
                del self._versions[key]
                await self._loader.unload(version.served, version.target)
                self.changed.set()
                logs.fact("version_unloaded", version=version.served.name)
                return True
            if self._base_loaded and version.wanted and version.target is None and version.retry_at <= time.monotonic():
                await self._load(version)
                if self.fatal:
                    raise self.fatal
                return True
        return False

    async def _load(self, version: Version[Target]) -> None:
        started = time.monotonic()
        try:
            version.target = await self._loader.load_version(self.config, version.served)
        except Exception as error:  # noqa: BLE001 - one version's failure must not end the others
            self._refuse(version, error)
        else:
            version.error = None
            logs.fact("version_loaded", version=version.served.name, seconds=time.monotonic() - started)
        self._settle()

    def _refuse(self, version: Version[Target], error: Exception) -> None:
        known = (
            error
            if isinstance(error, TrainerError)
            else TrainerError(TrainerReason.TRAINER_ERROR, f"{type(error).__name__}: {error}")
        )
        version.error = known
        version.retry_at = time.monotonic() + min(RETRY_SECONDS * 2**version.failures, self.max_retry_seconds)
        version.failures += 1
        self.changed.set()
        logs.warning("version_refused", version=version.served.name, reason=known.reason, message=known)

    def _settle(self) -> None:
        """Compare with the configuration: who is wanted, and who answers from now on."""
        wanted = {(served.name, served.manifest_sha256): served for served in self.config.versions}
        for key, served in wanted.items():
            version = self._versions.setdefault(key, Version(served))
            version.served, version.wanted = served, True
        routing = Routing(
            self.config.model_name,
            [_share(v) for k, v in self._versions.items() if k in wanted and v.target],
            sticky=self.config.sticky,
        )
        if routing.pick(0.0) is not None or not self._routing.names:
            self._routing = routing
        for key, version in list(self._versions.items()):
            if key not in wanted:
                # While nothing of the new configuration can answer, what answered before goes on.
                version.wanted = version.target is not None and version.served.name in self._routing.names
                if version.target is None:
                    del self._versions[key]
        self._show()

    def _show(self) -> None:
        self.changed.set()
        for gauge in (self._metrics.weight, self._metrics.ready):
            gauge.clear()
        for version in self._versions.values():
            self._metrics.weight.labels(version.served.name).set(version.served.weight)
            self._metrics.ready.labels(version.served.name).set(version.state is State.READY)

    def _find(self, model: str, user: str | None) -> tuple[Version[Target], Target]:
        name: str | None = model
        if model == self._routing.model_name:
            name = self._routing.pick(self._routing.point_of(user))
            if name is None:
                raise NotReadyError(f"No version of {model} can answer yet.")
        for version in self._versions.values():
            if version.served.name == name and version.wanted:
                if version.target is None:
                    raise NotReadyError(f"{name} is {version.state.lower()}.")
                return version, version.target
        raise UnknownModelError(model)


def _share(version: Version[Target]) -> Share:
    return Share(version.served.name, version.served.version, version.served.weight)


def _what_needs_a_new_pod(old: ServerConfig, new: ServerConfig) -> str:
    for field in ("base_model", "task", "max_sequence_length", "max_concurrent_requests", "model_name", "rollout"):
        if getattr(old, field) != getattr(new, field):
            return f"`{field}` changed; that needs a new pod. The old configuration stays."
    return ""
