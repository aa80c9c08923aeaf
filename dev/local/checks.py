"""Checks of what is deployed: the chart by Helm, and every manifest by a real API server."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import environment
from paths import REPOSITORY
from progress import StepFailedError, say

_CHART = REPOSITORY / "charts" / "trimtab"
_CRDS = REPOSITORY / "crds"
_EXAMPLES = REPOSITORY / "examples"
_GITOPS = _EXAMPLES / "gitops"
_ENVIRONMENTS = ("dev", "staging", "prod")


def _tool(name: str) -> str:
    """Ours where the local cluster made it, else the user's."""
    ours = environment.BIN / name
    found = str(ours) if ours.exists() else shutil.which(name)
    if not found:
        raise StepFailedError(f"{name} is not on PATH: install it, or run `make up` first, which makes it.")
    return found


def _run(*command: str | Path, stdin: str | None = None, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(list(command), input=stdin, capture_output=True, text=True, check=False, env=env)
    if done.returncode != 0:
        raise StepFailedError(f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _values() -> list[Path | None]:
    """The defaults, and every set of values kept for this purpose."""
    return [None, *sorted((_CHART / "ci").glob("*.yaml"))]


def _rendered(values: Path | None) -> str:
    more = ["--values", str(values)] if values else []
    return _run(_tool("helm"), "template", "trimtab", _CHART, "--namespace", "default", *more)


def helm_lint() -> None:
    """`helm lint --strict`, and the chart rendered."""
    for values in _values():
        more = ["--values", str(values)] if values else []
        _run(_tool("helm"), "lint", "--strict", "--quiet", _CHART, *more)
        say(f"   chart with {values.name if values else 'default values'}: {_rendered(values).count('kind: ')} objects")


def manifests() -> None:
    """Server-side dry runs of the rendered chart and of every example; nothing stays behind."""
    env = environment.exports()
    kubectl = _tool("kubectl")
    made = _bring_crds(kubectl, env)
    try:
        for values in _values():
            _dry_run(kubectl, _rendered(values), env=env)
            say(f"   accepted: chart with {values.name if values else 'default values'}")
        for example in sorted(_EXAMPLES.rglob("*.yaml")):
            if _GITOPS not in example.parents:
                ours, others = _by_presence(example.read_text(), _run(kubectl, "api-versions", env=env).split())
                _dry_run(kubectl, "\n---\n".join(ours), env=env)
                left_out = f" (NOT CHECKED, this cluster has no {', '.join(others)})" if others else ""
                say(f"   accepted: {example.relative_to(REPOSITORY)}{left_out}")
        for environment_folder in _ENVIRONMENTS:
            built = _run(kubectl, "kustomize", _GITOPS / "repository" / environment_folder, env=env)
            # Its namespace is not in this cluster.
            _dry_run(kubectl, re.sub(r"^  namespace: .*\n", "", built, flags=re.MULTILINE), env=env)
            say(f"   accepted: examples/gitops/repository/{environment_folder}, as kustomize builds it")
    finally:
        if made:
            _run(kubectl, "delete", *[word for file in made for word in ("-f", str(file))], env=env)


def _by_presence(manifest: str, api_versions: list[str]) -> tuple[list[str], list[str]]:
    """The documents whose API the cluster has, and the kinds of the others: KServe's, whose CRD the integration tests bring."""
    ours, others = [], []
    for document in manifest.split("\n---\n"):
        api_version, kind = (
            re.search(rf"^{field}: *(\S+)", document, re.MULTILINE) for field in ("apiVersion", "kind")
        )
        if api_version and kind and api_version[1] not in api_versions:
            others.append(kind[1])
        else:
            ours.append(document)
    return ours, others


def _dry_run(kubectl: str, manifest: str, *, env: dict[str, str]) -> None:
    _run(
        kubectl,
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "--validate=strict",
        "--namespace",
        "default",
        "-f",
        "-",
        stdin=manifest,
        env=env,
    )


def _bring_crds(kubectl: str, env: dict[str, str]) -> list[Path]:
    """Our CRDs as they are in this checkout; those that were made here, to be deleted again.

    A cluster of the user's keeps those that it has: they belong to somebody. The local one may have them from an earlier checkout.
    """
    listed = json.loads(_run(kubectl, "get", "crds", "-o", "json", env=env))["items"]
    present = {crd["metadata"]["name"] for crd in listed}
    files = sorted(_CRDS.glob("*.yaml"))
    missing = [file for file in files if file.stem not in present]
    for file in missing if environment.users_cluster() else files:
        _run(kubectl, "apply", "--server-side", "--force-conflicts", "-f", file, env=env)
    for file in missing:
        _run(kubectl, "wait", "--for=condition=Established", f"crd/{file.stem}", "--timeout=30s", env=env)
    return missing
