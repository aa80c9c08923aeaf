"""Signatures beside OpenSSF's own library: it verifies what was published, what it signs is accepted, and nobody takes a flipped byte."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
REFUSALS = {
    "adapter_model.safetensors": "adapter_model.safetensors has sha256",
    "manifest.json": "manifest.json has sha256",
    "manifest.sig": "The signature of tone does not hold",
}
"""A file with a flipped byte, and what Trimtab says then."""
CURVES = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}


@pytest.fixture(scope="module")
def library() -> Path:
    """The Python of the library's environment, made the first time."""
    command = [sys.executable, "-B", str(ROOT / "dev" / "local" / "main.py"), "model-signing"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Path(done.stdout.strip()).with_name("python")


def make_key(folder: Path, name: str, curve: ec.EllipticCurve) -> None:
    """`name`.key and `name`.pem."""
    key = ec.generate_private_key(curve)
    private = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{name}.key").write_bytes(key.private_bytes(*private))
    (folder / f"{name}.pem").write_bytes(key.public_key().public_bytes(*public))


def in_trainer_image(what: str, folder: Path, *keys: str) -> Any:
    command = [str(ROOT / "dev" / "in-trainer-image"), "python", "-m", "tests.support.signed_model", what, str(folder)]
    done = subprocess.run([*command, *keys], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def commands(library: Path, *arguments: list[str]) -> list[int]:
    """Exit codes of the program `model_signing`."""
    program = [str(library), str(ROOT / "tests" / "support" / "openssf.py")]
    done = subprocess.run(program, input=json.dumps(arguments), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    codes: list[int] = json.loads(done.stdout)
    return codes


def verify(model: Path, public_key: Path) -> list[str]:
    return ["verify", "key", str(model), "--signature", str(model / "manifest.sig"), "--public_key", str(public_key)]


def sign(model: Path, private_key: Path) -> list[str]:
    return ["sign", "key", str(model), "--signature", str(model / "manifest.sig"), "--private_key", str(private_key)]


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_the_librarys_signatures_and_ours(library: Path, tmp_path: Path) -> None:
    for name, curve in CURVES.items():
        make_key(tmp_path, name, curve)
    bucket = tmp_path / "store" / "trimtab"
    published = in_trainer_image("publish", tmp_path, *CURVES)
    ours = {key: bucket / known["place"] for key, known in published.items()}
    theirs = {key: bucket / f"{key}-by-the-library" for key in ours}
    for key, model in theirs.items():
        shutil.copytree(ours[key], model, ignore=shutil.ignore_patterns("manifest.sig"))
    assert commands(library, *[sign(model, tmp_path / f"{key}.key") for key, model in theirs.items()]) == [0, 0, 0]

    whole = [(model, key) for models in (ours, theirs) for key, model in models.items()]
    tampered = [
        (bucket / f"{number}-{file}", key, says)
        for number, (_, key) in enumerate(whole)
        for file, says in REFUSALS.items()
    ]
    for number, (model, _) in enumerate(whole):
        for file in REFUSALS:
            place = bucket / f"{number}-{file}"
            shutil.copytree(model, place)
            flip_a_byte(place / file)

    # The library takes both, by their own keys alone, and nothing that was changed.
    asked = [verify(model, tmp_path / f"{key}.pem") for model, key in whole]
    strangers = [
        verify(model, tmp_path / f"{next(name for name in CURVES if name != key)}.pem") for model, key in whole
    ]
    changed = [verify(place, tmp_path / f"{key}.pem") for place, key, _ in tampered]
    codes = commands(library, *asked, *strangers, *changed)
    assert codes[: len(asked)] == [0] * len(asked)
    assert 0 not in codes[len(asked) :]

    # So does Trimtab.
    words = {str(model.relative_to(bucket)): "" for model, _ in whole} | {
        place.name: says for place, _, says in tampered
    }
    keys = [key for _, key in whole] + [key for _, key, _ in tampered]
    places = {place: published[key]["manifestSha256"] for place, key in zip(words, keys, strict=True)}
    (tmp_path / "places.json").write_text(json.dumps(places))
    problems = in_trainer_image("verify", tmp_path)
    assert problems.keys() == words.keys()
    for place, problem in problems.items():
        assert words[place] in problem, place
        assert bool(words[place]) == bool(problem), (place, problem)
