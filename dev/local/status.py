"""`make status` and `make logs`."""

import subprocess

import environment
import processes
from paths import CACHE, LOGS, STATE
from progress import say

_LINES = 40


def show() -> None:
    """Which daemons run, and what the cluster says."""
    if own := environment.users_cluster():
        say(f"Cluster: KUBECONFIG={own}")
    else:
        for name in processes.recorded():
            record = processes.running(name)
            say(f"   {name:<26}{f'runs, process {record.pid}' if record else 'DEAD: make up repairs it'}")
        if not processes.recorded():
            say("No local cluster runs: make up")
            return
    say(f"State: {STATE}   cache: {CACHE}   logs: {LOGS}")
    kubectl = environment.BIN / "kubectl" if (environment.BIN / "kubectl").exists() else "kubectl"
    env = environment.exports()
    for arguments in (["get", "nodes", "-o", "wide"], ["get", "pods", "--all-namespaces"]):
        subprocess.run([kubectl, *arguments], check=False, env=env)


def logs() -> None:
    """The end of every log of the local cluster."""
    for path in sorted(LOGS.glob("*.log")):
        if path.name != "audit.log":
            say(f"==> {path}")
            say("\n".join(path.read_text(errors="replace").splitlines()[-_LINES:]))
