"""What the API server's audit log says: who wrote how often, and the way of an object by the server's own clock."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import orjson

_WRITES = {"create", "update", "patch", "delete"}
_NAME = re.compile(r"^[a-z]+-\d{5}")
"""Names of the generator's objects; those of what is made from them begin with them."""


def writes_of(log: Path, namespace: str, objects: int) -> dict[str, float]:
    """Writes in a namespace for each created object, by user agent, verb and resource."""
    writes = Counter(f"{_agent(event)} {event['verb']} {_resource(event)}" for event in _requests(log, namespace))
    return {name: round(count / objects, 2) for name, count in sorted(writes.items())}


def way_of(log: Path, namespace: str, prefix: str) -> dict[str, str]:
    """Medians, in milliseconds after an object was accepted: when each write for it reached the server and was answered."""
    ways: dict[str, dict[str, tuple[datetime, datetime]]] = defaultdict(dict)
    for event in _requests(log, namespace):
        name = _NAME.match(event["objectRef"].get("name", ""))
        if name is not None and name[0].startswith(prefix):
            received = datetime.fromisoformat(event["requestReceivedTimestamp"])
            answered = datetime.fromisoformat(event["stageTimestamp"])
            ways[name[0]].setdefault(f"{event['verb']} {_resource(event)}", (received, answered))
    offsets: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for way in ways.values():
        accepted = min(answered for _, answered in way.values())
        for step, (received, answered) in way.items():
            offsets[step].append((_ms(accepted, received), _ms(accepted, answered)))
    medians = {step: tuple(median(side) for side in zip(*times, strict=True)) for step, times in offsets.items()}
    return {
        step: f"{begin:.1f} - {end:.1f}" for step, (begin, end) in sorted(medians.items(), key=lambda item: item[1])
    }


def _requests(log: Path, namespace: str) -> Iterator[dict[str, Any]]:
    needle = namespace.encode()
    for line in log.read_bytes().splitlines():
        if needle not in line:
            continue
        event: dict[str, Any] = orjson.loads(line)
        ref = event.get("objectRef") or {}
        done = event["stage"] == "ResponseComplete" and event["responseStatus"]["code"] < 300
        if ref.get("namespace") == namespace and done and event["verb"] in _WRITES:
            yield event


def _agent(event: dict[str, Any]) -> str:
    return str(event.get("userAgent", "")).split("/")[0].split(" ")[0]


def _resource(event: dict[str, Any]) -> str:
    ref = event["objectRef"]
    return "/".join(filter(None, (ref.get("resource"), ref.get("subresource"))))


def _ms(since: datetime, at: datetime) -> float:
    return 1000 * (at - since).total_seconds()
