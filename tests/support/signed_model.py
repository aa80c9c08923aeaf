"""Publishes signed models into a store that is a folder, and verifies what lies there. Runs inside the trainer image.

Usage: python -m tests.support.signed_model publish FOLDER KEY ...    one version a key (KEY.key in FOLDER); prints where each lies, and its manifest's digest
       python -m tests.support.signed_model verify FOLDER             what FOLDER/places.json names, by every *.pem there; prints what is wrong at each place, or nothing
"""

import json
import sys
from pathlib import Path

from tests.support.object_store import BUCKET, make_run_config, make_store, write_credentials
from tests.support.versitygw import find_versitygw, versitygw

from trimtab_trainer.contract.messages import VersionReply
from trimtab_trainer.contract.run_config import ResolvedModelVersion, SignaturePolicy
from trimtab_trainer.contract.spec import ModelSource
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.publishing.publish import ModelOrigin, publish
from trimtab_trainer.publishing.signature import SigningKey
from trimtab_trainer.publishing.verify import check_signature, verify
from trimtab_trainer.store.object_store import ObjectStore

FILES = {
    "README.md": b"# tone",
    "adapter_config.json": b"{}",
    "adapter_model.safetensors": bytes(range(256)) * 1000,
    "chat/template.jinja": b"{{ x }}",
}


def published(folder: Path, key: str, version: int, store: ObjectStore) -> dict[str, str]:
    """As training publishes."""
    for name, data in FILES.items():
        path = folder / "export" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    model = publish(
        folder / "export",
        store=store,
        config=make_run_config(make_store("http://unused")),
        reserve=lambda _: VersionReply(name=f"tone-v{version}", version=version),
        origin=ModelOrigin(base_model_digest="", datasets=[], metrics={}, step=40, format="peftAdapter"),
        key=SigningKey.read(folder / f"{key}.key"),
    )
    return {"place": model.uri.removeprefix(f"s3://{BUCKET}/"), "manifestSha256": model.manifest_sha256}


def problem_at(place: str, manifest_sha256: str, keys: list[str], store: ObjectStore) -> str:
    """What a server, and the Job that reads a version back, say of it; empty when all is well."""
    version = ResolvedModelVersion(
        name="tone",
        artifact_uri=f"s3://{BUCKET}/{place}",
        manifest_sha256=manifest_sha256,
        format="peftAdapter",
        base_model=ModelSource(uri="s3://models/base"),
    )
    try:
        check_signature(version, SignaturePolicy(public_keys=keys, required=True), signed=True, store=store)
    except TrainerError as error:
        return str(error)
    found = verify(version, store)
    return "" if found.holds else found.message


def main(what: str, folder: Path, keys: list[str]) -> None:
    """Do it, with a store over FOLDER/store."""
    gateway = find_versitygw()
    assert gateway is not None
    credentials = write_credentials(folder / "credentials")
    with (
        versitygw(folder / "store", gateway) as endpoint,
        ObjectStore.open(make_store(endpoint), credentials=credentials) as store,
    ):
        if what == "publish":
            print(json.dumps({key: published(folder, key, version, store) for version, key in enumerate(keys, 1)}))
            return
        trusted = [path.read_text() for path in sorted(folder.glob("*.pem"))]
        places = json.loads((folder / "places.json").read_text())
        print(json.dumps({place: problem_at(place, digest, trusted, store) for place, digest in places.items()}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
