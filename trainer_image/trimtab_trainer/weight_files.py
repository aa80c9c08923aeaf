"""Weights from safetensors files: mapped as transformers does it, or read one by one where they become smaller on the way."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoConfig, GenerationConfig, PreTrainedModel

_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"


def load_weights(loader: Any, directory: Path, **options: Any) -> tuple[Any, dict[str, Any]]:
    """The loader's `from_pretrained`; with a quantization, each weight is read when its turn comes.

    A mapped file counts as this process's memory as far as it was read, until its last tensor is gone; embeddings and norms
    are not copied and hold it for good. With four bits a weight, the file would be most of what the process has.
    """
    is_automatic = not (isinstance(loader, type) and issubclass(loader, PreTrainedModel))
    if options.get("quantization_config") is None or not is_automatic:
        found: tuple[Any, dict[str, Any]] = loader.from_pretrained(directory, **options)
        return found
    # What transformers asks for where weights come from elsewhere: a class, a configuration, and no name.
    kept = {name: options.pop(name) for name in ("quantization_config", "dtype") if name in options}
    config, rest = AutoConfig.from_pretrained(directory, return_unused_kwargs=True, **options)
    with torch.device("meta"):
        kind = type(loader.from_config(config, trust_remote_code=False))
    if (directory / "generation_config.json").is_file():
        rest["generation_config"] = GenerationConfig.from_pretrained(directory, local_files_only=True)
    model, info = kind.from_pretrained(None, config=config, state_dict=_slices(directory), **kept, **rest)
    model.name_or_path = model.config.name_or_path = str(directory)
    return model, info


def _slices(directory: Path) -> dict[str, Any]:
    """By name, what reads a weight when it is asked for `[...]`."""
    if (directory / _WHOLE).is_file():
        names = [_WHOLE]
    else:
        names = sorted(set(json.loads((directory / _INDEX).read_text("utf-8"))["weight_map"].values()))
    found: dict[str, Any] = {}
    for name in names:
        file = safe_open(directory / name, framework="pt", backend="pread")
        found |= {weight: file.get_slice(weight) for weight in file.keys()}  # noqa: SIM118 - not a dict
    return found
