"""A few optimizer steps of a task on a tiny model, without a job around them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tests.support.rows import write_jsonl

from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.data.formats import read_examples
from trimtab_trainer.data.splits import encode_split
from trimtab_trainer.evaluate import evaluate
from trimtab_trainer.methods.registry import method_of
from trimtab_trainer.model import TrainableModel, load_model, prepare
from trimtab_trainer.objectives.registry import definition_of
from trimtab_trainer.world import World


@dataclass
class Learned:
    """What came of it."""

    before: dict[str, float]
    after: dict[str, float]
    model: TrainableModel
    task: Any
    encoded: Sequence[Any]
    labels: tuple[str, ...]


def learn(
    config: RunConfig, directory: Path, rows: Sequence[dict[str, Any]], scratch: Path, *, steps: int, rate: float
) -> Learned:
    """Train on all rows at once, `steps` times; metrics of the same rows before and after."""
    torch.set_num_threads(1)  # tiny matrices: threads would wait for each other, not compute
    definition = definition_of(config)
    path = write_jsonl(scratch / "rows.jsonl", rows)
    examples = read_examples([("rows.jsonl", path)], config.data.train[0], allowed=definition.formats)
    labels = definition.labels(config, examples)
    processor = definition.load_processor(directory)
    split = encode_split("train", examples, definition.encoder(config, directory, processor, labels).encode)
    module, new = load_model(
        config,
        directory,
        auto_model=definition.auto_model,
        arguments=definition.load_arguments(config, labels),
        has_new_head=definition.has_new_head,
        tokenizer=processor,
    )
    module = method_of(config).apply(config, module, new, None)
    model = prepare(module, tokenizer=processor, device=torch.device("cpu"), precision=torch.float32, labels=labels)
    task, _ = definition.make(config, model, split.encoded)

    def measured() -> dict[str, float]:
        return evaluate(model, task, split, world=World(), tokens_per_batch=1024, stop=lambda: False)

    before = measured()
    optimizer = torch.optim.AdamW(model.trainable.values(), lr=rate)
    targets = sum(task.targets(one) for one in split.encoded)
    for step in range(steps):
        torch.manual_seed(step)
        optimizer.zero_grad()
        (task.loss(model, task.collate(split.encoded)) / targets).backward()
        optimizer.step()
    return Learned(before, measured(), model, task, split.encoded, labels)
