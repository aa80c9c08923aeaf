"""Objective fewShot: texts of one class are drawn together, then a head is fitted on them (SetFit; Tunstall et al., 2022, arXiv:2209.11055)."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.objectives import FewShot
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.data.encoded import Encoded
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.objectives.linear_head import features, last_layer, logistic_regression, prototypes
from trimtab_trainer.objectives.mean_pooling import pool_by_mean, pools_by_mean
from trimtab_trainer.reporting.error_analysis import Finding
from trimtab_trainer.tasks.sequence_classification import LabelledBatch, SequenceClassification, TextClassification
from trimtab_trainer.tasks.task import Round, Sums, Task

MANY = 16
"""Examples of a class from which plain fine-tuning is usually as good."""
ROWS_AT_ONCE = 16
"""In a forward pass over the training examples."""
NO_STEP = -1
"""Outside of the steps; always the same, so that what a resumed run measures is what it would have been."""


@dataclass(frozen=True)
class FewBatch:
    """A micro batch: the task's own, and the examples that it is of."""

    own: LabelledBatch
    examples: Sequence[Encoded]


@dataclass
class FewShotLearning:
    """Each example of a batch with one of its own class and one of another; measured with a head that is fitted on all of them."""

    classification: SequenceClassification
    settings: FewShot
    train: Sequence[Encoded]
    """All training examples, where partners come from and what the head is fitted on."""
    seed: int = 0
    """Of the partners."""
    step: int = NO_STEP
    """The one that partners are drawn for."""
    memory: dict[str, Tensor] = field(default_factory=dict)
    """Nothing: all follows from the step."""

    @property
    def layout(self) -> str:
        """How examples lie in a batch, for the report."""
        return f"{self.classification.layout}, each with a partner of its own and of another class"

    def targets(self, example: Encoded) -> int:
        """Every example weighs the same."""
        return self.classification.targets(example)

    def collate(self, examples: Sequence[Encoded]) -> FewBatch:
        """Padded for measurements; partners come when a loss is asked for."""
        return FewBatch(self.classification.collate(examples), examples)

    def loss(self, model: TrainableModel, batch: FewBatch) -> Tensor:
        """Sum over the examples of the squared errors of two cosines: 1 with its own class, 0 with another.

        Partners follow from seed, step and example alone: however a batch is cut up, and resumed, they are the same.
        """
        pairs = [self._partners(example) for example in batch.examples]
        own, other = [own for own, _ in pairs], [other for _, other in pairs]
        inputs = self.classification.collate([*batch.examples, *own, *other]).inputs
        anchors, alike, unlike = features(model, last_layer(model), inputs).split(len(batch.examples))
        return pair_losses(anchors, alike, unlike).sum()

    def begin_step(self, model: TrainableModel, now: Round) -> Sums:
        """Every step has other partners."""
        del model
        self.step = now.step
        return {}

    def _partners(self, example: Encoded) -> tuple[Encoded, Encoded]:
        """One of its own class and one of another."""
        place = f"{self.seed}/{self.step}/{example.label}/".encode() + example.ids.tobytes()
        digest = hashlib.sha256(place).digest()
        same = [one for one in self.train if one.label == example.label and one is not example]
        own = same or [example]  # an only child under dropout is no copy of itself
        other = [one for one in self.train if one.label != example.label]
        first, second = int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:16], "big")
        return own[first % len(own)], other[second % len(other)]

    def begin_measuring(self, model: TrainableModel, examples: Sequence[Any]) -> None:
        """The head is fitted anew to the weights as they are."""
        del examples
        self.step = NO_STEP
        self.fit_head(model)

    @torch.no_grad()
    def fit_head(self, model: TrainableModel) -> None:
        """Fit the head on all training examples and put it into the model."""
        layer, was_training = last_layer(model), model.module.training
        model.module.eval()
        order = sorted(self.train, key=lambda one: -one.length)
        points = torch.cat(
            [
                features(model, layer, self.classification.collate(order[start : start + ROWS_AT_ONCE]).inputs)
                for start in range(0, len(order), ROWS_AT_ONCE)
            ]
        )
        labels = torch.tensor([one.label for one in order])
        scale = float(points.norm(dim=-1).mean()) or 1.0  # so that the penalty means the same for every model
        if self.settings.head == "prototypes":
            weights, biases = prototypes(points / scale, labels, classes=len(model.labels))
        else:
            weights, biases = logistic_regression(
                points / scale,
                labels,
                classes=len(model.labels),
                regularization=self.settings.regularization,
                has_bias=layer.bias is not None,
            )
        layer.weight.copy_(weights / scale)
        if layer.bias is not None:
            layer.bias.copy_(biases)
        if was_training:
            model.train()

    def measure(self, model: TrainableModel, batch: FewBatch) -> Sums:
        """As the classifier that it is."""
        return self.classification.measure(model, batch.own)

    def examine(self, model: TrainableModel, batch: FewBatch) -> list[Finding]:
        """Loss and choice for each text."""
        return self.classification.examine(model, batch.own)

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        """A classifier's."""
        return self.classification.metrics(sums)


def pair_losses(anchors: Tensor, alike: Tensor, unlike: Tensor) -> Tensor:
    """[rows]: squared errors of the cosines, as sentence-transformers' CosineSimilarityLoss has them; all arguments are [rows, width]."""
    return (cosine_similarity(anchors, alike) - 1) ** 2 + cosine_similarity(anchors, unlike) ** 2


class FewShotClassification(TextClassification):
    """An ordinary classifier, learned from a handful of examples of each class."""

    smooths_labels = False
    weighs_classes = False
    has_fixed_inputs = False
    epochs = 20.0

    def complete(self, config: RunConfig, model: Any, directory: Path) -> None:
        """The head reads what the encoder was made to say of a text."""
        settings = config.objective.few_shot or FewShot()
        if settings.pooling == "auto" and pools_by_mean(directory):
            pool_by_mean(model)

    def make(self, config: RunConfig, model: TrainableModel, train: Sequence[Encoded]) -> tuple[Task, str]:
        """Its head is fitted to the base model at first.

        Raises:
            TrainerError: ConfigInvalid for a head that has no bias where one is needed; DatasetInvalid where only one class occurs.
        """
        settings = config.objective.few_shot or FewShot()
        counts = Counter(example.label for example in train)
        if len(counts) < 2:  # noqa: PLR2004 - nothing to tell apart
            raise TrainerError(
                TrainerReason.DATASET_INVALID, "`objective.fewShot` needs training examples of at least two classes."
            )
        if settings.head == "prototypes" and last_layer(model).bias is None:
            raise TrainerError(
                TrainerReason.CONFIG_INVALID,
                "`objective.fewShot.head: prototypes` needs a head with a bias, which this model's has not. Use logisticRegression.",
            )
        classification = SequenceClassification(model.device, model.tokenizer.pad_token_id)
        learning = FewShotLearning(classification, settings, train, config.training.seed)
        learning.fit_head(model)
        most = max(counts.values())
        if most <= MANY:
            return learning, ""
        return learning, (
            f"`objective.fewShot` is made for at most {MANY} examples of a class; one here has {most}. Compare with `objective.supervised`."
        )
