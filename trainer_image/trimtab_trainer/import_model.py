"""Importing: a copy of somebody's model or adapter becomes a version, with a manifest like any that was trained here."""

from functools import partial
from pathlib import Path

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.messages import PublishedModel, VersionReply
from trimtab_trainer.contract.methods import HeadOnly, Lora, Method
from trimtab_trainer.contract.objectives import Objective, Supervised
from trimtab_trainer.contract.run_config import (
    JobIdentity,
    ResolvedModelVersion,
    RunConfig,
    VersionImport,
    VersionJobConfig,
)
from trimtab_trainer.contract.spec import (
    Checkpoints,
    Data,
    DataSource,
    Distribution,
    ModelSource,
    Output,
    Training,
)
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.fetch import s3
from trimtab_trainer.fetch.by_uri import fetch_model
from trimtab_trainer.fetch.source import materialize, wanted_model
from trimtab_trainer.publishing.publish import ModelOrigin, publish
from trimtab_trainer.store.object_store import ObjectStore

_ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
_SUFFIXES = (".safetensors", ".json", ".jinja", ".model", ".tiktoken", ".txt", ".md")
_OURS = ("manifest.json", "provenance.json")
"""What an earlier publication said of other bytes at another place."""


def import_model(
    config: VersionJobConfig, source: VersionImport, *, store: ObjectStore, scratch: Path
) -> PublishedModel:
    """Fetch, publish a copy under the version's place, read it back. Doing it again gives the same.

    Raises:
        TrainerError: ModelNotFound, ModelInvalid (pickles, or no adapter), ConfigInvalid where the version's place is taken.
    """
    directory = fetch_import(source, store=store, scratch=scratch)
    origin = ModelOrigin(
        base_model_digest=source.base_model.digest, datasets=[], metrics={}, step=0, format=source.format
    )
    return publish(
        directory,
        store=store,
        config=_run_config(config, source),
        reserve=partial(_only_place, source),
        origin=origin,
    )


def fetch_import(source: VersionImport, *, store: ObjectStore, scratch: Path) -> Path:
    """The files that make a model or an adapter, and nothing that could run code."""
    if source.format == "safetensors":
        return fetch_model(ModelSource(uri=source.uri), store=store, directory=scratch / "import").path
    wanted = wanted_model(source.uri)
    found = [
        file
        for file in s3.folder(store, wanted)
        if "/" not in file.path and file.path.endswith(_SUFFIXES) and file.path not in _OURS
    ]
    missing = [name for name in _ADAPTER if name not in {file.path for file in found}]
    if missing:
        raise wanted.unusable(
            f"it is no adapter of peft: {' and '.join(missing)} is missing. Weights must be safetensors."
        )
    path = scratch / "import" / "adapter"
    materialize(found, path, wanted=wanted)
    return path


def resolved(source: VersionImport, published: PublishedModel) -> ResolvedModelVersion:
    """The version that the import has become."""
    return ResolvedModelVersion(
        name=source.name,
        artifact_uri=published.uri,
        manifest_sha256=published.manifest_sha256,
        format=published.format,
        base_model=source.base_model,
    )


def _only_place(source: VersionImport, taken: list[int]) -> VersionReply:
    """A version that a person numbered cannot take another number."""
    if taken:
        raise TrainerError(
            TrainerReason.CONFIG_INVALID,
            f"The store already holds another model as version {source.version} of '{source.model_name}': "
            "create the ModelVersion with the next free number.",
        )
    return VersionReply(name=source.name, version=source.version)


def _run_config(config: VersionJobConfig, source: VersionImport) -> RunConfig:
    """What publishing wants to know of a run: here, that nothing was trained."""
    return RunConfig(
        job=JobIdentity(namespace=config.namespace, name=source.name, uid=source.uid),
        attempt=1,
        model=source.base_model,
        task=config.task,
        objective=Objective(supervised=Supervised()),
        method=Method(lora=Lora()) if source.format == "peftAdapter" else Method(head_only=HeadOnly()),
        data=Data(train=[DataSource(uri="s3://imported/nothing")]),
        training=Training(),
        distribution=Distribution(),
        checkpoints=Checkpoints(),
        output=Output(model_name=source.model_name),
        store=config.store,
    )
