"""The base model with the task's head, and the method: which parameters move."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.contract.spec import Lora
from trimtab_trainer.errors import TrainerError


@dataclass
class TrainableModel:
    """A model that is being fine-tuned."""

    module: Any
    """What runs and is saved: a transformers model, or a peft model around it."""
    tokenizer: Any
    device: torch.device
    precision: torch.dtype
    """Of the matrix products; trained weights are always float32."""
    labels: tuple[str, ...] = ()
    trainable: Mapping[str, nn.Parameter] = field(default_factory=dict)
    """The parameters that move, by name."""

    @property
    def base(self) -> Any:
        """The transformers model, with the method's layers inside."""
        return self.module.get_base_model() if isinstance(self.module, PeftModel) else self.module

    def autocast(self) -> Any:
        """Context of every forward pass."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16)

    def copy_of_trainable(self) -> dict[str, Tensor]:
        """The trained weights as they are now."""
        return {name: parameter.detach().clone() for name, parameter in self.trainable.items()}

    @torch.no_grad()
    def load_trainable(self, weights: Mapping[str, Tensor]) -> None:
        """Set the trained weights."""
        for name, parameter in self.trainable.items():
            parameter.copy_(weights[name])


def load_tokenizer(directory: Path) -> Any:
    """The model's tokenizer.

    Raises:
        TrainerError: ModelInvalid where there is none, or none with an end-of-text token.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainerError(TrainerReason.MODEL_INVALID, f"The model's tokenizer cannot be loaded: {error}") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.sep_token
    return tokenizer


def load_model(
    config: RunConfig, directory: Path, *, tokenizer: Any, labels: Sequence[str] = ()
) -> tuple[Any, list[str]]:
    """The transformers model in float32, and the names of parameters that the files did not have (a new head).

    Raises:
        TrainerError: ModelInvalid where the files are no model for this task.
    """
    torch.manual_seed(config.training.seed)  # a new head starts at random
    classifies = config.task.sequence_classification is not None
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: number for number, label in enumerate(labels)}}
    # With another number of labels than an already fine-tuned model has, its head is made anew.
    extra: dict[str, Any] = {**names, "num_labels": len(labels), "ignore_mismatched_sizes": True} if classifies else {}
    loader = AutoModelForSequenceClassification if classifies else AutoModelForCausalLM
    try:
        model, info = _from_pretrained(loader, directory, **extra)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise TrainerError(
            TrainerReason.MODEL_INVALID, f"The model cannot be loaded for {config.task.kind}: {error}"
        ) from error
    if model.config.get_text_config().pad_token_id is None:
        model.config.get_text_config().pad_token_id = model.config.pad_token_id = tokenizer.pad_token_id
    new = sorted({*info["missing_keys"], *(name for name, *_ in info.get("mismatched_keys", ()))})
    if new and not classifies:
        raise TrainerError(
            TrainerReason.MODEL_INVALID,
            f"The model's files lack {len(new)} weights of a causal language model, among them {new[0]}. "
            "Give a model with a language-modelling head.",
        )
    return model, new


def _from_pretrained(loader: Any, directory: Path, **extra: Any) -> tuple[Any, dict[str, Any]]:
    fixed = {
        "dtype": torch.float32,
        "local_files_only": True,
        "use_safetensors": True,
        "trust_remote_code": False,
        "output_loading_info": True,
    }
    try:
        return loader.from_pretrained(directory, attn_implementation="sdpa", **fixed, **extra)
    except ValueError as error:
        if "scaled_dot_product_attention" not in str(error):
            raise
        return loader.from_pretrained(directory, attn_implementation="eager", **fixed, **extra)


def apply_method(config: RunConfig, model: Any, new_parameters: Sequence[str], *, adapter: Path | None = None) -> Any:
    """Freeze and wrap, so that exactly the method's parameters require gradients.

    An earlier version's `adapter` is trained on by LoRA; the other methods fold it into the weights first.
    """
    if adapter is not None:
        if config.method.lora is not None:
            return continue_lora(model, config.method.lora, adapter)
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
        new_parameters = ()
    if config.method.lora is not None:
        return add_lora(model, config.method.lora, seed=config.training.seed, new_parameters=new_parameters)
    if config.method.head_only is not None:
        model.requires_grad_(requires_grad=False)
        for parameter in head_parameters(model, new_parameters):
            parameter.requires_grad_(requires_grad=True)
        return model
    return model.requires_grad_(requires_grad=True)


def add_lora(model: Any, lora: Lora, *, seed: int, new_parameters: Sequence[str]) -> PeftModel:
    """Low-rank adapters by peft; a new head is trained and saved with them.

    Raises:
        TrainerError: ConfigInvalid where `targetModules` matches nothing.
    """
    torch.manual_seed(seed)
    is_language_model = model.get_output_embeddings() is not None
    targets = list(lora.target_modules)
    settings = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="all-linear" if targets == ["all-linear"] else targets,
        modules_to_save=sorted({name.rpartition(".")[0] for name in new_parameters}) or None,
        task_type=TaskType.CAUSAL_LM if is_language_model else TaskType.SEQ_CLS,
    )
    try:
        return get_peft_model(model, settings)
    except ValueError as error:
        raise TrainerError(
            TrainerReason.CONFIG_INVALID, f"`method.lora` cannot be applied to this model: {error}"
        ) from error


def continue_lora(model: Any, lora: Lora, adapter: Path) -> PeftModel:
    """Train an earlier version's adapter on, so that it still is one adapter on the same base model.

    Raises:
        TrainerError: ConfigInvalid where the job asks for another shape than the adapter has.
    """
    module = PeftModel.from_pretrained(model, adapter, is_trainable=True)
    has = module.peft_config["default"]
    if (has.r, has.lora_alpha) != (lora.r, lora.alpha):
        raise TrainerError(
            TrainerReason.CONFIG_INVALID,
            f"`method.lora` must be that of the version it goes on from: r {has.r} and alpha {has.lora_alpha:g}; "
            f"got {lora.r} and {lora.alpha:g}. To change them, start from the base model.",
        )
    has.lora_dropout = lora.dropout
    for layer in module.modules():
        if hasattr(layer, "lora_dropout") and isinstance(layer.lora_dropout, nn.ModuleDict):
            layer.lora_dropout["default"] = nn.Dropout(lora.dropout) if lora.dropout else nn.Identity()
    return module


def head_parameters(model: Any, new_parameters: Sequence[str]) -> list[nn.Parameter]:
    """What `headOnly` trains: everything outside the trunk, and what the model's files did not have."""
    output = model.get_output_embeddings()
    if output is not None:
        _untie(model, output)
        return list(output.parameters())
    trunk = model.base_model_prefix + "."
    return [value for name, value in model.named_parameters() if not name.startswith(trunk) or name in new_parameters]


def _untie(model: Any, head: Any) -> None:
    """A head that shares its weights with the input embeddings gets its own, so that the trunk stays as it is."""
    if head.weight is model.get_input_embeddings().weight:
        head.weight = nn.Parameter(head.weight.detach().clone())
        model.config.tie_word_embeddings = False
        model.config.get_text_config().tie_word_embeddings = False
        model.all_tied_weights_keys = {}  # what save_pretrained would otherwise leave out


def prepare(
    module: Any, *, tokenizer: Any, device: torch.device, precision: torch.dtype, labels: Sequence[str]
) -> TrainableModel:
    """Move to the device. Trained weights stay float32; those under an adapter take the precision of the products."""
    module.to(device)
    for parameter in module.parameters():
        # Frozen weights that are published with the trained ones must stay exactly what they were.
        if isinstance(module, PeftModel) and not parameter.requires_grad and parameter.is_floating_point():
            parameter.data = parameter.data.to(precision)
    trainable = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    return TrainableModel(module, tokenizer, device, precision, tuple(labels), trainable)
