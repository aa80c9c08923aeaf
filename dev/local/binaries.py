"""What is compiled from Go modules: once per machine, kept under a hash of what went in."""

import os
import shutil
from pathlib import Path

from paths import CACHE, REPOSITORY, digest_of
from progress import output_of, run, step

KUBERNETES_VERSION = "v1.35.4"
_VERSITYGW = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"
_COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl")
_MODULE = REPOSITORY / "dev" / "cluster"
_SMALL = "-s -w"
_MAJOR, _MINOR = KUBERNETES_VERSION.removeprefix("v").split(".")[:2]
# What Helm believes it talks to when it renders without a cluster; unstamped it says 1.20.
_HELM_STAMPS = (
    f"helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor={_MAJOR}",
    f"helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor={_MINOR}",
    f"helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor={_MAJOR}",
    f"helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor={_MINOR}",
)


def _go() -> str:
    return output_of(["go", "env", "GOVERSION", "GOARCH"]).replace("\n", " ")


def _folder(name: str, *inputs: str | Path) -> Path:
    return CACHE / "bin" / f"{name}-{digest_of(_go(), *inputs)}"


def _compile(folder: Path, command: list[str], *, cwd: Path, log: str) -> None:
    """Build into a folder beside the final one and rename: an interrupted build leaves nothing that looks whole."""
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        # GOFLAGS: no version control stamp, so that a checkout without .git builds the same.
        run(command, log=log, cwd=cwd, env={"GOBIN": str(partial), "OUT": str(partial), "GOFLAGS": "-buildvcs=false"})
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def kubernetes() -> Path:
    """The folder with every Kubernetes component, all of them one program under several names."""
    sources = (_MODULE / "go.mod", _MODULE / "go.sum", _MODULE / "main.go")
    folder = _folder("kubernetes", KUBERNETES_VERSION, *sources)
    if not (folder / "kubectl").exists():
        with step(
            f"Compiling Kubernetes {KUBERNETES_VERSION}", "8-12 min the first time, 25 s when Go's cache is warm"
        ):
            stamp = f"-X k8s.io/component-base/version.gitVersion={KUBERNETES_VERSION}"
            build = f'go build -ldflags "{_SMALL} {stamp}" -o "$OUT/kube" .'
            links = " && ".join(f'ln -s kube "$OUT/{component}"' for component in _COMPONENTS)
            _compile(folder, ["sh", "-c", f"{build} && {links}"], cwd=_MODULE, log="compile-kubernetes")
    return folder


def tools() -> Path:
    """The folder with CoreDNS and Helm."""
    module = _MODULE / "tools"
    folder = _folder("tools", module / "go.mod", module / "go.sum", module / "coredns", *_HELM_STAMPS)
    if not (folder / "helm").exists():
        with step("Compiling CoreDNS and Helm", "2-3 min the first time"):
            stamps = " ".join(f"-X {stamp}" for stamp in _HELM_STAMPS)
            build = f'go build -ldflags "{_SMALL} {stamps}" -o "$OUT/" ./coredns helm.sh/helm/v3/cmd/helm'
            _compile(folder, ["sh", "-c", build], cwd=module, log="compile-tools")
    return folder


def kstatus() -> Path:
    """The program that computes what GitOps tools make of an object, by their own libraries."""
    module = REPOSITORY / "dev" / "kstatus"
    folder = _folder("kstatus", module)
    if not (folder / "kstatus").exists():
        with step("Compiling kstatus and Flux's evaluator", "1-2 min the first time"):
            build = f'go build -ldflags "{_SMALL}" -o "$OUT/" .'
            _compile(folder, ["sh", "-c", build], cwd=module, log="compile-kstatus")
    return folder / "kstatus"


def object_store() -> Path:
    """The folder with the S3 server."""
    folder = _folder("versitygw", _VERSITYGW)
    if not (folder / "versitygw").exists():
        with step("Compiling the S3 server (versitygw)", "2-3 min the first time"):
            _compile(folder, ["go", "install", "-ldflags", _SMALL, _VERSITYGW], cwd=CACHE, log="compile-store")
    return folder
