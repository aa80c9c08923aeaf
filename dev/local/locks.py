"""The images' lists of dependencies: resolved from pyproject.toml once, committed, installed as they stand."""

import os
import tempfile
import tomllib
from pathlib import Path

from packages import ensure_uv
from paths import CACHE, REPOSITORY, digest_of, write
from progress import StepFailedError, run, step

_PYTHON = "3.13"
_OPERATOR = REPOSITORY / "operator" / "requirements.txt"
_TRAINER = REPOSITORY / "trainer_image" / "requirements.txt"
_TESTS = REPOSITORY / "dev" / "images" / "test-requirements.txt"


def _header() -> str:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = [
        project["dependencies"],
        *(project["optional-dependencies"][key] for key in sorted(project["optional-dependencies"])),
    ]
    return f"# Made by `make lock` from pyproject.toml, dependencies {digest_of(repr(wanted))}. Do not edit.\n"


def _resolve(*extras: str, known: Path, constraints: Path | None = None) -> list[str]:
    """Resolve extras of pyproject.toml; versions of the known list are kept where they still fit."""
    with tempfile.TemporaryDirectory(dir=CACHE) as directory:
        override, out = Path(directory) / "override.txt", Path(directory) / "out.txt"
        if known.exists() and not os.environ.get("UPGRADE"):
            out.write_text(known.read_text())
        # torch comes with the base image or by build argument: never by way of another package's dependencies.
        override.write_text("torch; sys_platform == 'never'\n")
        command: list[str | Path] = [
            ensure_uv(),
            "pip",
            "compile",
            "--quiet",
            "--no-annotate",
            "--no-header",
            "--python-version",
            _PYTHON,
            "--python-platform",
            "x86_64-manylinux_2_28",
            "--override",
            override,
            "--output-file",
            out,
            "pyproject.toml",
        ]
        for extra in extras:
            command += ["--extra", extra]
        if constraints:
            command += ["--constraints", constraints]
        run(command, log="lock", cwd=REPOSITORY, env={"UV_CACHE_DIR": str(CACHE / "uv")})
        return out.read_text().splitlines()


def write_locks() -> None:
    """Resolve the three lists anew."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with step("Resolving the images' dependencies", "10 s"):
        header = _header()
        _store(_OPERATOR, header, _resolve("operator", known=_OPERATOR))
        trainer = _resolve("trainer", "server", known=_TRAINER)
        _store(_TRAINER, header, trainer)
        everything = _resolve("trainer", "server", "dev", known=_TESTS, constraints=_TRAINER)
        _store(_TESTS, header, [line for line in everything if line not in trainer])


def _store(path: Path, header: str, lines: list[str]) -> None:
    write(path, header + "\n".join(lines) + "\n")


def check() -> None:
    """Fail when pyproject.toml changed and the lists did not."""
    for path in (_OPERATOR, _TRAINER, _TESTS):
        if not path.read_text().startswith(_header()):
            raise StepFailedError(
                f"{path.relative_to(REPOSITORY)} is older than pyproject.toml's dependencies: make lock"
            )
