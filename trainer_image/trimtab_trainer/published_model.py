"""A published version as a model that can be measured: loaded, and given data in its own words."""

import gc
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.data.splits import Split, encode_split
from trimtab_trainer.fetch.published import PublishedFiles
from trimtab_trainer.methods.own_adapters import with_adapter
from trimtab_trainer.model import TrainableModel, load_model, prepare
from trimtab_trainer.objectives.policy import give_scorer
from trimtab_trainer.objectives.registry import definition_of
from trimtab_trainer.objectives.rewards.scorer import Scorer
from trimtab_trainer.tasks.task import Task


@dataclass(frozen=True)
class Measurable:
    """A model with what it takes to measure it."""

    model: TrainableModel
    task: Task
    splits: Mapping[str, Split]
    """The examples in this model's own tokens and labels."""


def load_published(
    config: RunConfig,
    files: PublishedFiles,
    splits: Mapping[str, Split],
    *,
    device: torch.device,
    precision: torch.dtype,
    scorer: Scorer | None = None,
) -> Measurable:
    """Load a model as it is: nothing of it will move.

    Args:
        config: task, objective and sequence length by which it is measured.
        files: what was fetched.
        splits: examples; they are encoded anew, as this model may have another tokenizer or other labels.
        device: where to.
        precision: of the matrix products.
        scorer: what judges answers, where rewards do.

    Raises:
        TrainerError: ModelInvalid, or DatasetInvalid where an example has a label that the model does not know.
    """
    definition = definition_of(config)
    processor = definition.load_processor(files.adapter or files.directory)
    module, _ = load_model(
        config,
        files.directory,
        auto_model=definition.auto_model,
        arguments=definition.load_arguments(config, files.labels),
        has_new_head=definition.has_new_head,
        tokenizer=processor,
    )
    if files.adapter is not None:
        module = with_adapter(module, files.adapter)
    module.requires_grad_(requires_grad=False)
    model = prepare(
        module,
        tokenizer=processor,
        device=device,
        precision=precision,
        labels=files.labels,
        keeps_base=files.adapter is not None,
    )
    encoder = definition.encoder(config, files.directory, processor, files.labels)
    encoded = {name: encode_split(name, split.examples, encoder.encode) for name, split in splits.items()}
    sample = next((split.encoded for split in encoded.values() if split.encoded), [])
    task, _ = definition.make(config, model, sample)
    give_scorer(task, scorer)
    return Measurable(model, task, encoded)


def release(device: torch.device) -> None:
    """Give memory back that nobody holds any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
