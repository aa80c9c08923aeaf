"""The trained model as its users load it: a peft adapter directory, or a transformers model directory."""

from pathlib import Path

import torch
from peft import PeftModel

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.methods import PublishedFormat
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.fetch.base_model import base_source
from trimtab_trainer.methods.own_adapters import save_adapter
from trimtab_trainer.methods.own_methods import OwnAdapters
from trimtab_trainer.methods.registry import method_of
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.objectives.registry import definition_of

SHARD_SIZE = "4GB"


def export_format(config: RunConfig) -> PublishedFormat:
    """Some methods publish an adapter; the others whole models."""
    return "safetensors" if config.output.merge else method_of(config).format


def check_finite(model: TrainableModel) -> None:
    """Never publish a weight that is no number.

    Raises:
        TrainerError: LossDiverged naming the weight.
    """
    for name, parameter in model.trainable.items():
        if not bool(torch.isfinite(parameter).all()):
            raise TrainerError(
                TrainerReason.LOSS_DIVERGED,
                f"The trained weight {name} has values that are not finite; nothing is published.",
            )


def base_model_name(config: RunConfig) -> str:
    """What `adapter_config.json` calls the base model: the hub's name of hub models, else the URI."""
    return base_source(config).uri.removeprefix("hf://")


def export_model(model: TrainableModel, config: RunConfig, directory: Path) -> None:
    """Write weights, configuration, tokenizer and chat template into `directory`."""
    check_finite(model)
    directory.mkdir(parents=True, exist_ok=True)
    base, method = model.base, method_of(config)
    if base.config._attn_implementation not in {"sdpa", "eager"}:  # noqa: SLF001 - transformers has a setter only
        base.set_attn_implementation("sdpa")
    base.config.use_cache = True
    if isinstance(model.module, PeftModel):
        peft = model.module.peft_config["default"]
        peft.base_model_name_or_path = base_model_name(config)
        peft.revision = base_source(config).revision or None
        peft.inference_mode = True
        # "auto" would ask the hub whether the vocabulary grew.
        model.module.save_pretrained(directory, save_embedding_layers=False)
    elif isinstance(method, OwnAdapters):
        settings = method.settings(config).model_copy(update={"base_model": base_model_name(config)})
        save_adapter(model.trainable, settings, directory)
    else:
        model.module.float().save_pretrained(directory, max_shard_size=SHARD_SIZE)
    model.tokenizer.save_pretrained(directory)


def loading_code(config: RunConfig) -> str:
    """How to load what was published, with the libraries its users have."""
    definition = definition_of(config)
    auto, processor = definition.auto_name, definition.auto_processor
    if export_format(config) == "safetensors":
        return definition.loading_code()
    name = base_model_name(config) if base_source(config).uri.startswith("hf://") else "BASE_MODEL_DIRECTORY"
    if export_format(config) == "trimtabAdapter":
        return (
            f"from transformers import {processor}, {auto}\n"
            f"from trimtab_trainer.methods.own_adapters import load_adapter\n\n{definition.base_code(name)}\n"
            'model = load_adapter(base, "ADAPTER_DIRECTORY")\n'
            f'{definition.processor_name} = {processor}.from_pretrained("ADAPTER_DIRECTORY")'
        )
    return (
        f"from peft import PeftModel\nfrom transformers import {processor}, {auto}\n\n{definition.base_code(name)}\n"
        'model = PeftModel.from_pretrained(base, "ADAPTER_DIRECTORY")\n'
        f'{definition.processor_name} = {processor}.from_pretrained("ADAPTER_DIRECTORY")'
    )
