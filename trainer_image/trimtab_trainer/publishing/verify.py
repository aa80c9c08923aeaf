"""Reading a published model back: every byte through a hash, nothing kept."""

from concurrent.futures import ThreadPoolExecutor

from pydantic import ValidationError

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.manifests import FileEntry, ModelManifest, sha256_hex
from trimtab_trainer.contract.messages import Verification
from trimtab_trainer.contract.run_config import ResolvedModelVersion, ServedVersion, SignaturePolicy
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.fetch.s3 import split_uri
from trimtab_trainer.publishing import signature
from trimtab_trainer.publishing.signature import SIGNATURE_PATH
from trimtab_trainer.store.errors import ObjectNotFoundError
from trimtab_trainer.store.object_store import ObjectStore

_PARALLEL_FILES = 4
_SHOWN = 3
_MESSAGE = 512


def verify(version: ResolvedModelVersion, store: ObjectStore) -> Verification:
    """Compare the manifest with the ModelVersion, and every file with the manifest.

    Raises:
        TrainerError: the store's errors, which prove nothing about the bytes.
    """
    bucket, key = split_uri(version.artifact_uri.removesuffix("/manifest.json").rstrip("/"))
    uri = f"s3://{bucket}/{key}"
    try:
        data = store.get(f"{key}/manifest.json", bucket=bucket)
    except ObjectNotFoundError:
        return Verification(holds=False, message=f"There is no manifest.json at {uri}.")
    if sha256_hex(data) != version.manifest_sha256:
        return Verification(
            holds=False,
            message=f"{uri}/manifest.json has sha256 {sha256_hex(data)}, and the ModelVersion says {version.manifest_sha256}.",
        )
    try:
        manifest = ModelManifest.parse(data)
    except ValidationError:
        return Verification(holds=False, message=f"{uri}/manifest.json is no manifest of a model.")

    def problem_of(entry: FileEntry) -> str:
        try:
            found = store.read_sha256(f"{key}/{entry.path}", bucket=bucket)
        except ObjectNotFoundError:
            return f"{entry.path} is missing"
        return "" if found == entry.sha256 else f"{entry.path} has sha256 {found}, and its manifest says {entry.sha256}"

    with ThreadPoolExecutor(_PARALLEL_FILES, thread_name_prefix="verify") as pool:
        problems = [problem for problem in pool.map(problem_of, manifest.files) if problem]
    return _verdict(problems, manifest, uri)


def check_signature(
    version: ServedVersion | ResolvedModelVersion, policy: SignaturePolicy, *, signed: bool, store: ObjectStore
) -> None:
    """A signature must hold by a trusted key. Without trusted keys nothing is checked.

    What is signed is the manifest, whose digest the ModelVersion pins and which has the digest of every file.

    Args:
        version: where it is, and the digest of its manifest.
        policy: whom to believe.
        signed: the ModelVersion has a signature: one that is gone from the store is missed.
        store: the endpoint and credentials.

    Raises:
        TrainerError: SignatureInvalid for a signature that does not hold, or is missing where it is required.
    """
    if not policy.public_keys:
        return
    bucket, prefix = split_uri(version.artifact_uri.removesuffix("/manifest.json").rstrip("/"))
    key = f"{prefix}/{SIGNATURE_PATH}"
    try:
        signature.verify(store.get(key, bucket=bucket), version.manifest_sha256, policy.public_keys)
    except ObjectNotFoundError as error:
        if policy.required or signed:
            raise _invalid(version.name, f"there is no {store.uri(key, bucket)}") from error
    except signature.SignatureError as error:
        raise _invalid(version.name, f"{store.uri(key, bucket)}: {error}") from error


def _invalid(name: str, why: str) -> TrainerError:
    return TrainerError(
        TrainerReason.SIGNATURE_INVALID,
        f"The signature of {name} does not hold: {why}. It is not loaded. Publish it again with output.sign, or correct "
        "signing.publicKeys of the TrainingProfile.",
    )


def _verdict(problems: list[str], manifest: ModelManifest, uri: str) -> Verification:
    if not problems:
        size = sum(entry.size for entry in manifest.files)
        return Verification(
            holds=True, message=f"All {len(manifest.files)} files ({size} bytes) at {uri} match their digests."
        )
    more = f" and {len(problems) - _SHOWN} more files" if len(problems) > _SHOWN else ""
    said = f"{'; '.join(problems[:_SHOWN])}{more}. Somebody changed what was published at {uri}: restore it, or use another version."
    return Verification(holds=False, message=said[:_MESSAGE])
