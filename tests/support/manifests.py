"""The smallest valid object of each kind, and ways to change it."""

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
API_VERSION = "trimtab.dev/v1alpha1"
ABSENT = object()
"""As a value of `changed`: remove the field."""
DIGEST = "0" * 64
GOLDEN = Path(__file__).parents[1] / "golden"

_SPECS: dict[str, Manifest] = {
    "FineTuneJob": {
        "model": {"uri": "s3://models/smollm2"},
        "task": {"causalLanguageModeling": {}},
        "method": {"lora": {}},
        "data": {"train": [{"uri": "s3://data/train.jsonl"}]},
        "output": {"modelName": "support-tone"},
    },
    "ModelVersion": {
        "modelName": "support-tone",
        "version": 1,
        "task": {"causalLanguageModeling": {}},
        "baseModel": {"uri": "s3://models/smollm2", "digest": f"sha256:{DIGEST}"},
        "artifact": {
            "uri": "s3://bucket/demo/models/support-tone/1",
            "manifestSha256": DIGEST,
            "sizeBytes": 1,
            "format": "peftAdapter",
            "files": 1,
        },
        "storage": "default",
    },
    "ModelRollout": {"modelName": "support-tone", "version": 1},
    "StorageProfile": {
        "endpoint": "https://store.example",
        "bucket": "trimtab",
        "credentials": {"secretName": "trimtab-store"},
    },
    "TrainingProfile": {},
}
_NAMES = {"ModelVersion": "support-tone-v1"}
CLUSTER_SCOPED = ("StorageProfile", "TrainingProfile")


def smallest(kind: str, *, namespace: str = "demo") -> Manifest:
    """The smallest object of this kind that the API server accepts."""
    metadata = {"name": _NAMES.get(kind, "sample")}
    if kind not in CLUSTER_SCOPED:
        metadata["namespace"] = namespace
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": copy.deepcopy(_SPECS[kind])}


def changed(manifest: Manifest, changes: dict[str, Any]) -> Manifest:
    """The same object with other values at dotted paths (`spec.data.train.0.uri`)."""
    result = copy.deepcopy(manifest)
    for path, value in changes.items():
        *parents, last = path.split(".")
        place: Any = result
        for name in parents:
            place = place[int(name)] if isinstance(place, list) else place.setdefault(name, {})
        if value is ABSENT:
            del place[last]
        elif isinstance(place, list):
            place[int(last)] = value
        else:
            place[last] = value
    return result


class _Dumper(yaml.SafeDumper):
    """YAML that a person can compare: documents in block style, no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def dump_all(manifests: Iterable[Manifest]) -> str:
    """Golden children as text."""
    text: str = yaml.dump_all(manifests, Dumper=_Dumper, sort_keys=True, width=160)
    return text
