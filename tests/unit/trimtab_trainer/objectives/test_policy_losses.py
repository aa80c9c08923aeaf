"""GRPO's and RLOO's losses and gradients: equal to the papers' formulas, written here one token at a time."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from trimtab_trainer.contract.objectives import Grpo, Rloo
from trimtab_trainer.objectives.policy_losses import Rollout, divergences, grpo_loss, rloo_loss

REWARDS = [{"length": {"maximumTokens": 3}}]
COUNTS = (3, 1, 4, 2, 2, 5)
"""Tokens of three answers to each of two prompts."""
GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(sum(COUNTS), 7, generator=GENERATOR)
CHOSEN = torch.randint(7, (sum(COUNTS), 1), generator=GENERATOR)
REFERENCE = torch.randn(sum(COUNTS), 7, generator=GENERATOR).log_softmax(-1).gather(1, CHOSEN)[:, 0]
GIVEN = torch.tensor([[1.0, 0.0, 0.5], [2.0, 2.0, 2.0]])
LONGEST = 6


def policy_of(logits: Tensor) -> Tensor:
    return logits.log_softmax(-1).gather(1, CHOSEN)[:, 0]


def rollout_of(logits: Tensor, *, with_reference: bool) -> Rollout:
    return Rollout(policy_of(logits), REFERENCE if with_reference else None, COUNTS, GIVEN, LONGEST)


def answers_of(values: Tensor) -> Sequence[Tensor]:
    return values.split(COUNTS)


def plain_grpo(logits: Tensor, settings: Grpo) -> Tensor:
    """arXiv:2402.03300, equations 3 and 4; TRL's GRPOTrainer with `loss_type` `grpo` and `dr_grpo`, summed over prompts."""
    old = policy_of(logits).detach()
    total = torch.zeros(())
    for number, (new, before, anchor) in enumerate(
        zip(*map(answers_of, (policy_of(logits), old, REFERENCE)), strict=True)
    ):
        group = GIVEN[number // 3].tolist()
        mean = sum(group) / 3
        advantage = group[number % 3] - mean
        if settings.scale_by_deviation:
            advantage /= (sum((one - mean) ** 2 for one in group) / 2) ** 0.5 + 1e-4
        of_answer = torch.zeros(())
        for token in range(len(new)):
            ratio = torch.exp(new[token] - before[token])
            clipped = torch.clamp(ratio, 0.8, 1.2)
            gain = torch.minimum(ratio * advantage, clipped * advantage)
            kl = torch.exp(anchor[token] - new[token]) - (anchor[token] - new[token]) - 1
            of_answer = of_answer + gain - settings.beta * kl
        total = total - of_answer / (LONGEST if settings.length_normalization == "constant" else len(new)) / 3
    return total


def plain_rloo(logits: Tensor, settings: Rloo) -> Tensor:
    """arXiv:2402.14740: REINFORCE on whole answers, each less the mean of the others; the gradient is what counts."""
    total = torch.zeros(())
    log_probabilities = [of_answer.sum() for of_answer in answers_of(policy_of(logits))]
    anchors = [of_answer.sum() for of_answer in answers_of(REFERENCE)]
    for number, log_probability in enumerate(log_probabilities):
        penalised = [
            float(GIVEN[number // 3, one])
            - settings.beta * float(log_probabilities[3 * (number // 3) + one] - anchors[3 * (number // 3) + one])
            for one in range(3)
        ]
        own = penalised.pop(number % 3)
        total = total - (own - sum(penalised) / 2) * log_probability / 3
    return total


def gradient(loss: Tensor, of: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(loss, of)
    return found


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"beta": 0.0}, id="Dr. GRPO"),
        pytest.param({"beta": 0.3}, id="Dr. GRPO near the reference"),
        pytest.param(
            {"beta": 0.04, "scaleByDeviation": True, "lengthNormalization": "answer"}, id="as the paper has it"
        ),
    ],
)
def test_grpo_is_the_papers_formula(settings: dict[str, object]) -> None:
    chosen = Grpo.model_validate({"rewards": REWARDS, **settings})
    ours, theirs = LOGITS.clone().requires_grad_(), LOGITS.clone().requires_grad_()
    found = grpo_loss(chosen)(rollout_of(ours, with_reference=chosen.beta > 0)).sum() / 3
    expected = plain_grpo(theirs, chosen)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient(found, ours), gradient(expected, theirs))


@pytest.mark.parametrize("beta", [0.0, 0.2])
def test_rloo_has_the_gradient_of_the_papers_formula(beta: float) -> None:
    chosen = Rloo.model_validate({"rewards": REWARDS, "beta": beta})
    ours, theirs = LOGITS.clone().requires_grad_(), LOGITS.clone().requires_grad_()
    found = rloo_loss(chosen)(rollout_of(ours, with_reference=beta > 0)).sum() / 3
    torch.testing.assert_close(gradient(found, ours), gradient(plain_rloo(theirs, chosen), theirs))


def test_a_prompt_whose_answers_are_all_worth_the_same_teaches_nothing() -> None:
    for loss in (
        grpo_loss(Grpo.model_validate({"rewards": REWARDS, "scaleByDeviation": True})),
        rloo_loss(Rloo.model_validate({"rewards": REWARDS})),
    ):
        logits = LOGITS.clone().requires_grad_()
        moved = gradient(loss(rollout_of(logits, with_reference=False)).sum(), logits)
        assert not moved[8:].any()
        assert moved[:8].any()


def test_k3_is_an_unbiased_estimate_of_the_divergence() -> None:
    policy, reference = (torch.randn(5, generator=GENERATOR).log_softmax(-1) for _ in range(2))
    exact = (policy.exp() * (policy - reference)).sum()
    torch.testing.assert_close((policy.exp() * divergences(policy, reference)).sum(), exact)
    assert (divergences(policy, reference) >= 0).all()
