"""What the machine itself must have: Debian packages, and uv in a virtual environment of its own."""

import os
import shutil
import sys
import tempfile
import venv
from pathlib import Path

from paths import CACHE, REPOSITORY, UV, write
from progress import StepFailedError, output_of, run, say, step, succeeds

# Programs the local cluster and the image builds need, and the Debian package that brings each.
_IMAGE_TOOLS = {"debootstrap": "debootstrap", "buildah": "buildah"}
_CLUSTER_TOOLS = {
    "etcd": "etcd-server",
    "containerd": "containerd",
    "runc": "runc",
    "nft": "nftables",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "openssl": "openssl",
}
# It imports OpenSSL and does not say so.
_MODEL_SIGNING = ("model-signing==1.1.1", "pyopenssl>=24")
_CLUSTER_FILES = {Path("/usr/lib/cni/ptp"): "containernetworking-plugins", Path("/bin/busybox"): "busybox-static"}


def _missing_packages(tools: dict[str, str], files: dict[Path, str]) -> list[str]:
    missing = [package for tool, package in tools.items() if shutil.which(tool, path=_system_path()) is None]
    missing += [package for file, package in files.items() if not file.exists()]
    return sorted(set(missing))


def _system_path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def _install(packages: list[str]) -> None:
    if not packages:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise StepFailedError(
            f"The local cluster needs these Debian packages: {' '.join(packages)}. Install them, run as root on "
            "Debian, or set KUBECONFIG to use a cluster of your own.",
        )
    with step(f"Installing Debian packages: {' '.join(packages)}", "30-60 s"), _no_service_starts():
        env = {"DEBIAN_FRONTEND": "noninteractive", "PYTHONDONTWRITEBYTECODE": ""}
        if not succeeds(["apt-get", "install", "--simulate", "--quiet", *packages]):
            run(["apt-get", "update"], log="apt", env=env)
        run(["apt-get", "install", "--yes", "--no-install-recommends", *packages], log="apt", env=env)


class _no_service_starts:  # noqa: N801 - reads as the context manager it is
    """Debian starts etcd and containerd when it installs them; ours run in a network namespace of their own."""

    _policy = Path("/usr/sbin/policy-rc.d")

    def __enter__(self) -> None:
        self._ours = not self._policy.exists()
        if self._ours:
            write(self._policy, "#!/bin/sh\nexit 101\n", mode=0o755)

    def __exit__(self, *_: object) -> None:
        if self._ours:
            self._policy.unlink(missing_ok=True)


def ensure_image_tools() -> None:
    """Programs that build images."""
    _install(image_tools_missing())


def image_tools_missing() -> list[str]:
    """The Debian packages that building images would install."""
    return _missing_packages(_IMAGE_TOOLS, {})


def ensure_cluster_tools() -> None:
    """Programs that run the cluster, except those that are compiled from Go modules."""
    _install(_missing_packages(_CLUSTER_TOOLS, _CLUSTER_FILES))
    if shutil.which("go") is None:
        raise StepFailedError("Go 1.25 or newer must be on PATH: the local cluster is compiled from Go modules.")


def ensure_prometheus() -> Path:
    """A Prometheus for tests: the one program out of Debian's package, which would start a service where it was installed."""
    program = CACHE / "bin" / "prometheus-debian" / "prometheus"
    if program.exists():
        return program
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise StepFailedError("Prometheus comes from Debian's packages: put a `prometheus` on PATH.")
    with step("Fetching Prometheus from Debian", "10 s"), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not succeeds(["apt-get", "download", "--print-uris", "prometheus"]):
            run(["apt-get", "update"], log="apt")
        run(["apt-get", "download", "prometheus"], log="apt", cwd=folder)
        (package,) = folder.glob("prometheus_*.deb")
        run(["dpkg-deb", "--extract", package, folder / "files"], log="apt")
        program.parent.mkdir(parents=True, exist_ok=True)
        partial = program.with_suffix(".partial")
        shutil.copy(folder / "files" / "usr" / "bin" / "prometheus", partial)
        partial.replace(program)
    return program


def ensure_model_signing() -> Path:
    """OpenSSF's `model_signing` for the tests that compare signatures with it, in an environment of its own: 25 packages that nothing else needs."""
    environment = CACHE / "model-signing-venv"
    program = environment / "bin" / "model_signing"
    stamp = environment / ".trimtab"
    wanted = " ".join(_MODEL_SIGNING)
    if stamp.exists() and stamp.read_text() == wanted:
        return program
    uv = ensure_uv()
    with step("Preparing OpenSSF's model_signing for tests", "10-30 s"):
        env = {"UV_CACHE_DIR": str(CACHE / "uv"), "PYTHONDONTWRITEBYTECODE": ""}
        run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, environment], log="setup", env=env)
        python = environment / "bin" / "python"
        run([uv, "pip", "install", "--quiet", "--python", python, *_MODEL_SIGNING], log="setup", env=env)
        write(stamp, wanted)
    return program


def ensure_uv() -> Path:
    """Install uv into the cache; cope with a Python without ensurepip and with an externally managed one."""
    if UV.exists() and succeeds([UV, "--version"]):
        return UV
    target = UV.parent.parent
    shutil.rmtree(target, ignore_errors=True)
    with step("Installing uv", "5 s"):
        clean = {"PYTHONDONTWRITEBYTECODE": ""}
        if succeeds([sys.executable, "-c", "import ensurepip"]):
            venv.create(target, with_pip=True)
            run([target / "bin" / "python", "-m", "pip", "install", "--quiet", "uv"], log="setup", env=clean)
        else:
            _install(["python3-pip"])
            venv.create(target, with_pip=False)
            run(
                [
                    sys.executable,
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--break-system-packages",
                    "--prefix",
                    str(target),
                    "--ignore-installed",
                    "uv",
                ],
                log="setup",
                env=clean,
            )
            _link_local_scripts(target)
    return UV


def _link_local_scripts(target: Path) -> None:
    """Debian's pip installs below `local/` of a prefix: link the program to where we look for it."""
    for script in target.glob("local/bin/uv"):
        UV.unlink(missing_ok=True)
        UV.symlink_to(script)


def ensure_venv() -> None:
    """The checkout's `.venv`: operator and development tools, the packages themselves in editable form."""
    environment = REPOSITORY / ".venv"
    _fill(environment, "operator,dev,cluster", "Preparing .venv with the operator and the development tools", "15-40 s")


def ensure_trainer_venv() -> Path:
    """A virtual environment for the trainer's tests where no image can be built: with PyPI's torch, it is large."""
    environment = CACHE / "trainer-venv"
    _fill(environment, "trainer,server,dev", "Preparing a virtual environment with torch from PyPI", "3-10 min")
    return environment


def _fill(environment: Path, extras: str, label: str, usually: str) -> None:
    uv = ensure_uv()
    stamp = environment / ".trimtab"
    wanted = (REPOSITORY / "pyproject.toml").read_text() + str(REPOSITORY)
    if stamp.exists() and stamp.read_text() == wanted:
        return
    with step(label, usually):
        env = {"UV_CACHE_DIR": str(CACHE / "uv"), "PYTHONDONTWRITEBYTECODE": "", "UV_COMPILE_BYTECODE": "1"}
        python = environment / "bin" / "python"
        if not python.exists():
            run([uv, "venv", "--quiet", "--python", sys.executable, environment], log="setup", env=env)
        install: list[str | Path] = [uv, "pip", "install", "--quiet", "--python", python, "--editable", f".[{extras}]"]
        run(install, log="setup", env=env, cwd=REPOSITORY)
        write(stamp, wanted)
    say(f"   {output_of([python, '--version']).strip()} in {environment}")
