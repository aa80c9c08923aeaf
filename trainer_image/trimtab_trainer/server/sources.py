"""Where models come from: the store, with every byte verified before anything parses it."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from trimtab_trainer.contract import mounts
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.run_config import ServedVersion, ServerConfig, SignaturePolicy
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.fetch import s3
from trimtab_trainer.fetch.by_uri import fetch_artifact, fetch_model
from trimtab_trainer.publishing.signature import SIGNATURE_PATH, SignatureError, verify
from trimtab_trainer.store.errors import ObjectNotFoundError
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
            check_signature(served, config.signatures, store=store)
            fetched = fetch_artifact(
                served.artifact_uri, manifest_sha256=served.manifest_sha256, store=store, directory=target
            )
        if fetched.manifest.format != served.format:
            raise TrainerError(
                TrainerReason.MODEL_INVALID,
                f"{served.name} is {fetched.manifest.format}, not {served.format} as configured.",
            )
        trained_on = fetched.manifest.base_model.digest
        if served.format == "peftAdapter" and trained_on and base_digest and trained_on != base_digest:
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


def check_signature(served: ServedVersion, policy: SignaturePolicy, *, store: ObjectStore) -> None:
    """A signature must hold by a trusted key, before anything of the model is fetched. Without trusted keys nothing is checked.

    What is signed is the manifest, whose digest the ModelVersion pins and which has the digest of every file.

    Raises:
        TrainerError: SignatureInvalid for a signature that does not hold, or is missing where it is required.
    """
    if not policy.public_keys:
        return
    bucket, prefix = s3.split_uri(served.artifact_uri.removesuffix("/manifest.json").rstrip("/"))
    key = f"{prefix}/{SIGNATURE_PATH}"
    try:
        verify(store.get(key, bucket=bucket), served.manifest_sha256, policy.public_keys)
    except ObjectNotFoundError as error:
        if policy.required or served.signed:
            raise _unsigned(served, f"there is no {store.uri(key, bucket)}") from error
    except SignatureError as error:
        raise _unsigned(served, f"{store.uri(key, bucket)}: {error}") from error


def _unsigned(served: ServedVersion, why: str) -> TrainerError:
    return TrainerError(
        TrainerReason.SIGNATURE_INVALID,
        f"{served.name} is not loaded, because its signature does not hold: {why}. Publish it again with output.sign, or correct "
        "signing.publicKeys of the TrainingProfile.",
    )
