"""Benchmark of the operator against a real API server.

    make bench-operator                                    or, with what `make env` exports:
    python tests/benchmarks/operator/run.py [--output result.json]

It starts etcd, kube-apiserver and the Job controller on loopback (`--this-cluster` uses KUBECONFIG's cluster instead; it must not
run another Trimtab), runs the operator from source as a local process, and creates FineTuneJobs whose Jobs stay suspended
(`spec.runPolicy.queueName` names a queue that nobody serves): at 10 a second for 30 s, then a burst of 500, then up to 1,000
objects, at which the operator is killed and started again. Everything shares the machine with the control plane.

Latency is from the answer to the create request (accepted) to the Job on a watch (seen), on the generator's clock; `audit.*` is
the same by the API server's clock. Run it on a quiet machine; the load average is printed beside the result.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

# Run as a script, from any directory and without an installed test package.
sys.path.append(str(Path(__file__).resolve().parents[3]))

from audit import requests_of
from load import Timeline, create_at, fine_tune_job, namespace_of, prepare, until_seen, watch
from tests.support.control_plane import ControlPlane
from tests.support.operator_process import REPOSITORY, OperatorProcess

from trimtab_operator.cluster.client import Client
from trimtab_operator.cluster.connection import Connection, connect
from trimtab_operator.cluster.resources import OURS

Result = dict[str, Any]


async def steady(client: Client, timeline: Timeline, options: argparse.Namespace, namespace: str) -> Result:
    """Objects at a fixed rate."""
    names = [f"steady-{index:05d}" for index in range(options.rate * options.seconds)]
    begin = time.monotonic() + 0.5
    creations = [
        create_at(client, fine_tune_job(namespace, name, namespace), begin + index / options.rate, timeline)
        for index, name in enumerate(names)
    ]
    await asyncio.gather(*creations)
    await until_seen(timeline, names, within=60)
    return {"objects": len(names), **percentiles(timeline.latencies("steady-"))}


async def burst(client: Client, timeline: Timeline, options: argparse.Namespace, namespace: str) -> Result:
    """All objects at once, as fast as the API server takes them."""
    names = [f"burst-{index:05d}" for index in range(options.burst)]
    begin = time.monotonic()
    await asyncio.gather(
        *(create_at(client, fine_tune_job(namespace, name, namespace), begin, timeline) for name in names)
    )
    accepted = time.monotonic() - begin
    await until_seen(timeline, names, within=120)
    return {
        "objects": len(names),
        "accepted_seconds": round(accepted, 2),
        "jobs_per_second": round(timeline.rate("burst-"), 1),
        **percentiles(timeline.latencies("burst-")),
    }


async def fill(client: Client, timeline: Timeline, total: int, namespace: str) -> None:
    """More objects until there are `total`."""
    names = [f"fill-{index:05d}" for index in range(total - len(timeline.sent))]
    begin = time.monotonic()
    await asyncio.gather(
        *(
            create_at(client, fine_tune_job(namespace, name, namespace), begin + index / 50, timeline)
            for index, name in enumerate(names)
        )
    )
    await until_seen(timeline, names, within=60 + total / 20)


async def restart(client: Client, timeline: Timeline, operator: OperatorProcess, namespace: str) -> Result:
    """Kill -9 at rest and start again: how long until everything was looked at, and until a new object is served."""
    operator.kill()
    started = time.monotonic()
    operator.start()
    await create_at(client, fine_tune_job(namespace, "after-restart", namespace), started, timeline)
    ready = await asyncio.to_thread(operator.wait_ready)
    await until_seen(timeline, ["after-restart"], within=60)
    served = timeline.job_seen["after-restart"] - started
    converged = await at_rest(operator, started)
    return {
        "objects": len(timeline.sent),
        "ready_seconds": round(ready, 2),
        "new_object_served_seconds": round(served, 2),
        "converged_seconds": round(converged, 2),
        "writes_by_then": operator.writes(),
        "memory_mib": operator.memory_mib()[0],
    }


async def at_rest(operator: OperatorProcess, started: float) -> float:
    """Seconds from `started` until nothing waited for a worker and nothing was written any more, for two seconds."""
    quiet_since, writes = None, -1
    while True:
        settled, now = (
            await asyncio.to_thread(operator.settled),
            sum((await asyncio.to_thread(operator.writes)).values()),
        )
        if not settled or now != writes:
            quiet_since, writes = None, now
        elif quiet_since is None:
            quiet_since = time.monotonic()
        elif time.monotonic() - quiet_since > 2:
            return quiet_since - started
        await asyncio.sleep(0.1)


async def idle(operator: OperatorProcess, seconds: int) -> Result:
    """What the operator does when nothing happens."""
    writes, cpu = operator.writes(), operator.cpu_seconds()
    await asyncio.sleep(seconds)
    after = operator.writes()
    return {
        "seconds": seconds,
        "writes": sum(after.values()) - sum(writes.values()),
        "cpu_percent_of_a_core": round(100 * (operator.cpu_seconds() - cpu) / seconds, 1),
    }


def percentiles(latencies: list[float]) -> Result:
    """p50, p90, p99 and the worst, in milliseconds."""
    at = lambda share: round(latencies[min(len(latencies) - 1, int(share * len(latencies)))], 1)  # noqa: E731 - read three times below
    return {"p50_ms": at(0.5), "p90_ms": at(0.9), "p99_ms": at(0.99), "max_ms": round(latencies[-1], 1)}


def per_job(writes: dict[str, int], jobs: int) -> dict[str, float]:
    """Writes for each FineTuneJob."""
    return {name: round(count / jobs, 2) for name, count in sorted(writes.items())} | {
        "total": round(sum(writes.values()) / jobs, 2)
    }


def install_crds() -> None:
    """The CRDs, generated from the models."""
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY / 'operator'}:{REPOSITORY / 'trainer_image'}"}
    crds = subprocess.run(
        [sys.executable, "-m", "trimtab_operator", "crds"], env=environment, check=True, capture_output=True
    ).stdout
    subprocess.run(
        ["kubectl", "apply", "--server-side", "--force-conflicts", "-f", "-"],
        input=crds,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    for resource in OURS:
        crd = f"crd/{resource.plural}.{resource.group}"
        subprocess.run(
            ["kubectl", "wait", "--for=condition=Established", crd, "--timeout=30s"],
            check=True,
            stdout=subprocess.DEVNULL,
        )


async def benchmark(connection: Connection, options: argparse.Namespace) -> Result:
    """The whole run."""
    namespace = f"bench-{uuid.uuid4().hex[:6]}"
    timeline = Timeline()
    result: Result = {"load_average": os.getloadavg()[0], "cpus": os.cpu_count()}
    async with Client(connection) as client, connection.session() as session:
        await namespace_of(session, connection.server, namespace)
        await prepare(client, namespace, namespace)
        watching = asyncio.create_task(watch(connection, session, namespace, timeline))
        with OperatorProcess(log=options.log, module=tuple(options.module.split())) as operator:
            result["start_seconds"] = round(await asyncio.to_thread(operator.wait_ready), 2)
            result["memory_mib_empty"], cpu = operator.memory_mib()[0], operator.cpu_seconds()
            say("steady load"), result.update(steady=await steady(client, timeline, options, namespace))
            say("burst"), result.update(burst=await burst(client, timeline, options, namespace))
            result["cpu_ms_per_job"] = round(1000 * (operator.cpu_seconds() - cpu) / len(timeline.sent), 1)
            await at_rest(operator, time.monotonic())
            result["writes_per_job"] = per_job(operator.writes(), len(timeline.sent))
            say(f"filling up to {options.objects} objects")
            await fill(client, timeline, options.objects, namespace)
            await at_rest(operator, time.monotonic())
            result["memory_mib"], result["memory_peak_mib"] = operator.memory_mib()
            say("idle"), result.update(idle=await idle(operator, options.idle))
            say("kill -9 and restart"), result.update(restart=await restart(client, timeline, operator, namespace))
        watching.cancel()
        if not options.keep:
            async with session.delete(f"{connection.server}/api/v1/namespaces/{namespace}") as response:
                await response.read()
    if options.audit_log:
        result["audit"] = requests_of(options.audit_log, namespace, len(timeline.sent))
    return result


def say(what: str) -> None:
    """Progress, for a person."""
    print(f"{time.strftime('%H:%M:%S')}  {what}", file=sys.stderr, flush=True)


def table(result: Result, prefix: str = "") -> list[tuple[str, str]]:
    """The result as rows."""
    rows: list[tuple[str, str]] = []
    for name, value in result.items():
        rows += table(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, str(value))]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=10, help="objects a second")
    parser.add_argument("--seconds", type=int, default=30, help="how long")
    parser.add_argument("--burst", type=int, default=500, help="objects at once")
    parser.add_argument("--objects", type=int, default=1000, help="objects at which the operator is restarted")
    parser.add_argument("--idle", type=int, default=20, help="seconds of doing nothing")
    parser.add_argument("--audit-log", type=Path, help="audit log of the API server (policy level Metadata or more)")
    parser.add_argument("--output", type=Path, help="write the result as JSON")
    parser.add_argument(
        "--log", type=Path, default=Path("/tmp/trimtab-benchmark-operator.log"), help="log of the operator"
    )
    parser.add_argument("--module", default="-m trimtab_operator", help="what Python runs")
    parser.add_argument("--keep", action="store_true", help="leave the namespace behind")
    parser.add_argument(
        "--this-cluster", action="store_true", help="use KUBECONFIG's cluster instead of a control plane of its own"
    )
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        if not options.this_cluster:
            say("starting etcd, kube-apiserver and kube-controller-manager")
            plane = stack.enter_context(ControlPlane(controllers=True))
            os.environ["KUBECONFIG"] = str(plane.kubeconfig)
            options.audit_log = plane.audit_log
        install_crds()
        result = asyncio.run(benchmark(dataclasses.replace(connect(), agent="trimtab-benchmark"), options))
    for name, value in table(result):
        print(f"{name:44} {value:>12}")
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
