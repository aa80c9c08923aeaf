"""Few-shot learning: heads that are the ones of the definitions, pairs of the right classes, features that the head really reads."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.tiny_models import byte_tokenizer, write_tiny_bert, write_tiny_llama
from tests.support.training import make_job
from transformers import AutoModelForSequenceClassification

from trimtab_trainer.contract.objectives import FewShot
from trimtab_trainer.data.encoded import Encoded
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.objectives.few_shot import FewShotLearning, pair_losses
from trimtab_trainer.objectives.linear_head import features, last_layer, logistic_regression, prototypes
from trimtab_trainer.preflight import check_config
from trimtab_trainer.tasks.sequence_classification import SequenceClassification
from trimtab_trainer.tasks.task import Round

CPU = torch.device("cpu")
GENERATOR = torch.Generator().manual_seed(3)
POINTS = torch.rand(20, 5, generator=GENERATOR)
LABELS = torch.arange(20) % 3
TEXTS = ["good", "so good", "bad", "really quite bad", "good one", "bad one"]


def encoded() -> list[Encoded]:
    tokenizer = byte_tokenizer()
    rows = [torch.tensor(tokenizer(text).input_ids, dtype=torch.int32).numpy() for text in TEXTS]
    return [Encoded(ids, ids > ids.max(), label=int("good" in text)) for ids, text in zip(rows, TEXTS, strict=True)]


def make_model(directory: Path, kind: str) -> TrainableModel:
    torch.manual_seed(3)
    write = {"bert": write_tiny_bert, "llama": write_tiny_llama}[kind]
    module = AutoModelForSequenceClassification.from_pretrained(write(directory), num_labels=2)
    weights = dict(module.named_parameters())
    return TrainableModel(module, byte_tokenizer(), CPU, torch.float32, ("bad", "good"), weights)


def make_task(*, seed: int = 0, **settings: Any) -> FewShotLearning:
    return FewShotLearning(SequenceClassification(CPU, pad_id=257), FewShot(**settings), encoded(), seed)


@pytest.mark.parametrize("has_bias", [True, False])
def test_logistic_regression_is_at_the_minimum_of_its_definition(has_bias: bool) -> None:  # noqa: FBT001 - a table's column
    weights, biases = logistic_regression(POINTS, LABELS, classes=3, regularization=0.5, has_bias=has_bias)
    errors = (POINTS.double() @ weights.T + biases).softmax(-1) - torch.nn.functional.one_hot(LABELS, 3)
    assert (errors.T @ POINTS.double() + 0.5 * weights).abs().max() < 1e-5
    assert errors.sum(0).abs().max() < 1e-5 if has_bias else not biases.any()


def test_prototypes_choose_the_nearest_mean() -> None:
    weights, biases = prototypes(POINTS, LABELS, classes=4)  # of the last class there is no example
    means = torch.stack([POINTS[one == LABELS].mean(0) for one in range(3)]).double()
    nearest = torch.cdist(POINTS.double(), means).argmin(-1)
    assert torch.equal((POINTS.double() @ weights.T + biases).argmax(-1), nearest)


def test_losses_are_squared_errors_of_cosines() -> None:
    first, second, third = POINTS[:6].view(3, 2, 5).unbind()
    expected = [
        (float(a @ b / a.norm() / b.norm()) - 1) ** 2 + float(a @ c / a.norm() / c.norm()) ** 2
        for a, b, c in zip(first, second, third, strict=True)
    ]
    assert pair_losses(first, second, third).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_features_are_what_the_head_reads(kind: str, tmp_path: Path) -> None:
    model, task = make_model(tmp_path, kind), make_task()
    batch = task.collate(task.train).own
    model.module.eval()
    with torch.no_grad():
        found = last_layer(model)(features(model, last_layer(model), batch.inputs))
        expected = task.classification.logits(model, batch)
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "head"), [("bert", "logisticRegression"), ("bert", "prototypes"), ("llama", "logisticRegression")]
)
def test_steps_draw_classes_apart_and_the_fitted_head_tells_them(kind: str, head: Any, tmp_path: Path) -> None:
    model, task = make_model(tmp_path, kind), make_task(head=head, regularization=0.01)
    model.train()
    optimizer = torch.optim.AdamW(model.trainable.values(), lr=0.003)
    head_before = last_layer(model).weight.detach().clone()
    losses = []
    for step in range(20):
        torch.manual_seed(step)
        task.begin_step(model, at_step(step))
        loss = task.loss(model, task.collate(task.train))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss))
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    assert torch.allclose(last_layer(model).weight, head_before, atol=0.01)  # steps leave the head alone
    task.begin_measuring(model, [])
    assert model.module.training
    model.module.eval()
    metrics = task.metrics(task.measure(model, task.collate(task.train)))
    assert metrics["accuracy"] == 1


def test_partners_follow_from_seed_step_and_example_and_have_the_right_class() -> None:
    task = make_task()
    pairs = partners(task)
    assert [own.label for own, _ in pairs] == [one.label for one in task.train] == [1 - one.label for _, one in pairs]
    assert all(own is not example for (own, _), example in zip(pairs, task.train, strict=True))
    torch.manual_seed(5)
    again = [task._partners(example) for example in reversed(task.train)]
    assert texts(again[::-1]) == texts(pairs)
    task.begin_step(None, at_step(1))  # type: ignore[arg-type]  # no model is asked
    assert texts(partners(task)) != texts(pairs)
    assert texts(partners(make_task(seed=1))) != texts(pairs)


def test_every_partner_comes_in_time() -> None:
    task, seen = make_task(), set()
    for step in range(40):
        task.begin_step(None, at_step(step))  # type: ignore[arg-type]  # no model is asked
        seen |= {one.ids.tobytes() for pair in partners(task)[:1] for one in pair}
    assert len(seen) == len(TEXTS) - 1  # all but the example itself


def partners(task: FewShotLearning) -> list[tuple[Encoded, Encoded]]:
    return [task._partners(example) for example in task.train]


def texts(pairs: list[tuple[Encoded, Encoded]]) -> list[list[bytes]]:
    return [[one.ids.tobytes() for one in pair] for pair in pairs]


def at_step(step: int) -> Round:
    return Round(step, 2, [], lambda _: [], 1, 0, 1, lambda: False)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_micro_batches_are_one_large_batch(size: int, tmp_path: Path) -> None:
    model, task = make_model(tmp_path, "bert"), make_task()
    model.module.eval()  # dropout differs between micro batches, as for every task
    task.begin_step(model, at_step(3))
    task.loss(model, task.collate(task.train)).backward()
    whole = [parameter.grad for parameter in model.trainable.values()]
    model.module.zero_grad()
    for number, start in enumerate(range(0, len(task.train), size)):
        torch.manual_seed(number)  # as the loop does
        task.loss(model, task.collate(task.train[start : start + size])).backward()
    pieces = [parameter.grad for parameter in model.trainable.values()]
    torch.testing.assert_close(pieces, whole, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"method": {"headOnly": {}}}, "moves the head alone", id="nothing below the head moves"),
        pytest.param({"task": {"sequenceClassification": {"multiLabel": True}}}, "multiLabel", id="several labels"),
        pytest.param({"training": {"labelSmoothing": 0.1}}, "labelSmoothing", id="no cross-entropy to smooth"),
        pytest.param({"training": {"balancedSampling": True}}, "balancedSampling", id="no classes to draw by"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], words: str) -> None:
    job = make_job(**{"task": {"sequenceClassification": {}}, "objective": {"fewShot": {}}, **changes})
    with pytest.raises(TrainerError, match=words):
        check_config(job, world_size=1)
