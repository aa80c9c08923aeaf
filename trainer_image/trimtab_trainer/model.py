"""The base model with the task's head, as it is loaded and as it is trained."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import AutoTokenizer

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.distributed import from_main, sum_gradients, sum_over_ranks
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.hardware import use_fused_kernels
from trimtab_trainer.methods.fused_lora import fuse_lora
from trimtab_trainer.sharding import Shards, Share
from trimtab_trainer.tasks.rms_norm import fuse_norms
from trimtab_trainer.weight_files import load_weights


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
    """The parameters that move, by name; this process' shares of them, where they are spread."""
    shards: Shards | None = None
    """The weights, where they are spread over all processes."""
    still: Sequence[nn.Module] = ()
    """Frozen parts: without dropout, and with the statistics of their norms as they are, while others train."""

    @property
    def base(self) -> Any:
        """The transformers model, with the method's layers inside."""
        return self.module.get_base_model() if isinstance(self.module, PeftModel) else self.module

    @property
    def has_virtual_tokens(self) -> bool:
        """Trained vectors stand before the text: they are there only when the whole peft model is called."""
        return isinstance(self.module, PeftModel) and bool(self.module.active_peft_config.is_prompt_learning)

    def train(self) -> None:
        """Training mode, for all parts that take part in it."""
        self.module.train()
        for part in self.still:
            part.eval()

    def untouched(self) -> Any:
        """Context in which the model is the base model, however its method begins."""
        return _without_virtual_tokens(self.module) if self.has_virtual_tokens else nullcontext()

    def autocast(self) -> Any:
        """Context of every forward pass."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16)

    def spread(self, count: int) -> None:
        """Over all processes, where `shard_count` says more than one."""
        if count > 1:
            self.shards = Shards(self.module, self.device)
            self.trainable = self.shards.shares

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Inside, each process has all weights, for anything but training; all enter it together."""
        if self.shards is None:
            yield
            return
        spread, self.module = self.module, self.shards.fill()
        try:
            yield
        finally:
            self.module = spread
            self.shards.empty()

    def stay_whole(self) -> None:
        """Training has ended: each process has all weights from here on."""
        if self.shards is None:
            return
        self.module, names = self.shards.fill(), set(self.trainable)
        self.trainable = {name: value for name, value in self.module.named_parameters() if name in names}
        self.shards = None

    def compute(self, loss: Callable[[], Tensor]) -> Tensor:
        """A forward pass of training."""
        return loss() if self.shards is None else self.shards.compute(loss)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Of all processes: these weights' gradients, or those of this process' shares."""
        if self.shards is None:
            sum_gradients(parameters)
        else:
            self.shards.take_gradients()

    def totals(self, *values: float) -> list[float]:
        """Sums over all processes where weights are spread, of sums over each one's shares; elsewhere the values."""
        return list(values) if self.shards is None else sum_over_ranks(values, self.device)

    def agreed(self, *, on_main: bool) -> bool:
        """What the main process decided, where all have to do the same; elsewhere each decides for itself."""
        if self.shards is None:
            return on_main
        return bool(from_main(torch.tensor([on_main], dtype=torch.uint8, device=self.device)))

    def shares(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor | Share]:
        """Tensors named `<kind>/<trained weight>`, as a checkpoint collects them."""
        if self.shards is None:
            return tensors
        shapes = {name: self.shards.shape(name.partition("/")[2]) for name in tensors}
        return {name: Share(tensor, shapes[name]) for name, tensor in tensors.items()}

    def own(self, name: str, whole: Tensor) -> Tensor:
        """Of a tensor of a checkpoint, what this process holds."""
        return whole if self.shards is None else self.shards.own(name.partition("/")[2], whole)

    def copy_of_trainable(self) -> dict[str, Tensor]:
        """The trained weights as they are now."""
        return {name: parameter.detach().clone() for name, parameter in self.trainable.items()}

    @torch.no_grad()
    def load_trainable(self, weights: Mapping[str, Tensor]) -> None:
        """Set the trained weights."""
        for name, parameter in self.trainable.items():
            parameter.copy_(weights[name])


@contextmanager
def _without_virtual_tokens(module: PeftModel) -> Iterator[None]:
    if hasattr(module, "prepare_inputs_for_generation"):
        with module.disable_adapter():
            yield
        return
    # peft's own way needs a model that generates, which those with a head of their own are not.
    module.forward = module.get_base_model().forward
    try:
        yield
    finally:
        del module.forward


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
    config: RunConfig,
    directory: Path,
    *,
    auto_model: Any,
    arguments: Mapping[str, Any],
    has_new_head: bool,
    tokenizer: Any,
) -> tuple[Any, list[str]]:
    """The transformers model in float32, and the names of parameters that the files did not have (a new head).

    Args:
        config: of the run.
        directory: verified files.
        auto_model: the class of transformers to load by.
        arguments: more arguments of its `from_pretrained`.
        has_new_head: weights that the files lack are a new head; otherwise they are an error.
        tokenizer: of the model.

    Raises:
        TrainerError: ModelInvalid where the files are no model for this task.
    """
    torch.manual_seed(config.training.seed)  # a new head starts at random
    try:
        model, info = from_pretrained(auto_model, directory, **arguments)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise TrainerError(
            TrainerReason.MODEL_INVALID, f"The model cannot be loaded for {config.task.kind}: {error}"
        ) from error
    _set_padding(model, tokenizer)
    new = sorted({*info["missing_keys"], *(name for name, *_ in info.get("mismatched_keys", ()))})
    if new and not has_new_head:
        raise TrainerError(
            TrainerReason.MODEL_INVALID,
            f"The model's files lack {len(new)} weights of a {auto_model.__name__.removeprefix('AutoModelFor')} model, "
            f"among them {new[0]}. Give a model with such a head.",
        )
    return model, new


def _set_padding(model: Any, tokenizer: Any) -> None:
    """Models of tokens that do not say how they are padded take the tokenizer's word."""
    text = model.config.get_text_config()
    if hasattr(text, "pad_token_id") and text.pad_token_id is None:
        text.pad_token_id = model.config.pad_token_id = getattr(tokenizer, "pad_token_id", None)


def from_pretrained(loader: Any, directory: Path, **extra: Any) -> tuple[Any, dict[str, Any]]:
    """Load from verified safetensors, in float32, and say what was missing; never with code of the model's author."""
    fixed = {
        "dtype": torch.float32,
        "local_files_only": True,
        "use_safetensors": True,
        "trust_remote_code": False,
        "output_loading_info": True,
    }
    try:
        return load_weights(loader, directory, attn_implementation="sdpa", **fixed, **extra)
    except ValueError as error:
        if "scaled_dot_product_attention" not in str(error):
            raise
        return load_weights(loader, directory, attn_implementation="eager", **fixed, **extra)


def prepare(
    module: Any,
    *,
    tokenizer: Any,
    device: torch.device,
    precision: torch.dtype,
    labels: Sequence[str],
    keeps_base: bool = False,
) -> TrainableModel:
    """Move to the device. Trained weights stay float32; with `keeps_base` those under an adapter take the precision of the products."""
    module.to(device)
    for parameter in module.parameters():
        # Frozen weights that are published with the trained ones must stay exactly what they were.
        if keeps_base and not parameter.requires_grad and parameter.is_floating_point():
            parameter.data = parameter.data.to(precision)
    set_products(module, precision)
    if precision != torch.float32:
        leave_inputs_to_autocast(module)
    fuse_lora(module)
    fuse_norms(module, device)
    use_fused_kernels(module, device)
    trainable = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    return TrainableModel(module, tokenizer, device, precision, tuple(labels), trainable)


def leave_inputs_to_autocast(module: Any) -> None:
    """LoRA's matrices take their input as it comes: peft would make it float32, and autocast bfloat16 again, twice a layer."""
    for part in module.modules():
        if isinstance(part, LoraLayer) and not part.lora_variant:
            part.cast_input_dtype_enabled = False


def set_products(module: Any, precision: torch.dtype) -> None:
    """In what precision the matrices of bitsandbytes multiply; the same on every CPU."""
    for part in module.modules():
        if hasattr(part, "compute_type_is_set"):  # 4-bit matrices
            part.compute_dtype, part.compute_type_is_set = precision, True
            # Else evaluations on some CPUs would pack the weights anew, for products in bfloat16.
            part.support_avx512bf16_for_cpu = False
    # 8-bit matrices log a line at each product.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
