"""Several LoRA adapters of one base model as one: the weighted sum of what they add.

    python -m trimtab_trainer.methods.combine OUTPUT_DIRECTORY 0.7=FIRST_ADAPTER 0.3=SECOND_ADAPTER

An adapter adds `scale * B A` to a matrix. Averaging the A and the B of two adapters is something else than averaging what they
add: it mixes in `B1 A2` and `B2 A1`. Here the ranks are put side by side, which is exact: `[w1 s1 B1, w2 s2 B2] [A1; A2]`.
"""

import json
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig
from peft.utils.other import get_pattern_key
from safetensors.torch import load_file, save_file
from torch import Tensor

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.errors import TrainerError

WEIGHTS_FILE = "adapter_model.safetensors"
SETTINGS_FILE = "adapter_config.json"
_A, _B = ".lora_A.weight", ".lora_B.weight"
_PREFIX = "base_model.model."


def combine_adapters(adapters: Sequence[tuple[float, Path]], output: Path) -> None:
    """Write an adapter that adds the weighted sum of what the given ones add.

    Args:
        adapters: weights, and folders in peft's format.
        output: a folder; tokenizer and settings are the first adapter's.

    Raises:
        TrainerError: ModelInvalid where one is no plain LoRA adapter, has a head of its own, or is of another base model.
    """
    loaded = [(weight, *_read(directory)) for weight, directory in adapters]
    bases = {settings.base_model_name_or_path for _, settings, _ in loaded}
    if len(bases) != 1:
        raise _invalid(f"adapters must be of one base model; these are of {', '.join(sorted(map(str, bases)))}")
    modules = sorted({name.removesuffix(_A) for _, _, tensors in loaded for name in tensors if name.endswith(_A)})
    combined: dict[str, Tensor] = {}
    for module in modules:
        parts = [(weight, settings, tensors) for weight, settings, tensors in loaded if module + _A in tensors]
        scaled = [weight * _scale(settings, module) * tensors[module + _B] for weight, settings, tensors in parts]
        combined[module + _A] = torch.cat([tensors[module + _A] for _, _, tensors in parts]).contiguous()
        combined[module + _B] = torch.cat(scaled, dim=1).contiguous()
    shutil.copytree(adapters[0][1], output, dirs_exist_ok=True)
    save_file(combined, output / WEIGHTS_FILE, metadata={"format": "pt"})
    (output / SETTINGS_FILE).write_text(json.dumps(_settings(adapters[0][1], combined), indent=2), "utf-8")


def _read(directory: Path) -> tuple[Any, Mapping[str, Tensor]]:
    try:
        settings, tensors = PeftConfig.from_pretrained(str(directory)), load_file(directory / WEIGHTS_FILE)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _invalid(f"{directory} cannot be read: {error}") from error
    if not isinstance(settings, LoraConfig) or settings.use_dora:
        raise _invalid(f"{directory} is no plain LoRA adapter; others add no weighted sum")
    other = next((name for name in tensors if not name.endswith((_A, _B))), "")
    if other:
        raise _invalid(f"{directory} has weights besides LoRA's, such as a head ({other}), which cannot be added up")
    return settings, tensors


def _scale(settings: Any, module: str) -> float:
    """As peft scales this module."""
    name = module.removeprefix(_PREFIX)
    rank = settings.rank_pattern.get(get_pattern_key(settings.rank_pattern.keys(), name), settings.r)
    alpha = settings.alpha_pattern.get(get_pattern_key(settings.alpha_pattern.keys(), name), settings.lora_alpha)
    return float(alpha / (math.sqrt(rank) if settings.use_rslora else rank))


def _settings(first: Path, combined: Mapping[str, Tensor]) -> dict[str, Any]:
    """The scales are in the weights: alpha is the rank, module by module."""
    ranks = {
        name.removesuffix(_A).removeprefix(_PREFIX): len(tensor)
        for name, tensor in combined.items()
        if name.endswith(_A)
    }
    settings: dict[str, Any] = json.loads((first / SETTINGS_FILE).read_text("utf-8"))
    most = max(ranks.values())
    patterns = {name.replace(".", r"\."): rank for name, rank in ranks.items() if rank != most}
    return settings | {
        "r": most,
        "lora_alpha": most,
        "use_rslora": False,
        "rank_pattern": patterns,
        "alpha_pattern": patterns,
        "target_modules": sorted(ranks),
    }


def _invalid(message: str) -> TrainerError:
    return TrainerError(TrainerReason.MODEL_INVALID, f"Adapters cannot be combined: {message}.")


def main(arguments: Sequence[str]) -> int:
    """The command of the module's docstring; 2 where the arguments are no such command."""
    pairs = [argument.partition("=") for argument in arguments[1:]]
    try:
        adapters = [(float(weight), Path(directory)) for weight, _, directory in pairs]
    except ValueError:
        adapters = []
    if not adapters:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    try:
        combine_adapters(adapters, Path(arguments[0]))
    except TrainerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
