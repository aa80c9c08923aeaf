"""Imports adapters as ModelVersions, the way a user does who has trained elsewhere."""

import hashlib
import subprocess
import sys
from pathlib import Path

from tests.support.jobs import MODEL
from tests.support.kube import Manifest
from tests.support.store import Bucket

from trimtab_trainer.contract.manifests import BaseModelRef, FileEntry, Lineage, ModelManifest
from trimtab_trainer.contract.run_config import JobIdentity

ROOT = Path(__file__).parents[2]


def trained_adapters(bucket: Bucket, directory: Path) -> dict[str, Path]:
    """Real adapters of the tiny Llama: plain, better and rambling."""
    base = directory / "base"
    base.mkdir()
    prefix = "assets/models/tiny-llama/"
    for key in bucket.keys(prefix):
        (base / key.removeprefix(prefix)).write_bytes(bucket.read(key))
    command = [str(ROOT / "dev" / "in-trainer-image"), "python", "-m", "tests.support.train_adapters", str(base)]
    subprocess.run([*command, str(directory)], check=True, cwd=ROOT, stdout=sys.stderr)
    return {name: directory / name for name in ("plain", "better", "rambling")}


def imported_version(
    namespace: str, bucket: Bucket, model: str, version: int, adapter: Path, *, base: str = MODEL
) -> Manifest:
    """Upload an adapter with its manifest; the ModelVersion that names it."""
    prefix = bucket.below(namespace, "models", model, str(version))
    files = []
    for path in sorted(adapter.glob("adapter_*")):
        data = path.read_bytes()
        bucket.write(f"{prefix}/{path.name}", data)
        sha256 = hashlib.sha256(data).hexdigest()
        files.append(FileEntry(key=f"{prefix}/{path.name}", path=path.name, size=len(data), sha256=sha256))
    manifest = ModelManifest(
        model_name=model,
        version=version,
        format="peftAdapter",
        base_model=BaseModelRef(uri=base, digest=""),
        lineage=Lineage(
            job=JobIdentity(namespace=namespace, name="import", uid="import"),
            attempt=1,
            step=1,
            datasets=[],
            config_digest="",
            image="",
        ),
        files=files,
        metrics={},
        created_at="2026-01-01T00:00:00Z",
    ).to_bytes()
    bucket.write(f"{prefix}/manifest.json", manifest)
    spec = {
        "modelName": model,
        "version": version,
        "task": {"causalLanguageModeling": {}},
        "baseModel": {"uri": base},
        "artifact": {
            "uri": f"s3://{bucket.name}/{prefix}",
            "manifestSha256": hashlib.sha256(manifest).hexdigest(),
            "sizeBytes": sum(file.size for file in files),
            "format": "peftAdapter",
            "files": len(files),
        },
        "storage": "default",
    }
    return {
        "apiVersion": "trimtab.dev/v1alpha1",
        "kind": "ModelVersion",
        "metadata": {"name": f"{model}-v{version}", "namespace": namespace},
        "spec": spec,
    }
