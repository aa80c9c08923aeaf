"""How much memory a run will need, from sizes alone; and the micro batch size that fits."""

from dataclasses import dataclass

import torch

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.methods.registry import method_of
from trimtab_trainer.model_facts import ModelFacts
from trimtab_trainer.sharding import gathered_parameters
from trimtab_trainer.tasks.cross_entropy import CHUNK_LOGITS

GIB = 2**30
RUNTIME_BYTES = int((0.6 if torch.version.cuda is None else 1.2) * GIB)
"""Python, torch and transformers before any weight; measured as 0.52 GiB, and with the libraries of CUDA as 1.0 to 1.1."""
USABLE = 0.95
"""Share of the limit that the estimate may reach."""
TOKENS_PER_MICRO_BATCH = {"cpu": 2048, "cuda": 16384}
"""Where more tokens per forward pass no longer help; measured on CPUs with SmolLM2-135M."""
SINGLE_BUFFER_BYTES = 2 * GIB
"""Checkpoint states beyond this are copied into one buffer instead of two."""


@dataclass(frozen=True)
class Machine:
    """Where a process computes."""

    device_type: str = "cpu"
    shards: int = 1
    """Over how many processes the weights are spread."""


CPU = Machine()


@dataclass(frozen=True)
class MemoryEstimate:
    """Peak memory by what it is for, in bytes."""

    parameters: int
    trained_parameters: int
    weights: int
    training_state: int
    """Gradients, optimizer moments, best weights, checkpoint buffers."""
    activations: int
    """Where weights are spread: those that are gathered, too."""
    runtime: int = RUNTIME_BYTES

    @property
    def total(self) -> int:
        """All of it at once."""
        return self.weights + self.training_state + self.activations + self.runtime

    def __str__(self) -> str:
        return (
            f"{self.total / GIB:.1f} GiB ({self.parameters / 1e6:.0f} M weights {self.weights / GIB:.1f}, gradients, optimizer and "
            f"checkpoint buffers of {self.trained_parameters / 1e6:.1f} M trained weights {self.training_state / GIB:.1f}, "
            f"activations {self.activations / GIB:.1f}, runtime {self.runtime / GIB:.1f})"
        )


def estimate_memory(
    config: RunConfig, facts: ModelFacts, *, tokens: int, bytes_per_value: int, machine: Machine = CPU
) -> MemoryEstimate:
    """Peak memory of one process with `tokens` tokens in a micro batch: on an accelerator, of its own memory."""
    method = method_of(config)
    trained = method.trained_parameters(config, facts)
    weights = method.weight_bytes(config, facts, bytes_per_value)
    training = config.training
    average = training.exponential_moving_average is not None
    anchor = training.continual is not None
    fisher = training.continual is not None and training.continual.ewc is not None
    # Weights, two moments, best weights; where they are kept, their average and the Fisher information.
    checkpoint = 4 * trained * (4 + average + fisher)
    buffers = 0 if machine.device_type == "cuda" else 2 if checkpoint <= SINGLE_BUFFER_BYTES else 1
    # Per token and layer autograd keeps about 12 vectors of the hidden size and 5 of the inner one (linear layers' inputs,
    # norms, activation, gate and product); a trunk without gradients keeps none of the layers.
    texts = 3 if config.objective.few_shot is not None else 1  # each example with two partners
    layers, per_layer = method.kept_layers(config, facts), 12 * facts.width + 5 * facts.inner_width
    # Computed again, each layer keeps its input, and one at a time all of it.
    recomputed = training.recompute_activations and layers > 1
    per_token = layers * facts.width + per_layer if recomputed else layers * per_layer
    # The weights as they were, and the current ones set aside meanwhile.
    reference = 2 * ((config.objective.dpo or config.objective.grpo or config.objective.rloo) is not None)
    state = 4 * trained * (4 + 2 * average + anchor + fisher + reference)
    activations = bytes_per_value * texts * tokens * per_token + 3 * 4 * min(CHUNK_LOGITS, tokens * facts.words)
    if machine.shards > 1:
        # While training, weights and gradients of what is gathered, and what autocast made of each layer's weights, which the
        # backward pass needs again; all weights while measuring, which keeps no activations.
        casts = bytes_per_value * facts.parameters if bytes_per_value < 4 else 0  # noqa: PLR2004 - float32 needs none
        activations = max(activations + casts + 2 * 4 * gathered_parameters(facts), weights)
    return MemoryEstimate(
        parameters=facts.parameters,
        trained_parameters=trained,
        weights=weights // machine.shards,
        training_state=state // machine.shards + buffers * checkpoint,
        activations=activations,
    )


def choose_micro_batch_size(
    config: RunConfig, facts: ModelFacts, *, share: int, bytes_per_value: int, limit: int | None, machine: Machine = CPU
) -> tuple[int, MemoryEstimate]:
    """Rows per forward pass: what the user gave, else as many as help and fit.

    `share` is how many rows of a global batch one process works on; `limit` how many bytes it may use, if that is known.

    Raises:
        TrainerError: WillNotFit with the numbers and what to change.
    """
    length = tokens_of_row(config)
    given = config.training.micro_batch_size or _by_accumulation(config, share)
    wanted = given or max(1, min(share, TOKENS_PER_MICRO_BATCH[machine.device_type] // length))
    sizes = [wanted] if given else [size for size in range(wanted, 0, -1) if share % size == 0]
    for size in sizes:
        estimate = estimate_memory(
            config, facts, tokens=size * length, bytes_per_value=bytes_per_value, machine=machine
        )
        if limit is None or estimate.total <= USABLE * limit:
            return size, estimate
    smallest = estimate_memory(config, facts, tokens=length, bytes_per_value=bytes_per_value, machine=machine)
    raise TrainerError(
        TrainerReason.WILL_NOT_FIT,
        f"Training needs about {estimate} with {size} x {length} tokens in a micro batch, and the pod may use "
        f"{(limit or 0) / GIB:.1f} GiB. {_remedy(config, facts, size, smallest, limit or 0)}",
    )


def tokens_of_row(config: RunConfig) -> int:
    """The most that go through the model for one row: of a prompt, all of its answers."""
    rewarded = config.objective.from_rewards
    return config.data.max_sequence_length * (rewarded.samples_per_prompt if rewarded is not None else 1)


def _by_accumulation(config: RunConfig, share: int) -> int | None:
    steps = config.training.gradient_accumulation_steps
    return None if steps is None else max(1, share // steps)


def _remedy(config: RunConfig, facts: ModelFacts, size: int, smallest: MemoryEstimate, limit: int) -> str:
    changes = []
    if size > 1:
        changes.append(f"a smaller `training.microBatchSize` than {size}")
    if config.objective.from_rewards is not None:
        changes.append(f"fewer `objective.{config.objective.kind}.samplesPerPrompt`")
    if not method_of(config).is_adapter:
        changes.append(f"`method.lora` instead of `{config.method.kind}`")
    if not config.training.recompute_activations and method_of(config).kept_layers(config, facts) > 1:
        changes.append("`training.recomputeActivations: true`")
    if smallest.total - smallest.activations <= USABLE * limit:
        changes.append(f"a smaller `data.maxSequenceLength` than {config.data.max_sequence_length}")
    changes.append(f"a profile with at least {smallest.total / USABLE / GIB:.1f} GiB of memory")
    return f"Choose {' or '.join(changes)}."
