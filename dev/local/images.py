"""The images: which there are, what each is made of, and when one must be built again.

Each is tagged with a hash of everything it is made of. So nothing is built twice on this machine, a second clone reuses
the first one's images, and a changed source changes the tag, which is what makes `helm upgrade` replace pods.
"""

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import image_store
from packages import ensure_image_tools
from paths import CACHE, REPOSITORY, digest_of
from progress import run, step

_SUITE = "trixie"
_BASE_PACKAGES = "python3,python3-venv,ca-certificates"
_SMALLER = ["usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt", "var/lib/apt/lists"]
# Set on machines whose processor OpenBLAS misjudges; the pods run on the same processor.
_PROCESSOR_HINTS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
# The layers' time stamps are zero, so Debian's own bytecode counts as out of date; who starts Python in a read-only file
# system would compile the standard library, and torch, each time.
_COMPILE_PYTHON = "python3 -m compileall -q -f --invalidation-mode unchecked-hash /usr/lib/python3*"
_BASE_DOCKERFILE = "FROM scratch\nADD rootfs.tar /\n" + "".join(
    f"ENV {name}={os.environ[name]}\n" for name in _PROCESSOR_HINTS if os.environ.get(name)
)


@dataclass(frozen=True)
class Image:
    """One image and how it is made."""

    repository: str
    inputs: tuple[str | Path, ...]
    make: "Callable[[Image], None]"
    usually: str
    base: "Image | None" = None
    sources: Callable[[], tuple[str | Path, ...]] = tuple

    @cached_property
    def name(self) -> str:
        """The image's full name: its tag is a hash of what it is made of."""
        below = self.base.name if self.base else ""
        return f"localhost/{self.repository}:{digest_of(below, *self.inputs, *self.sources())}"

    def ensure(self) -> str:
        """Build the image, and first the one below it, unless it is there."""
        if self.name not in image_store.names():
            with image_store.exclusive():
                self._build()
        return self.name

    def _build(self) -> None:
        if self.name in image_store.names():
            return
        if self.base:
            self.base._build()  # noqa: SLF001 - of another object of this class
        ensure_image_tools()
        with step(f"Building {self.name}", self.usually):
            self.make(self)


@contextmanager
def _context(*sources: str) -> Iterator[Path]:
    """A build context with only these paths, without time stamps: a second clone must hit the same layer cache."""
    (CACHE / "tmp").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE / "tmp", prefix="context-") as directory:
        context = Path(directory)
        for source in sources:
            target = context / source
            target.parent.mkdir(parents=True, exist_ok=True)
            if source in _OPERATOR_SOURCES:
                shutil.copytree(_snapshot() / source, target)
            elif (REPOSITORY / source).is_dir():
                shutil.copytree(REPOSITORY / source, target)
            elif source.endswith(".txt"):
                target.write_text(_list(source))
            else:
                shutil.copy(REPOSITORY / source, target)
        for path in [context, *context.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
            os.utime(path, (0, 0))
        yield context


def _make_base(image: Image) -> None:
    (CACHE / "tmp").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE / "tmp", prefix="base-") as directory:
        root, context = Path(directory) / "root", Path(directory) / "context"
        context.mkdir()
        run(
            [
                *image_store.PRIVATE_MOUNTS,
                "debootstrap",
                "--variant=minbase",
                f"--include={_BASE_PACKAGES}",
                _SUITE,
                root,
            ],
            log="images",
        )
        run(["chroot", root, "sh", "-c", _COMPILE_PYTHON], log="images")
        for directory_name in _SMALLER:
            for entry in (root / directory_name).iterdir():
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        run(
            ["tar", "--create", "--file", context / "rootfs.tar", "--directory", root, "--exclude=./dev/*", "."],
            log="images",
        )
        dockerfile = Path(directory) / "Dockerfile"
        dockerfile.write_text(_BASE_DOCKERFILE)
        image_store.build(dockerfile, name=image.name, context=context, arguments={})


def _from_dockerfile(path: str, *sources: str, target: str = "") -> Callable[[Image], None]:
    def make(image: Image) -> None:
        below = image.base
        while below and target and below.repository.endswith("-dependencies"):
            below = below.base  # the dependency image is a stage of the same Dockerfile
        arguments = {"BASE_IMAGE": below.name if below else ""}
        with _context(*sources) as context:
            image_store.build(REPOSITORY / path, name=image.name, context=context, arguments=arguments, target=target)

    return make


def _stage(dockerfile: str, *, dependencies: bool) -> str:
    """One half of a Dockerfile: an edit of the last lines must not install the dependencies anew."""
    first, second = (REPOSITORY / dockerfile).read_text().split(" AS dependencies\n")[1].split("FROM dependencies AS ")
    return first if dependencies else second


@cache
def _snapshot() -> Path:
    """Our sources as they are now: the tag and the image must be of the same moment, whoever edits meanwhile."""
    (CACHE / "tmp").mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=CACHE / "tmp", prefix="sources-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for source in _OPERATOR_SOURCES:
        shutil.copytree(REPOSITORY / source, folder / source, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    return folder


def _sources(*folders: str) -> Callable[[], tuple[str | Path, ...]]:
    def inputs() -> tuple[str | Path, ...]:
        files = (f for folder in folders for f in sorted((_snapshot() / folder).rglob("*")) if f.is_file())
        return tuple(part for file in files for part in (str(file.relative_to(_snapshot())), file))

    return inputs


def _list(path: str) -> str:
    """A list of dependencies without its comments: they name a hash that also changes for other reasons."""
    return "".join(line for line in (REPOSITORY / path).read_text().splitlines(keepends=True) if line[0] not in "#\n")


def _file(path: str) -> Path:
    return REPOSITORY / path


_OPERATOR, _TRAINER = "operator/Dockerfile", "trainer_image/Dockerfile"
_OPERATOR_SOURCES = ("operator/trimtab_operator", "trainer_image/trimtab_trainer")
_TRAINER_SOURCES = ("trainer_image/trimtab_trainer",)
_OPERATOR_LIST, _TRAINER_LIST = "operator/requirements.txt", "trainer_image/requirements.txt"
_TEST_LIST = "dev/images/test-requirements.txt"
_STAND_IN, _STAND_IN_SOURCE = "dev/images/vllm-stand-in.Dockerfile", "tests/support/vllm_stand_in.py"

BASE = Image("trimtab-base", (_SUITE, _BASE_PACKAGES, _BASE_DOCKERFILE, _COMPILE_PYTHON), _make_base, "45-80 s")
TORCH = Image(
    "trimtab-torch",
    (_file("dev/images/torch.Dockerfile"),),
    _from_dockerfile("dev/images/torch.Dockerfile"),
    "110-150 s",
    base=BASE,
)
TRAINER_DEPENDENCIES = Image(
    "trimtab-trainer-dependencies",
    (_stage(_TRAINER, dependencies=True), _list(_TRAINER_LIST)),
    _from_dockerfile(_TRAINER, _TRAINER_LIST, target="dependencies"),
    "50-80 s",
    base=TORCH,
)
TRAINER_TESTS = Image(
    "trimtab-trainer-tests",
    (_file("dev/images/trainer-tests.Dockerfile"), _list(_TEST_LIST)),
    _from_dockerfile("dev/images/trainer-tests.Dockerfile", _TEST_LIST),
    "30-50 s",
    base=TRAINER_DEPENDENCIES,
)
VLLM_STAND_IN = Image(
    "trimtab-vllm-stand-in",
    (_file(_STAND_IN), _file(_STAND_IN_SOURCE)),
    _from_dockerfile(_STAND_IN, _STAND_IN_SOURCE),
    "2 s",
    base=TRAINER_DEPENDENCIES,
)
OPERATOR_DEPENDENCIES = Image(
    "trimtab-operator-dependencies",
    (_stage(_OPERATOR, dependencies=True), _list(_OPERATOR_LIST)),
    _from_dockerfile(_OPERATOR, _OPERATOR_LIST, target="dependencies"),
    "20-30 s",
    base=BASE,
)
TRAINER = Image(
    "trimtab-trainer",
    (_stage(_TRAINER, dependencies=False),),
    _from_dockerfile(_TRAINER, _TRAINER_LIST, *_TRAINER_SOURCES, target="trainer"),
    "2 s",
    base=TRAINER_DEPENDENCIES,
    sources=_sources(*_TRAINER_SOURCES),
)
OPERATOR = Image(
    "trimtab-operator",
    (_stage(_OPERATOR, dependencies=False),),
    _from_dockerfile(_OPERATOR, _OPERATOR_LIST, *_OPERATOR_SOURCES, target="operator"),
    "2 s",
    base=OPERATOR_DEPENDENCIES,
    sources=_sources(*_OPERATOR_SOURCES),
)
