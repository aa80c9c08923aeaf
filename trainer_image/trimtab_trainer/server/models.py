"""Models in memory: loaded from verified safetensors, never with code or pickles of the model's author."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.methods.own_adapters import load_adapter
from trimtab_trainer.model import load_tokenizer, set_products
from trimtab_trainer.server.adapters import Adapters
from trimtab_trainer.server.rows import Rows, attention_kinds

_SUPPORTED_ATTENTION = {"full_attention", "sliding_attention"}
_TOLERANCE = 2e-3
"""Relative, of the logits in the trial at start: rounding stays far below it, a wrong mask or position far above."""
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError)


@dataclass(frozen=True)
class GenerationModel:
    """A causal language model that can run rows of different adapters together."""

    module: Any
    tokenizer: Any
    adapters: Adapters
    end_tokens: frozenset[int]
    """Tokens that end an answer."""
    max_length: int
    """Tokens of prompt and answer together."""


def load_generation_model(directory: Path, *, max_length: int, adapter: Path | None = None) -> GenerationModel:
    """Load a causal language model and try it.

    Args:
        directory: verified files.
        max_length: tokens of prompt and answer together.
        adapter: verified files of a bottleneck or LoReFT adapter that becomes a part of this model.

    Raises:
        TrainerError: ModelInvalid where the files are no such model, or one whose batches would not equal single requests.
    """
    tokenizer = load_tokenizer(adapter if adapter and (adapter / "tokenizer_config.json").is_file() else directory)
    module = _load(directory)
    if adapter is not None:
        module = load_adapter(module, adapter).to(module.device).requires_grad_(requires_grad=False).eval()
    kinds = attention_kinds(module.config.get_text_config(decoder=True))
    if not kinds <= _SUPPORTED_ATTENTION:
        unknown = ", ".join(sorted(kinds - _SUPPORTED_ATTENTION))
        raise TrainerError(
            TrainerReason.MODEL_INVALID,
            f"The built-in server cannot run models with {unknown} layers; use `serving.vllm`.",
        )
    try_rows(module)
    return GenerationModel(
        module,
        tokenizer,
        Adapters(module, mixes=True),
        end_tokens(module, tokenizer),
        min(max_length, _positions(module)),
    )


def end_tokens(module: Any, tokenizer: Any) -> frozenset[int]:
    """What ends an answer, by the model's generation settings and its tokenizer."""
    named = module.generation_config.eos_token_id
    several = named if isinstance(named, list) else [named]
    return frozenset(token for token in (*several, tokenizer.eos_token_id) if token is not None)


def try_rows(module: Any) -> None:
    """Compare a ragged batch with the model's own forward pass, so that an unknown architecture cannot answer nonsense.

    Raises:
        TrainerError: ModelInvalid where they differ.
    """
    prompts = [[5, 6, 7, 8, 9, 11], [9, 8, 7, 12]]
    with torch.inference_mode():
        ragged = Rows(module, max_rows=2)
        ragged.add(2)
        ragged.advance([prompt[:-1] for prompt in prompts])
        together = ragged.advance([prompt[-1:] for prompt in prompts])
        single = Rows(module, max_rows=1)
        single.add()
        in_pieces = [single.advance([piece]) for piece in ([5, 6, 7], [8, 9], [11])][-1]
        for found, prompt in ((together[0], prompts[0]), (together[1], prompts[1]), (in_pieces[0], prompts[0])):
            expected = module(input_ids=torch.tensor([prompt], device=module.device)).logits[0, -1]
            difference = float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-6))
            if not difference < _tolerance(module):
                raise TrainerError(
                    TrainerReason.MODEL_INVALID,
                    f"The built-in server cannot run {type(module).__name__}: a batch gives other logits than one request "
                    f"(relative difference {difference:.2g}). Use `serving.vllm`.",
                )


def _tolerance(module: Any) -> float:
    return _TOLERANCE if module.dtype == torch.float32 else 20 * _TOLERANCE


def _positions(module: Any) -> int:
    return int(getattr(module.config.get_text_config(), "max_position_embeddings", None) or 1 << 30)


def _load(directory: Path) -> Any:
    on_gpu = torch.cuda.is_available()
    try:
        module, info = AutoModelForCausalLM.from_pretrained(
            directory,
            # float32 on CPUs, where most have no faster type and batches equal single requests to the last token.
            dtype="auto" if on_gpu else torch.float32,
            attn_implementation="sdpa",
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except _UNREADABLE as error:
        raise TrainerError(TrainerReason.MODEL_INVALID, f"The model cannot be loaded: {error}") from error
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise TrainerError(
            TrainerReason.MODEL_INVALID, f"The model's files lack {len(missing)} weights, among them {missing[0]}."
        )
    module.requires_grad_(requires_grad=False)
    set_products(module, module.dtype)
    return module.to("cuda" if on_gpu else "cpu").eval()
