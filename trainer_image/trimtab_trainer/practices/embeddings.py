"""The place between a model's input embeddings and its layers, where noise and attacks are added."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.model import TrainableModel


@dataclass
class Embeddings:
    """What is added to the output of the embedding layer in the next forward passes."""

    scale: float
    """Mean L2 norm of the word embeddings as they were loaded: the unit of attacks."""
    noise_alpha: float | None = None
    """NEFTune's alpha; only while training."""
    offset: Tensor | None = None
    """An attack, [rows, tokens, width]."""
    start: str = ""
    """`zero` or `uniform`: the next forward pass makes a new `offset` that wants its gradient."""
    examples: Tensor = field(default_factory=lambda: torch.empty(0))
    """[rows, tokens]: which example of the batch each token of the last forward pass belongs to; -1 for padding."""

    def norms(self, values: Tensor) -> Tensor:
        """The L2 norm of each token's example, [rows, tokens, 1], of values [rows, tokens, width]; padding counts for nothing."""
        squares = values.double().square().sum(-1) * (self.examples >= 0)
        return self._per_example(squares).sqrt().clamp_min(1e-12).float()[..., None]

    def lengths(self) -> Tensor:
        """Tokens of each token's example, [rows, tokens, 1]."""
        return self._per_example((self.examples >= 0).double()).clamp_min(1).float()[..., None]

    def _per_example(self, values: Tensor) -> Tensor:
        """Sums over examples, back at each token."""
        places = self.examples.clamp_min(0).reshape(-1)
        sums = torch.zeros(int(places.max()) + 1, dtype=values.dtype, device=values.device)
        return sums.index_add_(0, places, values.reshape(-1))[places].view_as(values)

    def noise(self, like: Tensor, size: float) -> Tensor:
        """Uniform noise of `size / sqrt(tokens * width)` for each example."""
        generator = torch.Generator(like.device).manual_seed(torch.initial_seed() & (2**63 - 1))
        uniform = torch.rand(like.shape, generator=generator, device=like.device) * 2 - 1
        return uniform * size / (self.lengths() * like.shape[-1]).sqrt() * (self.examples >= 0)[..., None]

    def see_inputs(self, _trunk: nn.Module, arguments: Any, named: dict[str, Any]) -> None:
        """Note whose token is whose, before the embeddings are looked up."""
        ids = named.get("input_ids", arguments[0] if arguments else None)
        if ids is not None:
            self.examples = example_numbers(ids, named.get("attention_mask"), named.get("position_ids"))

    def add(self, layer: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        """The hook: embeddings with what is to be added to them."""
        if (
            self.examples.shape != output.shape[:2]
        ):  # looked up outside of the trunk, as prompt tuning does: one example a row
            self.examples = example_numbers(output[..., 0], None, None)
        if layer.training and self.noise_alpha is not None:
            output = output + self.noise(output, self.noise_alpha).to(output.dtype)
        if self.start:
            flat = torch.zeros(output.shape, device=output.device)
            self.offset = (flat + self.noise(output, self.scale) if self.start == "uniform" else flat).requires_grad_()
            self.start = ""
        return output if self.offset is None else output + self.offset.to(output.dtype)


def example_numbers(ids: Tensor, mask: Tensor | None, positions: Tensor | None) -> Tensor:
    """[rows, tokens]: a number for each example, -1 for padding. In packed rows positions start at 0 with each example."""
    if mask is not None and mask.ndim == ids.ndim:
        rows = torch.arange(ids.shape[0], device=ids.device)[:, None].expand_as(ids)
        return rows.masked_fill(mask[:, -ids.shape[1] :] == 0, -1)  # a trained prefix comes before the tokens
    if positions is not None and positions.shape == ids.shape:
        return (positions == 0).reshape(-1).long().cumsum(0).view_as(ids) - 1
    return torch.arange(ids.shape[0], device=ids.device)[:, None].expand_as(ids)


def attach_embeddings(model: TrainableModel, *, noise_alpha: float | None) -> Embeddings:
    """Hook into the model.

    Raises:
        TrainerError: ConfigInvalid for models that do not look words up.
    """
    layer = model.base.get_input_embeddings()
    if not isinstance(layer, nn.Embedding):
        raise TrainerError(
            TrainerReason.CONFIG_INVALID,
            "`training.embeddingNoiseAlpha` and `training.adversarial` need a model of words; this one's input layer is "
            f"{type(layer).__name__}. Leave them out.",
        )
    norm = float(layer.weight.detach().float().norm(dim=-1).mean())
    embeddings = Embeddings(scale=norm if math.isfinite(norm) and norm > 0 else 1.0, noise_alpha=noise_alpha)
    trunk = getattr(model.base, model.base.base_model_prefix, model.base)
    trunk.register_forward_pre_hook(embeddings.see_inputs, with_kwargs=True)
    layer.register_forward_hook(embeddings.add)
    return embeddings
