"""provenance.json: an in-toto Statement v1 with a SLSA provenance v1 predicate, so that a model can be traced and made again.

Formats: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md and https://slsa.dev/spec/v1.0/provenance
"""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from trimtab_trainer.contract.manifests import canonical_json, config_sha256, run_identity
from trimtab_trainer.fetch.base_model import base_source
from trimtab_trainer.publishing.facts import PublicationFacts

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://slsa.dev/provenance/v1"
BUILD_TYPE: Final = "https://trimtab.dev/fine-tune/v1"
"""`externalParameters` are the run's identity: the SHA-256 of their canonical JSON is the version's `lineage.configDigest`."""
BUILDER: Final = "https://trimtab.dev/trainer"
PROVENANCE_PATH: Final = "provenance.json"
_LISTING: Final = "canonical JSON of the listing of its files with their sizes and SHA-256"


def write_provenance(facts: PublicationFacts, directory: Path) -> Path:
    """State what every file in `directory` was made from. The last file that is written before publishing."""
    path = directory / PROVENANCE_PATH
    path.write_bytes(canonical_json(statement(facts, _subjects(directory))))
    return path


def statement(facts: PublicationFacts, subjects: list[dict[str, Any]]) -> dict[str, Any]:
    """The in-toto Statement about these files."""
    config = facts.config
    job = f"{config.job.namespace}/{config.job.name}/{config.job.uid}"
    return {
        "_type": STATEMENT_TYPE,
        "subject": subjects,
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": run_identity(config),
                "internalParameters": {
                    "configDigest": f"sha256:{config_sha256(config)}",
                    "modelName": config.output.model_name,
                    "step": facts.step,
                    "learningRate": facts.learning_rate,
                },
                "resolvedDependencies": _dependencies(facts),
            },
            "runDetails": {
                "builder": {"id": BUILDER, "version": dict(facts.software)},
                "metadata": {
                    "invocationId": f"{job}/a{config.attempt}",
                    "startedOn": _time(facts.started),
                    "finishedOn": _time(facts.finished),
                },
            },
        },
    }


def _subjects(directory: Path) -> list[dict[str, Any]]:
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return [
        {"name": path.relative_to(directory).as_posix(), "digest": {"sha256": _sha256(path)}}
        for path in paths
        if path.relative_to(directory).as_posix() != PROVENANCE_PATH
    ]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _dependencies(facts: PublicationFacts) -> list[dict[str, Any]]:
    """Everything that went in, as in-toto resource descriptors."""
    config = facts.config
    base = base_source(config)
    found = [_descriptor("baseModel", base.uri, facts.base_digest, digestOf=_LISTING, revision=base.revision)]
    if config.model_version is not None:
        parent = config.model_version
        digest = f"sha256:{parent.manifest_sha256}"
        found.append(
            _descriptor(
                "parentVersion", parent.artifact_uri, digest, digestOf="manifest.json", modelVersion=parent.name
            )
        )
    found += [
        _descriptor("dataset", data.uri, data.digest, digestOf=_LISTING, examples=data.examples)
        for data in facts.datasets
    ]
    if config.image:
        name, _, digest = config.image.partition("@")
        found.append(_descriptor("image", f"oci://{name}", digest))
    return found


def _descriptor(name: str, uri: str, digest: str, **annotations: Any) -> dict[str, Any]:
    algorithm, _, value = digest.partition(":")
    said = {key: value for key, value in annotations.items() if value != ""}
    return {
        "name": name,
        "uri": uri,
        **({"digest": {algorithm: value}} if value else {}),
        **({"annotations": said} if said else {}),
    }


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
