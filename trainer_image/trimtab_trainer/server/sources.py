"""Where models come from: the store, with every byte verified before anything parses it."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from trimtab_trainer.contract import mounts
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.methods import ADAPTER_FORMATS
from trimtab_trainer.contract.run_config import ServedVersion, ServerConfig
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.fetch.by_uri import fetch_artifact, fetch_model
from trimtab_trainer.publishing.verify import check_signature
from trimtab_trainer.store.object_store import ObjectStore


@dataclass(frozen=True)
class BaseFiles:
    """The base model's verified files."""

    path: Path
    digest: str


class Source(Protocol):
    """Brings files to local disk. Called from worker threads; raises TrainerError."""

    def base(self, config: ServerConfig) -> BaseFiles:
        """The base model."""

    def version(self, config: ServerConfig, served: ServedVersion, base_digest: str) -> Path:
        """One version's artifact."""

    def discard(self, served: ServedVersion) -> None:
        """Give back the disk space of a version that is not in memory any more."""


class StoreSource:
    """The S3 store of the rollout's StorageProfile; hub and volumes for base models."""

    def __init__(self, directory: Path, *, credentials: Path = Path(mounts.CREDENTIALS_DIRECTORY)) -> None:
        self._directory, self._credentials = directory, credentials

    def base(self, config: ServerConfig) -> BaseFiles:
        """Download the base model; bytes other than its pinned digest are refused."""
        with ObjectStore.open(config.store, credentials=self._credentials) as store:
            fetched = fetch_model(
                config.base_model, store=store, directory=self._directory / "base", pin=config.base_model.digest
            )
        return BaseFiles(fetched.path, fetched.digest)

    def version(self, config: ServerConfig, served: ServedVersion, base_digest: str) -> Path:
        """Download a published model by its manifest, and make sure that it belongs to this base model.

        Raises:
            TrainerError: SignatureInvalid, DigestMismatch for other bytes or another base model, ModelInvalid for another format.
        """
        # What an interrupted download left behind must not be mistaken for files of the artifact.
        self.discard(served)
        target = self._folder(served)
        target.mkdir(parents=True)
        with ObjectStore.open(config.store, credentials=self._credentials) as store:
            check_signature(served, config.signatures, signed=served.signed, store=store)
            fetched = fetch_artifact(
                served.artifact_uri, manifest_sha256=served.manifest_sha256, store=store, directory=target
            )
        if fetched.manifest.format != served.format:
            raise TrainerError(
                TrainerReason.MODEL_INVALID,
                f"{served.name} is {fetched.manifest.format}, not {served.format} as configured.",
            )
        trained_on = fetched.manifest.base_model.digest
        if served.format in ADAPTER_FORMATS and trained_on and base_digest and trained_on != base_digest:
            raise TrainerError(
                TrainerReason.DIGEST_MISMATCH,
                f"{served.name} was trained on a base model with digest {trained_on}; this server has {base_digest}.",
            )
        return fetched.path

    def discard(self, served: ServedVersion) -> None:
        """Remove a version's files."""
        shutil.rmtree(self._folder(served), ignore_errors=True)

    def _folder(self, served: ServedVersion) -> Path:
        return self._directory / "versions" / served.name
