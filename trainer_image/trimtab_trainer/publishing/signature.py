"""manifest.sig: the OpenSSF model signing format, with an elliptic-curve key, so that `model_signing verify key` checks it too.

A Sigstore bundle (v0.3, JSON) around a DSSE envelope around an in-toto Statement whose predicate lists every file of the model with its
SHA-256, manifest.json included; docs/decisions/0014 says why this is not the library itself.
Formats: https://github.com/sigstore/model-transparency (predicate https://model_signing/signature/v1.0),
https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md, https://docs.sigstore.dev/about/bundle/
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from trimtab_trainer.contract.manifests import ModelManifest, canonical_json, sha256_hex
from trimtab_trainer.contract.messages import ModelSignature

SIGNATURE_PATH: Final = "manifest.sig"
_MANIFEST_PATH: Final = "manifest.json"
_BUNDLE_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
_STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
_PREDICATE_TYPE: Final = "https://model_signing/signature/v1.0"
_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}
"""The hash that goes with each curve, by Sigstore's specification."""


class SignatureError(ValueError):
    """A key that cannot be used, or a signature that does not hold. The message says which and why."""


class SigningKey:
    """A private key in PEM, read once."""

    def __init__(self, pem: bytes) -> None:
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError) as error:
            raise SignatureError("it must be a private key in PEM without a password") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise SignatureError("it must be an elliptic-curve key (P-256, P-384 or P-521)")
        self._key = key
        self._hash = _hash_of(key.public_key())
        form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        self.public_pem = key.public_key().public_bytes(*form).decode()
        self.key_id = key_id(key.public_key())

    @classmethod
    def read(cls, path: Path) -> "SigningKey":
        """Read a mounted Secret.

        Raises:
            SignatureError: the file is not there, or holds no usable key.
        """
        try:
            pem = path.read_bytes()
        except OSError as error:
            raise SignatureError("it is not there") from error
        return cls(pem)

    def sign(self, manifest: ModelManifest) -> bytes:
        """The contents of manifest.sig. ECDSA is random: signing again gives other bytes that hold as well."""
        payload = canonical_json(_statement(manifest))
        signature = self._key.sign(_pre_authentication_encoding(payload), ec.ECDSA(self._hash))
        return canonical_json(
            {
                "mediaType": _BUNDLE_TYPE,
                "verificationMaterial": {"publicKey": {"hint": self.key_id}},
                "dsseEnvelope": {
                    "payload": _encoded(payload),
                    "payloadType": _PAYLOAD_TYPE,
                    "signatures": [{"sig": _encoded(signature), "keyid": ""}],
                },
            }
        )


def verify(bundle: bytes, manifest_sha256: str, public_keys: Sequence[str]) -> ModelSignature:
    """Make sure that one of these keys signed the model with this manifest. The manifest has the digest of every other file.

    Args:
        bundle: the contents of manifest.sig. Nothing in it is believed before the signature was checked.
        manifest_sha256: digest of manifest.json, 64 hex digits.
        public_keys: PEM.

    Raises:
        SignatureError: it does not hold, by none of the keys, or it is about another model.
    """
    envelope = _envelope(bundle)
    payload, signature = _decoded(envelope["payload"]), _decoded(envelope["signatures"][0]["sig"])
    trusted = [_public_key(pem) for pem in public_keys]
    signer = next((key for key in trusted if _holds(key, signature, payload)), None)
    if signer is None:
        known = ", ".join(key_id(key)[:12] for key in trusted)
        raise SignatureError(f"it holds by none of the trusted keys ({known})")
    digests = {entry.get("name"): entry.get("digest") for entry in _resources(payload)}
    if digests.get(_MANIFEST_PATH) != manifest_sha256:
        raise SignatureError("it signs another manifest.json than this model's")
    return ModelSignature(key_id=key_id(signer), sha256=sha256_hex(bundle))


def key_id(key: ec.EllipticCurvePublicKey) -> str:
    """What names a public key: the SHA-256 of its PEM, as in the format's `hint`."""
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return sha256_hex(key.public_bytes(*form))


def _statement(manifest: ModelManifest) -> dict[str, Any]:
    digests = {file.path: file.sha256 for file in manifest.files}
    digests[_MANIFEST_PATH] = sha256_hex(manifest.to_bytes())
    ordered = sorted(digests.items())
    root = hashlib.sha256(b"".join(bytes.fromhex(digest) for _, digest in ordered)).hexdigest()
    return {
        "_type": _STATEMENT_TYPE,
        "subject": [{"name": f"{manifest.model_name}-v{manifest.version}", "digest": {"sha256": root}}],
        "predicateType": _PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [SIGNATURE_PATH],
            },
            "resources": [{"name": name, "algorithm": "sha256", "digest": digest} for name, digest in ordered],
        },
    }


def _envelope(bundle: bytes) -> dict[str, Any]:
    try:
        envelope: dict[str, Any] = json.loads(bundle)["dsseEnvelope"]
        is_known = envelope["payloadType"] == _PAYLOAD_TYPE and len(envelope["signatures"]) == 1
    except (ValueError, KeyError, TypeError) as error:
        raise SignatureError("it is not a Sigstore bundle with a DSSE envelope") from error
    if not is_known:
        raise SignatureError("it must hold one signature over an in-toto statement")
    return envelope


def _resources(payload: bytes) -> list[dict[str, Any]]:
    """Only called for a payload whose signature holds."""
    try:
        statement = json.loads(payload)
        if (statement["_type"], statement["predicateType"]) != (_STATEMENT_TYPE, _PREDICATE_TYPE):
            raise SignatureError("it is about something else than a model")
        return list(statement["predicate"]["resources"])
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, SignatureError):
            raise
        raise SignatureError("its statement is malformed") from error


def _holds(key: ec.EllipticCurvePublicKey, signature: bytes, payload: bytes) -> bool:
    try:
        key.verify(signature, _pre_authentication_encoding(payload), ec.ECDSA(_hash_of(key)))
    except InvalidSignature:
        return False
    return True


def _public_key(pem: str) -> ec.EllipticCurvePublicKey:
    try:
        key = serialization.load_pem_public_key(pem.encode())
    except ValueError as error:
        raise SignatureError("a trusted key must be a public key in PEM") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise SignatureError("a trusted key must be an elliptic-curve key (P-256, P-384 or P-521)")
    return key


def _hash_of(key: ec.EllipticCurvePublicKey) -> hashes.HashAlgorithm:
    try:
        return _HASHES[key.curve.name]
    except KeyError as error:
        raise SignatureError(f"its curve must be P-256, P-384 or P-521; got {key.curve.name}") from error


def _pre_authentication_encoding(payload: bytes) -> bytes:
    """DSSE's PAE: what is signed says of which type and how long it is."""
    return b"DSSEv1 %d %s %d %s" % (len(_PAYLOAD_TYPE), _PAYLOAD_TYPE.encode(), len(payload), payload)


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decoded(text: object) -> bytes:
    try:
        return base64.b64decode(str(text), validate=True)
    except (ValueError, binascii.Error) as error:
        raise SignatureError("its base64 is malformed") from error
