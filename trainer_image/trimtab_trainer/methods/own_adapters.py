"""Adapters that peft does not have, bottlenecks and LoReFT: small modules beside a model's own, saved as safetensors and JSON.

To load one, with nothing but trimtab and transformers:

    from transformers import AutoModelForCausalLM
    from trimtab_trainer.methods.own_adapters import load_adapter

    model = load_adapter(AutoModelForCausalLM.from_pretrained("BASE_MODEL"), "ADAPTER_DIRECTORY")

Each module sits on one of the base model's as a forward hook, so the base model's own names and weights stay what they are.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from peft import PeftModel
from pydantic import Field, ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from trimtab_trainer.contract.base import Document
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.methods import Adapter, Reft
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.methods.bottleneck import add_bottlenecks
from trimtab_trainer.methods.loreft import add_interventions

SETTINGS_FILE = "trimtab_adapter.json"
WEIGHTS_FILE = "trimtab_adapter.safetensors"
SCHEMA: Final = "trimtab.dev/adapter/v1"
OWN_MODULES = ("trimtab_bottleneck", "trimtab_intervention")
"""Names of the modules that were added to the base model's."""


class AdapterFile(Document):
    """`trimtab_adapter.json`."""

    schema_: Literal["trimtab.dev/adapter/v1"] = Field(default=SCHEMA, alias="schema")
    base_model: str = ""
    """Where the base model is."""
    adapter: Adapter | None = None
    """Bottleneck adapters."""
    reft: Reft | None = None
    """LoReFT."""


def add_modules(model: Any, settings: AdapterFile) -> Any:
    """Put fresh modules beside the model's own; all of the model's own weights are frozen.

    Raises:
        TrainerError: ConfigInvalid where the architecture has no place for them.
    """
    model.requires_grad_(requires_grad=False)
    if settings.adapter is not None:
        add_bottlenecks(model, settings.adapter)
    if settings.reft is not None:
        add_interventions(model, settings.reft)
    return model


def save_adapter(trainable: Mapping[str, nn.Parameter], settings: AdapterFile, directory: Path) -> None:
    """Write what was trained, a new head included."""
    tensors: dict[str, Tensor] = {name: value.detach().contiguous().cpu() for name, value in trainable.items()}
    save_file(tensors, directory / WEIGHTS_FILE, metadata={"format": "pt"})
    (directory / SETTINGS_FILE).write_text(json.dumps(settings.to_json(), indent=1), "utf-8")


def read_settings(directory: Path) -> AdapterFile:
    """What kind of adapter it is.

    Raises:
        TrainerError: ModelInvalid where the file is none of ours.
    """
    try:
        return AdapterFile.model_validate_json((directory / SETTINGS_FILE).read_bytes())
    except (OSError, ValidationError) as error:
        raise TrainerError(TrainerReason.MODEL_INVALID, f"{SETTINGS_FILE} cannot be read: {error}") from error


def load_adapter(model: Any, directory: str | Path) -> Any:
    """The model with a saved adapter: the same object, with modules added and weights set.

    Raises:
        TrainerError: ModelInvalid where files are missing or do not fit this model.
    """
    directory = Path(directory)
    add_modules(model, read_settings(directory))
    try:
        tensors = load_file(directory / WEIGHTS_FILE)
    except (OSError, ValueError) as error:
        raise TrainerError(TrainerReason.MODEL_INVALID, f"{WEIGHTS_FILE} cannot be read: {error}") from error
    result = model.load_state_dict(tensors, strict=False)
    missing = [name for name in result.missing_keys if is_own(name)]
    if result.unexpected_keys or missing:
        wrong = (*result.unexpected_keys, *missing)[0]
        raise TrainerError(TrainerReason.MODEL_INVALID, f"The adapter does not fit the base model: {wrong}.")
    return model


def with_adapter(model: Any, directory: Path) -> Any:
    """The model with a published adapter, of ours or of peft, to be measured.

    Raises:
        TrainerError: ModelInvalid where files are missing or do not fit this model.
    """
    return load_adapter(model, directory) if is_adapted(directory) else PeftModel.from_pretrained(model, directory)


def is_own(name: str) -> bool:
    """Whether a parameter belongs to an adapter and not to the base model."""
    return any(module in name.split(".") for module in OWN_MODULES)


def is_adapted(directory: Path) -> bool:
    """Whether a folder has an adapter of ours."""
    return (directory / SETTINGS_FILE).is_file()


def require_gradients(model: Any, new_parameters: Sequence[str]) -> Any:
    """Of the adapter and of a new head, and of nothing else."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_own(name) or name in new_parameters)
    return model
