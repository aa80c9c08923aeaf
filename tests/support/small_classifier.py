"""A BERT of a few kilobytes and texts of numbers: a whole training takes half a second."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from tests.support.tiny_models import byte_tokenizer
from transformers import BertConfig, BertForSequenceClassification

from trimtab_trainer.contract.messages import DataSummary
from trimtab_trainer.data.encoded import Encoded
from trimtab_trainer.data.splits import Split
from trimtab_trainer.evaluate import evaluate
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.practices.adversarial import Attack
from trimtab_trainer.tasks.sequence_classification import SequenceClassification
from trimtab_trainer.world import World

TASK = SequenceClassification(torch.device("cpu"), 63)
Telling = tuple[int, int]
"""The first of the five words that tell each of the two labels."""


def texts(count: int, *, seed: int, telling: Telling = (0, 10), misleading: Telling | None = None) -> list[Encoded]:
    """Five of twelve words tell the label, redundantly. The others say nothing, or are two of those that
    told the OTHER label of a task before."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        label = number % 2
        words, places = random.integers(40, 60, 12), random.permutation(12)
        words[places[:5]] = random.integers(0, 5, 5) + telling[label]
        if misleading is not None:
            words[places[5:7]] = random.integers(0, 5, 2) + misleading[1 - label]
        found.append(Encoded(words.astype(np.int32), np.zeros(12, np.bool_), label))
    return found


def small_classifier(seed: int = 3) -> TrainableModel:
    torch.manual_seed(seed)
    module = BertForSequenceClassification(
        BertConfig(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=1,
            num_attention_heads=4,
            max_position_embeddings=16,
            pad_token_id=63,
        )
    )
    torch.nn.init.normal_(module.bert.embeddings.word_embeddings.weight, std=0.3)
    parameters = dict(module.train().named_parameters())
    return TrainableModel(module, byte_tokenizer(), torch.device("cpu"), torch.float32, trainable=parameters)


def fit(
    model: TrainableModel,
    examples: Sequence[Encoded],
    *,
    steps: int = 100,
    attack: Attack | None = None,
    before_step: Callable[[], Any] = lambda: None,
) -> None:
    """AdamW on batches of 16; `before_step` may change the gradients."""
    optimizer = torch.optim.AdamW(model.module.parameters(), lr=2e-3)
    for step in range(steps):
        batch = TASK.collate([examples[(step * 16 + number) % len(examples)] for number in range(16)])
        if attack is None:
            (TASK.loss(model, batch) / 16).backward()
        else:
            attack.backward(lambda batch=batch: TASK.loss(model, batch), targets=16)  # type: ignore[misc]
        before_step()
        optimizer.step()
        optimizer.zero_grad()


def measured(model: TrainableModel, examples: Sequence[Encoded], attack: Attack | None = None) -> dict[str, float]:
    split = Split("test", examples, [], DataSummary(split="test", examples=len(examples)))
    return evaluate(model, TASK, split, world=World(), tokens_per_batch=2000, stop=lambda: False, attack=attack)
