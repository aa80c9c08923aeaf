"""What the servers said last, and what they are told. In memory: after a restart of the operator they say it again within seconds."""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import orjson

from trimtab_operator.state import ServerNews
from trimtab_trainer.contract.run_config import ServerConfig
from trimtab_trainer.contract.serving import ServerReply, ServerReport, VersionCounters, config_digest

SPACING = timedelta(milliseconds=900)
"""Reports that follow each other faster take each other's place in the past."""
KEPT = 600
"""Reports of one server that are kept while a canary moves; beyond, every second one of the older half goes."""
SILENCE = timedelta(seconds=20)
"""A server that was silent for longer is news, whatever it says."""
GONE = timedelta(minutes=5)
"""What a server said that has been silent for so long is forgotten."""
IDLE_REPORT_SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class _Past:
    """What a server had counted at some time, packed: a tenth of the memory."""

    at: datetime
    instance: str
    counters: bytes


@dataclass(slots=True)
class _Server:
    """One server pod."""

    newest: ServerNews
    past: list[_Past] = field(default_factory=list)


@dataclass(slots=True)
class _Told:
    """What one rollout's servers are told."""

    by_key: dict[str, tuple[str, ServerConfig]] = field(default_factory=dict)
    report_seconds: float = IDLE_REPORT_SECONDS
    changed: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class Span:
    """What one server counted for one version in a span of time."""

    before: VersionCounters | None
    """None: it counted from zero."""
    after: VersionCounters


class Servers:
    """Reports by rollout and pod, and the answer that they wait for."""

    def __init__(self) -> None:
        self.listening_since: datetime | None = None
        """When this replica began to lead: before, the servers spoke to another one."""
        self._servers: defaultdict[str, dict[str, _Server]] = defaultdict(dict)
        self._told: defaultdict[str, _Told] = defaultdict(_Told)

    def take(self, rollout_uid: str, news: ServerNews) -> bool:
        """Keep a report. True: it says something else about versions than the one before."""
        servers = self._servers[rollout_uid]
        known = servers.get(news.uid)
        server = servers[news.uid] = _Server(news, known.past if known else [])
        is_idle = self._told[rollout_uid].report_seconds >= IDLE_REPORT_SECONDS
        _remember(server, limit=2 if is_idle else KEPT)
        for uid in [uid for uid, other in servers.items() if news.received_at - other.newest.received_at > GONE]:
            del servers[uid]
        if known is None or news.received_at - known.newest.received_at > SILENCE:
            return True
        return _meaning(known.newest.report) != _meaning(news.report)

    def reports(self, rollout_uid: str) -> tuple[ServerNews, ...]:
        """The newest report of every pod."""
        return tuple(server.newest for server in self._servers.get(rollout_uid, {}).values())

    def spans(self, rollout_uid: str, pods: Collection[str], version: str, since: datetime) -> list[Span]:
        """What the servers among these pods (by uid) counted for a version since then, or since this operator began to listen."""
        servers = self._servers.get(rollout_uid, {})
        found = (_span(server, version, since) for uid, server in servers.items() if uid in pods)
        return [span for span in found if span is not None]

    def tell(self, rollout_uid: str, configs: Mapping[str, ServerConfig], *, report_seconds: float) -> None:
        """What the servers should follow from now on."""
        told = self._told[rollout_uid]
        by_key = {key: (config_digest(config), config) for key, config in configs.items()}
        if by_key == told.by_key and report_seconds == told.report_seconds:
            return
        told.by_key, told.report_seconds = by_key, report_seconds
        told.changed.set()
        told.changed = asyncio.Event()

    async def reply(self, rollout_uid: str, key: str, heard: str, *, wait_seconds: float) -> ServerReply:
        """The configuration of servers with that key, as soon as it is another one than they have heard."""
        told = self._told[rollout_uid]
        try:
            async with asyncio.timeout(wait_seconds):
                while key not in told.by_key or told.by_key[key][0] == heard:
                    await told.changed.wait()
        except TimeoutError:
            pass
        digest, config = told.by_key.get(key, (heard, None))
        return ServerReply(
            config=config if digest != heard else None, digest=digest, report_seconds=told.report_seconds
        )

    def forget(self, rollout_uid: str) -> None:
        """The rollout is gone."""
        self._servers.pop(rollout_uid, None)
        self._told.pop(rollout_uid, None)


def _remember(server: _Server, *, limit: int) -> None:
    """Add the newest report to the past, and thin that out."""
    past, news = server.past, server.newest
    if len(past) > 1 and past[-1].at - past[-2].at < SPACING:
        past.pop()
    counters = orjson.dumps([each.to_json() for each in news.report.counters])
    past.append(_Past(news.received_at, news.report.instance, counters))
    if limit <= 2:  # noqa: PLR2004 - nothing is measured: the newest and the one before suffice
        del past[:-limit]
    elif len(past) > limit:
        half = len(past) // 2
        past[:half] = past[:half:2]


def _span(server: _Server, version: str, since: datetime) -> Span | None:
    newest = server.past[-1]
    after = _counters(newest, version)
    if after is None:
        return None
    same = [past for past in server.past if past.instance == newest.instance]
    earlier = [past for past in same if past.at <= since]
    if earlier:
        return Span(_counters(earlier[-1], version), after)
    # A server that started since then counted from zero; of an older one only what this operator has heard counts.
    started = len(same) < len(server.past)
    return Span(None if started else _counters(same[0], version), after)


def _counters(past: _Past, version: str) -> VersionCounters | None:
    found = next((each for each in orjson.loads(past.counters) if each["name"] == version), None)
    return None if found is None else VersionCounters.model_validate(found)


def _meaning(report: ServerReport) -> object:
    """What a reconcile must know at once; counters are looked up when they are needed."""
    states = tuple((version.name, version.state, version.reason, version.message) for version in report.versions)
    return report.instance, report.digest, report.config_problem, states
