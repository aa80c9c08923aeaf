"""Noise and attacks on the embeddings: sizes by formula, gradients by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.support.tiny_models import byte_tokenizer, write_tiny_llama
from torch import Tensor
from transformers import AutoModelForCausalLM

from trimtab_trainer.contract.practices import Adversarial
from trimtab_trainer.data.encoded import Encoded
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.practices.adversarial import Attack
from trimtab_trainer.practices.embeddings import attach_embeddings, example_numbers
from trimtab_trainer.tasks.language_modeling import LanguageModeling

CPU = torch.device("cpu")
FGM = {"fgm": {"epsilon": 2.0}}


def trainable(module: Any) -> TrainableModel:
    parameters = dict(module.named_parameters())
    return TrainableModel(module, byte_tokenizer(), CPU, torch.float32, trainable=parameters)


@pytest.fixture
def language_model(tmp_path: Path) -> TrainableModel:
    model = AutoModelForCausalLM.from_pretrained(write_tiny_llama(tmp_path))
    return trainable(model.train())


def documents(*lengths: int) -> list[Encoded]:
    random = np.random.default_rng(0)
    return [Encoded(random.integers(0, 200, length, np.int32), np.arange(length) > 1) for length in lengths]


def attacked(model: TrainableModel, settings: dict[str, Any]) -> Attack:
    return Attack(Adversarial.model_validate(settings), attach_embeddings(model, noise_alpha=None))


@pytest.mark.parametrize(
    ("mask", "positions", "expected"),
    [
        pytest.param([[1, 1, 1], [1, 0, 0]], None, [[0, 0, 0], [1, -1, -1]], id="padded"),
        pytest.param([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], None, [[0, 0, 0], [1, -1, -1]], id="behind a prefix of two"),
        pytest.param(None, [[0, 1, 2, 0, 1, 0]], [[0, 0, 0, 1, 1, 2]], id="packed"),
        pytest.param(None, None, [[0, 0], [1, 1]], id="plain"),
    ],
)
def test_whose_token_is_whose(mask: Any, positions: Any, expected: list[list[int]]) -> None:
    given = [None if one is None else torch.tensor(one) for one in (mask, positions)]
    assert example_numbers(torch.tensor(expected), *given).tolist() == expected


def test_the_noise_is_neftunes(language_model: TrainableModel) -> None:
    """Each number is uniform between plus and minus alpha / sqrt(tokens * width), in packed rows by document."""
    embeddings = attach_embeddings(language_model, noise_alpha=5.0)
    embeddings.examples = torch.tensor([[0] * 100 + [1] * 25])
    layer = language_model.base.get_input_embeddings()
    clean = torch.zeros(1, 125, 32)
    torch.manual_seed(1)
    noise = embeddings.add(layer, None, clean)
    bounds = [5 / (100 * 32) ** 0.5, 5 / (25 * 32) ** 0.5]
    for piece, bound in zip((noise[:, :100], noise[:, 100:]), bounds, strict=True):
        assert 0.95 * bound < float(piece.abs().max()) <= bound
        assert abs(float(piece.mean())) < 0.1 * bound
    assert torch.equal(embeddings.add(layer.eval(), None, clean), clean)


@pytest.mark.parametrize("is_packed", [True, False])
def test_an_attack_has_its_norm_for_each_example_and_raises_the_loss(
    language_model: TrainableModel, *, is_packed: bool
) -> None:
    attack = attacked(language_model, FGM)
    task = LanguageModeling(CPU, 257, attention="trimtab_packed" if is_packed else None)
    if is_packed:
        from trimtab_trainer.tasks.attention import packed_implementation  # noqa: PLC0415

        language_model.base.set_attn_implementation(packed_implementation(CPU))
    batch = task.collate(documents(9, 5, 7))
    clean = task.measure(language_model, batch)["loss"]
    attack.perturb(lambda: task.loss(language_model, batch))
    offset = attack.embeddings.offset
    assert offset is not None
    for number in range(3):
        norm = float(offset[attack.embeddings.examples == number].norm())
        assert norm == pytest.approx(2.0 * attack.embeddings.scale, rel=1e-4)
    assert task.measure(language_model, batch)["loss"] > clean
    attack.relax()
    assert task.measure(language_model, batch)["loss"] == clean
    assert all(value.grad is None for value in language_model.trainable.values())


def gradients(model: TrainableModel) -> list[Tensor]:
    found = [value.grad.clone() for value in model.trainable.values() if value.grad is not None]
    model.module.zero_grad()
    return found


def test_fgm_trains_on_the_mean_of_the_clean_and_the_perturbed_loss(language_model: TrainableModel) -> None:
    task = LanguageModeling(CPU, 257, attention=None)
    batch = task.collate(documents(9, 5))
    attack = attacked(language_model, FGM)

    def loss() -> Tensor:
        return task.loss(language_model, batch)

    reported = attack.backward(loss, targets=10)
    found = gradients(language_model)
    clean = loss()
    (clean / 20).backward()
    attack.perturb(loss)
    (loss() / 20).backward()
    attack.relax()
    expected = gradients(language_model)
    assert float(reported) == float(clean)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        pytest.param({"pgd": {"epsilon": 2.0, "steps": 4, "stepSize": 0.5}}, 4, id="PGD"),
        pytest.param({"freeLb": {"epsilon": 2.0, "steps": 4, "stepSize": 0.5}}, 4, id="FreeLB"),
    ],
)
def test_several_steps_stay_in_the_ball_and_find_higher_losses(
    settings: dict[str, Any], steps: int, language_model: TrainableModel
) -> None:
    task = LanguageModeling(CPU, 257, attention=None)
    batch = task.collate(documents(9, 5))
    attack = attacked(language_model, settings)
    losses: list[float] = []
    norms: list[float] = []

    def loss() -> Tensor:
        value = task.loss(language_model, batch)
        losses.append(float(value.detach()))
        offset = attack.embeddings.offset
        norms.append(0.0 if offset is None else float(offset.detach()[0].norm()) / attack.embeddings.scale)
        return value

    attack.backward(loss, targets=10)
    assert max(losses[1:]) > losses[0]
    assert max(norms) <= 2.0 * 1.0001
    assert len(losses) == (steps + 1 if "pgd" in settings else steps)


def test_only_models_of_words_are_accepted() -> None:
    class Pictures(torch.nn.Module):
        def get_input_embeddings(self) -> torch.nn.Module:
            return torch.nn.Conv2d(1, 1, 1)

    from trimtab_trainer.errors import TrainerError  # noqa: PLC0415

    with pytest.raises(TrainerError, match="need a model of words; this one's input layer is Conv2d"):
        attach_embeddings(trainable(Pictures()), noise_alpha=1.0)
