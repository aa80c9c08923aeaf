"""Signatures in the OpenSSF model signing format: as the library writes them, and what does not pass."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from tests.support.object_store import make_run_config, make_store
from tests.unit.trimtab_trainer.publishing.test_publish import BASE, FILES, config_of, reserve, write

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.manifests import ModelManifest, sha256_hex
from trimtab_trainer.contract.messages import PublishedModel
from trimtab_trainer.contract.run_config import RunConfig, ServedVersion, SignaturePolicy
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.preflight import signing_key
from trimtab_trainer.publishing.publish import ModelOrigin, publish
from trimtab_trainer.publishing.signature import SignatureError, SigningKey, verify
from trimtab_trainer.publishing.verify import check_signature
from trimtab_trainer.store.object_store import ObjectStore

GOLDEN = Path(__file__).parents[3] / "golden" / "model-signing"
RECORDED = (GOLDEN / "manifest.sig").read_bytes()
RECORDED_KEY = (GOLDEN / "public.pem").read_text()
RECORDED_FILES = {"README.md": b"# tone", "adapter_config.json": b"{}", "chat/template.jinja": b"{{ x }}"}


def pem(key: Any) -> bytes:
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return bytes(key.private_bytes(*form))


def new_key(curve: ec.EllipticCurve | None = None) -> SigningKey:
    return SigningKey(pem(ec.generate_private_key(curve or ec.SECP256R1())))


def manifest(files: dict[str, bytes] | None = None) -> ModelManifest:
    return ModelManifest.model_validate(
        {
            "modelName": "tone",
            "version": 1,
            "format": "peftAdapter",
            "baseModel": {"uri": "s3://models/base", "digest": ""},
            "lineage": {
                "job": {"namespace": "team", "name": "tone", "uid": "1"},
                "attempt": 1,
                "step": 1,
                "datasets": [],
                "configDigest": "",
                "image": "",
            },
            "files": [
                {"key": path, "path": path, "size": len(data), "sha256": sha256_hex(data)}
                for path, data in (files or RECORDED_FILES).items()
            ],
            "metrics": {},
            "createdAt": "",
        }
    )


def statement(bundle: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.b64decode(json.loads(bundle)["dsseEnvelope"]["payload"]))
    return found


# ── The format ──


def test_what_the_library_signed_holds() -> None:
    found = verify(RECORDED, sha256_hex(b"{}"), [RECORDED_KEY])
    assert found.key_id == json.loads(RECORDED)["verificationMaterial"]["publicKey"]["hint"]


def test_what_we_sign_says_what_the_library_says() -> None:
    """Same files, same statement; but for the list of Git's files, which no version has, and manifest.json, which differs."""
    ours, theirs = statement(new_key().sign(manifest())), statement(RECORDED)
    for document in (ours, theirs):
        document["predicate"]["resources"] = {
            entry["name"]: entry for entry in document["predicate"]["resources"] if entry["name"] != "manifest.json"
        }
        del document["predicate"]["serialization"]["ignore_paths"], document["subject"][0]["digest"]
    assert ours == theirs


@pytest.mark.parametrize(
    "curve",
    [
        pytest.param(ec.SECP256R1(), id="P-256"),
        pytest.param(ec.SECP384R1(), id="P-384"),
        pytest.param(ec.SECP521R1(), id="P-521"),
    ],
)
def test_a_signature_holds_by_its_key(curve: ec.EllipticCurve) -> None:
    key, signed = new_key(curve), manifest()
    found = verify(key.sign(signed), sha256_hex(signed.to_bytes()), [new_key().public_pem, key.public_pem])
    assert found.key_id == key.key_id


KEY, OTHER = new_key(), new_key()
SIGNED = KEY.sign(manifest())
MANIFEST_SHA256 = sha256_hex(manifest().to_bytes())


def changed(change: Callable[[dict[str, Any]], None]) -> bytes:
    bundle = json.loads(SIGNED)
    change(bundle["dsseEnvelope"])
    return json.dumps(bundle).encode()


def swap_payload(envelope: dict[str, Any]) -> None:
    envelope["payload"] = json.loads(OTHER.sign(manifest({"a": b"b"})))["dsseEnvelope"]["payload"]


def two_signatures(envelope: dict[str, Any]) -> None:
    envelope["signatures"] *= 2


def of_another_type(envelope: dict[str, Any]) -> None:
    envelope["payloadType"] = "text/plain"


@pytest.mark.parametrize(
    ("bundle", "manifest_sha256", "keys", "words"),
    [
        pytest.param(SIGNED, MANIFEST_SHA256, [OTHER.public_pem], "none of the trusted keys", id="another key"),
        pytest.param(SIGNED, "0" * 64, [KEY.public_pem], "another manifest.json", id="another model"),
        pytest.param(changed(swap_payload), MANIFEST_SHA256, [KEY.public_pem], "none of the trusted keys", id="another statement"),
        pytest.param(changed(two_signatures), MANIFEST_SHA256, [KEY.public_pem], "one signature", id="two signatures"),
        pytest.param(changed(of_another_type), MANIFEST_SHA256, [KEY.public_pem], "in-toto statement", id="another type"),
        pytest.param(b"{}", MANIFEST_SHA256, [KEY.public_pem], "not a Sigstore bundle", id="no bundle"),
        pytest.param(b"\x00", MANIFEST_SHA256, [KEY.public_pem], "not a Sigstore bundle", id="no JSON"),
        pytest.param(SIGNED, MANIFEST_SHA256, ["-----BEGIN PUBLIC KEY-----\n"], "must be a public key in PEM", id="no trusted key"),
    ],
)  # fmt: skip
def test_what_does_not_hold(bundle: bytes, manifest_sha256: str, keys: list[str], words: str) -> None:
    with pytest.raises(SignatureError, match=words):
        verify(bundle, manifest_sha256, keys)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"words", "private key in PEM", id="no key"),
        pytest.param(pem(rsa.generate_private_key(65537, 2048)), "elliptic-curve", id="RSA"),
        pytest.param(pem(ec.generate_private_key(ec.SECP256K1())), "P-256, P-384 or P-521", id="another curve"),
        pytest.param(None, "it is not there", id="no Secret"),
    ],
)
def test_a_key_that_cannot_sign_is_told_with_its_secret(data: bytes | None, words: str, tmp_path: Path) -> None:
    config = signed_config()
    if data is not None:
        (tmp_path / "signing.key").write_bytes(data)
    with pytest.raises(TrainerError, match=words) as caught:
        signing_key(config, file=tmp_path / "signing.key")
    assert caught.value.reason is TrainerReason.CONFIG_INVALID
    assert "Secret 'team-key'" in str(caught.value)


def signed_config() -> RunConfig:
    output = {"modelName": "tone", "sign": True, "signingSecretName": "team-key"}
    return make_run_config(make_store("http://unused"), changes={"output": output})


# ── Publishing and loading ──


def published(store: ObjectStore, directory: Path, key: SigningKey | None, attempt: int = 1) -> PublishedModel:
    origin = ModelOrigin(base_model_digest="", datasets=[], metrics={}, step=40, format="peftAdapter")
    return publish(directory, store=store, config=config_of(attempt), reserve=reserve, origin=origin, key=key)


def served(model: PublishedModel) -> ServedVersion:
    return ServedVersion(
        name=model.name,
        version=model.version,
        artifact_uri=model.uri,
        manifest_sha256=model.manifest_sha256,
        format="peftAdapter",
        signed=model.signature is not None,
    )


@pytest.mark.usefixtures("fast_retries", "small_parts")
def test_a_published_model_is_signed_before_it_is_committed(store: ObjectStore, tmp_path: Path) -> None:
    model = published(store, write(tmp_path / "export", FILES), KEY)
    assert model.signature is not None
    assert model.signature.key_id == KEY.key_id
    assert model.signature.sha256 == store.read_sha256(f"{BASE}1/manifest.sig")
    times = {info.key.removeprefix(f"{BASE}1/"): info.modified for info in store.list(BASE)}
    assert times["manifest.sig"] <= times["manifest.json"]


@pytest.mark.usefixtures("fast_retries", "small_parts")
def test_a_later_attempt_signs_what_an_earlier_one_left_unsigned(store: ObjectStore, tmp_path: Path) -> None:
    first = published(store, write(tmp_path / "export", FILES), None)
    assert first.signature is None
    again = published(store, tmp_path / "export", KEY, attempt=2)
    assert (again.version, again.manifest_sha256) == (1, first.manifest_sha256)
    check_signature(
        served(again), SignaturePolicy(public_keys=[KEY.public_pem], required=True), signed=True, store=store
    )


def lose(store: ObjectStore) -> None:
    store.delete(f"{BASE}1/manifest.sig")


def forge(store: ObjectStore) -> None:
    store.put(f"{BASE}1/manifest.sig", SIGNED)


def nothing(_store: ObjectStore) -> None: ...


@pytest.mark.usefixtures("fast_retries", "small_parts")
@pytest.mark.parametrize(
    ("key", "happens", "policy", "words"),
    [
        pytest.param(KEY, nothing, SignaturePolicy(public_keys=[KEY.public_pem], required=True), "", id="signed and required"),
        pytest.param(None, nothing, SignaturePolicy(public_keys=[KEY.public_pem]), "", id="unsigned, and nobody demands it"),
        pytest.param(OTHER, nothing, SignaturePolicy(), "", id="nobody is trusted, nothing is looked at"),
        pytest.param(None, nothing, SignaturePolicy(public_keys=[KEY.public_pem], required=True), "there is no s3://", id="required and missing"),
        pytest.param(OTHER, nothing, SignaturePolicy(public_keys=[KEY.public_pem]), "none of the trusted keys", id="by somebody else"),
        pytest.param(KEY, lose, SignaturePolicy(public_keys=[KEY.public_pem]), "there is no s3://", id="removed"),
        pytest.param(KEY, forge, SignaturePolicy(public_keys=[KEY.public_pem]), "another manifest.json", id="of another model"),
    ],
)  # fmt: skip
def test_what_a_server_loads(
    key: SigningKey | None,
    happens: Callable[[ObjectStore], None],
    policy: SignaturePolicy,
    words: str,
    store: ObjectStore,
    tmp_path: Path,
) -> None:
    version = served(published(store, write(tmp_path / "export", FILES), key))
    happens(store)
    if not words:
        check_signature(version, policy, signed=version.signed, store=store)
        return
    with pytest.raises(TrainerError, match=words) as caught:
        check_signature(version, policy, signed=version.signed, store=store)
    assert caught.value.reason is TrainerReason.SIGNATURE_INVALID
