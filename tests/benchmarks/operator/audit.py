"""What the API server's audit log says: who wrote how often, and how long the operator took by the server's own clock."""

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

_WRITES = {"create", "update", "patch", "delete"}


def requests_of(log: Path, namespace: str, jobs: int) -> dict[str, Any]:
    """Writes in a namespace by user agent, per FineTuneJob; create of the object to create of its Job, in milliseconds."""
    writes: Counter[str] = Counter()
    accepted: dict[str, datetime] = {}
    created: dict[str, datetime] = {}
    for line in log.read_bytes().splitlines():
        if namespace.encode() not in line:
            continue
        event = orjson.loads(line)
        ref = event.get("objectRef") or {}
        if ref.get("namespace") != namespace or event["stage"] != "ResponseComplete" or event["verb"] not in _WRITES:
            continue
        agent = event.get("userAgent", "").split("/")[0].split(" ")[0]
        resource = "/".join(filter(None, (ref.get("resource"), ref.get("subresource"))))
        writes[f"{agent} {event['verb']} {resource}"] += 1
        at = datetime.fromisoformat(event["stageTimestamp"])
        if event["verb"] == "create" and ref.get("resource") == "finetunejobs":
            accepted[ref["name"]] = at
        if event["verb"] == "create" and ref.get("resource") == "jobs":
            created[ref["name"].rpartition("-a")[0]] = at
    latencies = sorted(
        1000 * (created[name] - at).total_seconds()
        for name, at in accepted.items()
        if name.startswith("steady") and name in created
    )
    found: dict[str, Any] = {name: round(count / jobs, 2) for name, count in sorted(writes.items())}
    if latencies:
        found |= {
            "steady_p50_ms": round(latencies[len(latencies) // 2], 1),
            "steady_p99_ms": round(latencies[int(len(latencies) * 0.99)], 1),
        }
    return found
