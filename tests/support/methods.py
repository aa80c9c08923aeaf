"""A model as a method prepares it, and a few steps on it, without the loop."""

from pathlib import Path

import torch

from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.methods.registry import method_of
from trimtab_trainer.model import TrainableModel, load_model, load_tokenizer, prepare
from trimtab_trainer.model_facts import read_model_facts
from trimtab_trainer.objectives.registry import definition_of
from trimtab_trainer.optimizer import make_optimizer, set_learning_rate

IDS = torch.randint(0, 256, (2, 12), generator=torch.Generator().manual_seed(1))


def make_model(config: RunConfig, directory: Path, *, adapter: Path | None = None) -> TrainableModel:
    definition, method = definition_of(config), method_of(config)
    method.check(config, read_model_facts(directory))
    labels = ("no", "yes") if definition.has_new_head else ()
    tokenizer = load_tokenizer(directory)
    loaded, new = load_model(
        config,
        directory,
        auto_model=definition.auto_model,
        arguments={**definition.load_arguments(config, labels), **method.load_arguments(config)},
        has_new_head=definition.has_new_head,
        tokenizer=tokenizer,
    )
    module = method.apply(config, loaded, new, adapter)
    return prepare(
        module, tokenizer=tokenizer, device=torch.device("cpu"), precision=torch.float32, labels=labels, keeps_base=True
    )


def train_steps(model: TrainableModel, config: RunConfig, steps: int = 4) -> list[float]:
    optimizer = make_optimizer(model.trainable, config.training, undecayed=method_of(config).undecayed)
    set_learning_rate(optimizer, config.training.learning_rate or 0.0)
    losses = []
    for _ in range(steps):
        logits = model.module(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits
        if logits.ndim == 2:
            loss = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1]))
        else:
            loss = torch.nn.functional.cross_entropy(logits[:, -11:-1].flatten(0, 1), IDS[:, -10:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss))
    return losses
