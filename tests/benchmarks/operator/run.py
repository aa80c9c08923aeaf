"""Benchmark of the operator against a real API server, alone or side by side with Kubeflow Trainer's controllers.

    make bench-operator [ARGS="--peer"]                    or, with etcd and kube-apiserver on PATH:
    python tests/benchmarks/operator/run.py [--peer] [--output result.json]

It starts etcd, kube-apiserver and the Job controller on loopback, with their own limits (`--this-cluster` uses KUBECONFIG's cluster
instead; it must not run another Trimtab), and runs the operator from source as a local process. A turn creates FineTuneJobs whose
Jobs stay suspended (`spec.runPolicy.queueName` names a queue that nobody serves): at 10 a second for 30 s, then a burst of 500. With
`--peer` the installations take turns on the same control plane, one at a time. From the peer's TrainJobs its two controllers make
JobSets and Jobs, and it has two turns: with suspended TrainJobs, whose Jobs are suspended as ours are; and, its best case, with
others, for each of which Trainer's controller writes once, and whose Jobs the Job controller leaves alone, so that there are no
pods. kubeflow.py says what else favours it. Then the operator gets 1,000 objects, is left alone, killed and started again, and 150
more jobs go from created to succeeded, with a stand-in for kubelets. Everything shares the machine with the control plane.

The Job controller writes the status of every Job, and may send 20 requests a second. In a burst it follows later, and leaves the
processor to who creates Jobs. Whole jobs would wait for it, so it may do more there, and with `--many-jobs` in the turns too.

Latency is from the answer to the create request (accepted) to the Job or JobSet on a watch (seen), on the generator's clock.
Processor time and memory are those of all processes of an installation. `way` is, by the API server's clock, when each write for an
object arrived and was answered, in milliseconds after the object was accepted.
Run it on a quiet machine; the load average is printed beside the result.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

# Run as a script, from any directory and without an installed test package.
sys.path.append(str(Path(__file__).resolve().parents[3]))

import kubeflow
from contenders import Contender, install_trimtab, kubeflow_trainer, trimtab
from scale import at_scale
from tests.support.control_plane import MANY_JOBS, ControlPlane
from turn import turn

from trimtab_operator.cluster.connection import Connection, connect

Result = dict[str, Any]
_UNTIL_KNOWN_SECONDS = 35
"""It looks for new kinds every 30 s. Until then it reads the owner of each new object, which no cluster does for long."""
ROWS = {
    "version": "version",
    "steady_p50_ms": "steady load, accepted until the Job is seen, ms: p50",
    "steady_p90_ms": "p90",
    "steady_p99_ms": "p99",
    "steady_max_ms": "largest",
    "jobset_steady_p50_ms": "until the JobSet is seen, ms: p50",
    "jobset_steady_p90_ms": "p90",
    "jobset_steady_p99_ms": "p99",
    "jobset_steady_max_ms": "largest",
    "burst_per_second": "burst: Jobs a second",
    "jobset_burst_per_second": "JobSets a second",
    "burst_cpu_ms_per_object": "processor time for an object in the burst, ms: controllers",
    "burst_api_server_cpu_ms_per_object": "API server",
    "memory_mib_empty": "memory, MiB: empty",
    "memory_mib": "after the burst",
}
"""What is told of each controller, and what it is called; in brackets what each turn had."""


async def benchmark(connection: Connection, options: argparse.Namespace, plane: ControlPlane | None) -> Result:
    """The whole run. `plane`: where it is ours."""
    api_server = plane.pids()["kube-apiserver"] if plane is not None else None
    ours = trimtab(options.module)
    contenders = [ours]
    if options.peer:
        contenders += [kubeflow_trainer(suspend=suspend) for suspend in (True, False)]
    result: Result = {"load_average": round(os.getloadavg()[0], 1), "cpus": os.cpu_count()}
    turns: dict[str, list[Result]] = {contender.name: [] for contender in contenders}
    for number in range(options.rounds or min(2, len(contenders))):
        for contender in contenders:
            say(f"round {number + 1}: {contender.name} {contender.version}")
            turns[contender.name].append(await turn(connection, contender, options, api_server))
    for contender in contenders:
        result[contender.name] = summary(contender, turns[contender.name])
    show_contenders(result)
    if options.objects:
        if plane is not None:
            plane.start_controllers(MANY_JOBS)
        say(f"{options.objects} objects, {options.idle} idle seconds, kill -9 and restart")
        result["at_scale"] = await at_scale(connection, ours, options)
    return result


def summary(contender: Contender, turns: list[Result]) -> Result:
    """All turns of a controller together; what was measured in each is kept in brackets."""
    found: Result = {"version": contender.version}
    for kind in contender.work.children:
        found |= {_row(kind, name): value for name, value in _speed(kind, turns).items()}
    for name in (
        "burst_cpu_ms_per_object",
        "burst_api_server_cpu_ms_per_object",
        "memory_mib_empty",
        "memory_mib",
    ):
        found[name] = _mean([one[name] for one in turns])
    return found | {name: turns[-1][name] for name in ("way", "writes") if name in turns[-1]}


def _speed(kind: str, turns: list[Result]) -> Result:
    """How soon objects of a kind were there, and how many a second."""
    steady = [one["steady_ms"][kind] for one in turns]
    pooled = sorted(latency for one in steady for latency in one)
    each = {share: [percentile(one, share) for one in steady] for share in (50, 99)}
    return {
        "steady_p50_ms": f"{percentile(pooled, 50)} {each[50]}",
        "steady_p90_ms": str(percentile(pooled, 90)),
        "steady_p99_ms": f"{percentile(pooled, 99)} {each[99]}",
        "steady_max_ms": str(round(pooled[-1], 1)),
        "burst_per_second": _mean([one["burst_per_second"][kind] for one in turns]),
    }


def _row(kind: str, name: str) -> str:
    return name if kind == "Job" else f"{kind.lower()}_{name}"


def _mean(values: list[float]) -> str:
    return f"{round(statistics.mean(values), 1)} {[round(value, 1) for value in values]}"


def percentile(ordered: list[float], share: int) -> float:
    """Of sorted values."""
    return round(ordered[min(len(ordered) - 1, len(ordered) * share // 100)], 1)


def say(what: str) -> None:
    """Progress, for a person."""
    print(f"{time.strftime('%H:%M:%S')}  {what}", file=sys.stderr, flush=True)


def contenders_of(result: Result) -> list[str]:
    """Those that took turns."""
    return [name for name, value in result.items() if isinstance(value, dict) and "version" in value]


def show_contenders(result: Result) -> None:
    """Side by side, as a table of Markdown."""
    names = contenders_of(result)
    print("| what | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
    for row, label in ROWS.items():
        if any(row in result[name] for name in names):
            print(f"| {label} | " + " | ".join(str(result[name].get(row, "")) for name in names) + " |")
    print("".join(f"\n{line}" for name in names for line in details(name, result[name])), flush=True)


def show_rest(result: Result) -> None:
    """The machine, and what was measured without a peer."""
    names = contenders_of(result)
    for name, value in flat({name: value for name, value in result.items() if name not in names}):
        print(f"{name:44} {value:>12}")


def details(name: str, found: Result) -> list[str]:
    """What has rows of its own for each controller."""
    return [
        f"{name}: {title} {step:44} {value}"
        for title in ("way", "writes")
        for step, value in found.get(title, {}).items()
    ]


def flat(result: Result, prefix: str = "") -> list[tuple[str, str]]:
    """The result as rows."""
    rows: list[tuple[str, str]] = []
    for name, value in result.items():
        rows += flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, str(value))]
    return rows


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", action="store_true", help="alternate with Kubeflow Trainer and JobSet")
    parser.add_argument("--rounds", type=int, help="turns of each controller (1, with a peer 2)")
    parser.add_argument("--rate", type=int, default=10, help="objects a second")
    parser.add_argument("--seconds", type=int, default=30, help="how long")
    parser.add_argument("--burst", type=int, default=500, help="objects at once")
    parser.add_argument("--objects", type=int, default=1000, help="objects at which the operator is restarted; 0: not")
    parser.add_argument("--lifecycles", type=int, default=150, help="jobs that succeed beside these objects; 0: not")
    parser.add_argument("--idle", type=int, default=20, help="seconds of doing nothing")
    parser.add_argument("--audit-log", type=Path, help="audit log of the API server (policy level Metadata or more)")
    parser.add_argument("--output", type=Path, help="write the result as JSON")
    parser.add_argument(
        "--log", type=Path, default=Path("/tmp/trimtab-benchmark-operator.log"), help="log of the controllers"
    )
    parser.add_argument("--module", default="-m trimtab_operator", help="what Python runs")
    parser.add_argument(
        "--many-jobs", action="store_true", help="let the Job controller do more at once in the turns too"
    )
    parser.add_argument(
        "--this-cluster", action="store_true", help="use KUBECONFIG's cluster instead of a control plane of its own"
    )
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    options = arguments()
    plane = None
    if options.peer:
        say(f"building Kubeflow Trainer {kubeflow.VERSION} and JobSet (8 minutes the first time)")
        kubeflow.build()
    with contextlib.ExitStack() as stack:
        if not options.this_cluster:
            say("starting etcd, kube-apiserver and kube-controller-manager")
            plane = stack.enter_context(ControlPlane(controllers=MANY_JOBS if options.many_jobs else ()))
            os.environ["KUBECONFIG"] = str(plane.kubeconfig)
            options.audit_log = plane.audit_log
        install_trimtab()
        if options.peer:
            kubeflow.install()
        say(f"{_UNTIL_KNOWN_SECONDS} s until the garbage collector has noticed the new kinds")
        time.sleep(_UNTIL_KNOWN_SECONDS)
        connection = dataclasses.replace(connect(), agent="trimtab-benchmark")
        result = asyncio.run(benchmark(connection, options, plane))
    show_rest(result)
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
