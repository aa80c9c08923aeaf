"""Task causalLanguageModeling: rows without padding, logits of supervised tokens only, loss, perplexity, accuracy."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from peft import TaskType
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.contract.spec import DataFormat
from trimtab_trainer.data.encoded import Encoded
from trimtab_trainer.data.encoding import TextEncoder
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.reporting.error_analysis import Finding
from trimtab_trainer.tasks.attention import attention_implementation, packed_arguments, packed_implementation
from trimtab_trainer.tasks.cross_entropy import (
    linear_cross_entropy,
    linear_log_probabilities,
    linear_losses,
    linear_measure,
)
from trimtab_trainer.tasks.definition import Encoder, TaskDefinition
from trimtab_trainer.tasks.padding import padded
from trimtab_trainer.tasks.task import Sums, Task

CHECKED_TOKENS = 512
"""How much of an example the forward check looks at."""
TOLERANCE = 2e-3
"""Relative; float32 and another order of summation."""


@dataclass(frozen=True)
class LanguageBatch:
    """A micro batch."""

    inputs: dict[str, Any]
    """Arguments of the model: `input_ids` [rows, tokens] and what belongs to them."""
    positions: Tensor
    """[targets]: where, counted over all rows, a state predicts a supervised token."""
    targets: Tensor
    """[targets]: those tokens."""
    counts: tuple[int, ...]
    """Targets of each example, in order."""
    bytes: int
    """What the targets stand for, where the encoder has counted it."""


@dataclass
class LanguageModeling:
    """The next token.

    An example matches exactly when the likeliest token is the right one at EVERY supervised position. Greedy decoding
    gives the reference if and only if that holds (by induction over the answer), so this needs no generation.
    """

    device: torch.device
    pad_id: int
    attention: str | None
    """Attention for rows of several documents without padding; None: one example a row, padded, full logits."""
    label_smoothing: float = 0.0
    """Of the training loss; measurements have none."""

    @property
    def layout(self) -> str:
        """How examples lie in a batch, for the report."""
        return f"no padding ({self.attention})" if self.attention else "padded rows"

    @property
    def pads(self) -> bool:
        """One example a row."""
        return self.attention is None

    def targets(self, example: Encoded) -> int:
        """Supervised tokens."""
        return example.targets

    def collate(self, examples: Sequence[Encoded]) -> LanguageBatch:
        """All examples end to end in one row, or each in its own padded row."""
        lengths = tuple(example.length for example in examples)
        width = 0 if self.attention else max(lengths)
        starts = [number * width for number in range(len(lengths))] if width else [0, *accumulate(lengths)][:-1]
        positions, targets = [], []
        for start, example in zip(starts, examples, strict=True):
            places = torch.from_numpy(example.supervised.nonzero()[0])
            positions.append(places + (start - 1))
            targets.append(torch.from_numpy(example.ids).long()[places])
        return LanguageBatch(
            inputs=self._packed(examples, lengths)
            if self.attention
            else padded([example.ids for example in examples], pad_id=self.pad_id, device=self.device),
            positions=torch.cat(positions).to(self.device),
            targets=torch.cat(targets).to(self.device),
            counts=tuple(len(of_example) for of_example in targets),
            bytes=sum(example.bytes for example in examples),
        )

    def loss(self, model: TrainableModel, batch: LanguageBatch) -> Tensor:
        """Sum of the cross-entropies of the supervised tokens."""
        with model.autocast():
            if self.attention is None:
                logits = self._logits(model, batch)
                return nn.functional.cross_entropy(
                    logits, batch.targets, reduction="sum", label_smoothing=self.label_smoothing
                )
            states = self._states(model, batch)
            return linear_cross_entropy(states, head_weight(model), batch.targets, self.label_smoothing)

    def log_probabilities(self, model: TrainableModel, batch: LanguageBatch, *, temperature: float = 1.0) -> Tensor:
        """[targets] float32: of each supervised token, given all before it, where logits are divided by the temperature."""
        with model.autocast():
            if self.attention is None:
                logits = self._logits(model, batch) / temperature
                return logits.log_softmax(-1).gather(1, batch.targets[:, None])[:, 0]
            states = self._states(model, batch) / temperature
            return linear_log_probabilities(states, head_weight(model), batch.targets)

    @torch.no_grad()
    def measure(self, model: TrainableModel, batch: LanguageBatch) -> Sums:
        """Counts of losses, targets, right tokens, examples, and examples that are right as a whole."""
        with model.autocast():
            if self.attention is None:
                logits = self._logits(model, batch)
                loss = nn.functional.cross_entropy(logits, batch.targets, reduction="sum")
                correct = logits.argmax(-1) == batch.targets
            else:
                loss, correct = linear_measure(self._states(model, batch), head_weight(model), batch.targets)
        exact = sum(bool(of_example.all()) for of_example in correct.cpu().split(batch.counts))
        return {
            "loss": float(loss),
            "targets": float(len(batch.targets)),
            "correct": float(correct.sum()),
            "examples": float(len(batch.counts)),
            "exact": float(exact),
            "bytes": float(batch.bytes),
        }

    @torch.no_grad()
    def examine(self, model: TrainableModel, batch: LanguageBatch) -> list[Finding]:
        """Mean loss of each example's supervised tokens."""
        with model.autocast():
            if self.attention is None:
                losses = nn.functional.cross_entropy(self._logits(model, batch), batch.targets, reduction="none")
            else:
                losses = linear_losses(self._states(model, batch), head_weight(model), batch.targets)
        return [Finding(float(of_example.mean())) for of_example in losses.cpu().split(batch.counts)]

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Mean loss per token (nats), its exponential, tokens predicted first, examples predicted as a whole.

        Where bytes were counted, `byte_perplexity` compares models with different tokenizers.
        """
        loss = sums["loss"] / sums["targets"]
        by_bytes = {"byte_perplexity": math.exp(min(sums["loss"] / sums["bytes"], 700.0))} if sums["bytes"] else {}
        return {
            "loss": loss,
            "perplexity": math.exp(min(loss, 700.0)),
            "token_accuracy": sums["correct"] / sums["targets"],
            "exact_match": sums["exact"] / sums["examples"],
            **by_bytes,
        }

    def _packed(self, examples: Sequence[Encoded], lengths: tuple[int, ...]) -> dict[str, Any]:
        ids = torch.cat([torch.from_numpy(example.ids) for example in examples]).long()[None]
        positions = torch.cat([torch.arange(length) for length in lengths])[None]
        return {
            "input_ids": ids.to(self.device),
            "position_ids": positions.to(self.device),
            **packed_arguments(lengths, str(self.attention), self.device),
        }

    def _states(self, model: TrainableModel, batch: LanguageBatch) -> Tensor:
        """[targets, width]: last hidden states where a supervised token is predicted."""
        trunk = getattr(model.base, model.base.base_model_prefix)
        # A cache would switch off transformers' own handling of packed rows (see attention.py).
        states = trunk(**batch.inputs, use_cache=False).last_hidden_state
        return states.reshape(-1, states.shape[-1])[batch.positions]

    def _logits(self, model: TrainableModel, batch: LanguageBatch) -> Tensor:
        """[targets, words] in float32 by the model's own head."""
        width = batch.inputs["input_ids"].shape[-1]
        logits = model.module(**batch.inputs, use_cache=False).logits[
            :, -width:
        ]  # virtual tokens stand before the text
        return logits.reshape(-1, logits.shape[-1])[batch.positions].float()


def head_weight(model: TrainableModel) -> Tensor:
    """[words, width]."""
    return model.base.get_output_embeddings().weight


def choose_layout(model: TrainableModel, examples: Sequence[Encoded]) -> tuple[LanguageModeling, str]:
    """Rows without padding where this very model computes the same with them, else padded rows and a warning.

    Architectures differ in their attention and heads (windows, soft caps, scaled logits, state-space layers). Instead of
    trusting a list, two short examples are computed both ways.

    Returns:
        The task, and why padding was chosen ("" where it was not).
    """
    pad_id = model.tokenizer.pad_token_id
    by_rows = LanguageModeling(model.device, pad_id, attention=None)
    if model.has_virtual_tokens:
        return by_rows, ""
    attention = packed_implementation(model.device)
    packed = LanguageModeling(model.device, pad_id, attention=attention)
    learnable = [_shortened(example) for example in examples if example.supervised[:CHECKED_TOKENS].any()]
    samples = sorted(learnable, key=lambda example: example.length)[:2]
    was_training = model.module.training
    model.module.eval()
    try:
        expected = [by_rows.measure(model, by_rows.collate([sample]))["loss"] for sample in samples]
        why = _difference(model, packed, samples, expected)
    finally:
        model.module.train(was_training)
    if why:
        return by_rows, f"Rows are padded, one example each, which is slower: {why}."
    model.base.set_attn_implementation(attention)
    return packed, ""


def _difference(
    model: TrainableModel, packed: LanguageModeling, samples: Sequence[Encoded], expected: Sequence[float]
) -> str:
    if type(model.base.get_output_embeddings()) is not nn.Linear or model.base.get_output_embeddings().bias is not None:
        return "the model's head is not a plain linear layer"
    try:
        with attention_implementation(model.base, str(packed.attention)):
            found = packed.measure(model, packed.collate(samples))["loss"]
    except (NotImplementedError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        return f"this architecture cannot compute packed rows ({type(error).__name__}: {error})"
    tolerance = TOLERANCE if model.precision == torch.float32 else 10 * TOLERANCE
    if not math.isclose(found, sum(expected), rel_tol=tolerance):
        return f"this architecture gives another loss for packed rows ({found:.6g} instead of {sum(expected):.6g})"
    return ""


def _shortened(example: Encoded) -> Encoded:
    return Encoded(example.ids[:CHECKED_TOKENS], example.supervised[:CHECKED_TOKENS])


class CausalLanguageModeling(TaskDefinition):
    """The next token of conversations, completions and raw text."""

    metric_names: Sequence[str] = ("loss", "perplexity", "token_accuracy", "exact_match")
    formats: tuple[DataFormat, ...] = ("messages", "promptCompletion", "text")
    auto_model = AutoModelForCausalLM
    pipeline_tag = "text-generation"
    peft_task_type = TaskType.CAUSAL_LM
    has_new_head = False
    packs = True
    smooths_labels = True
    has_fixed_inputs = True

    def encoder(self, config: RunConfig, directory: Path, processor: Any, labels: tuple[str, ...]) -> Encoder:
        """By the model's chat template, or as it stands."""
        del labels
        check_end_token(processor)
        supervised = config.objective.supervised
        return TextEncoder(
            processor,
            config.data.max_sequence_length,
            bool(supervised and supervised.loss_on_prompt),
            stop_ids(directory, processor),
        )

    def data_warnings(self, encoder: TextEncoder, train: Sequence[Encoded]) -> list[str]:
        """Whether any example teaches when to stop."""
        if any(item.cut or _teaches_stop(item, encoder.stop_ids) for item in train):
            return []
        return ["No training example ends in one of the model's stop tokens: the model is not taught when to stop."]

    def make(self, config: RunConfig, model: TrainableModel, train: Sequence[Encoded]) -> tuple[Task, str]:
        """Rows without padding where this very model computes the same with them."""
        task, warning = choose_layout(model, train)
        return replace(task, label_smoothing=config.training.label_smoothing), warning


def _teaches_stop(example: Encoded, stop_ids: frozenset[int]) -> bool:
    return int(example.ids[-1]) in stop_ids or any(int(token) in stop_ids for token in example.ids[example.supervised])


def check_end_token(tokenizer: Any) -> None:
    """A model that writes must be able to stop.

    Raises:
        TrainerError: ModelInvalid.
    """
    if tokenizer.eos_token_id is None:
        raise TrainerError(TrainerReason.MODEL_INVALID, "The model's tokenizer has no end-of-text token (eos_token).")


def stop_ids(directory: Path, tokenizer: Any) -> frozenset[int]:
    """The tokens at which generation stops: the tokenizer's EOS and those of `generation_config.json`."""
    try:
        found = json.loads((directory / "generation_config.json").read_text("utf-8")).get("eos_token_id")
    except (OSError, ValueError):
        found = None
    several = found if isinstance(found, list) else [found]
    return frozenset({tokenizer.eos_token_id, *(token for token in several if isinstance(token, int))})
