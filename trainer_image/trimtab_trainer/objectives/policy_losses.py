"""Policy losses of sampled answers, one update for each batch of them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trimtab_trainer.contract.objectives import Grpo, Rloo

SMALLEST_DEVIATION = 1e-4
"""Added to standard deviations, as TRL does."""


@dataclass(frozen=True)
class Rollout:
    """Some prompts' answers, with all that a loss needs to know."""

    policy: Tensor
    """[tokens of all answers]: log-probabilities, with gradients."""
    reference: Tensor | None
    """[tokens]: by the model as the job found it; None where nothing holds the model near it."""
    counts: tuple[int, ...]
    """Tokens of each answer, in order."""
    rewards: Tensor
    """[prompts, answers]."""
    longest: int
    """`sampling.maxNewTokens`."""

    def by_answer(self, values: Tensor) -> Tensor:
        """[answers]: sums over the tokens of each."""
        return torch.stack([of_answer.sum() for of_answer in values.split(self.counts)])

    @property
    def tokens(self) -> Tensor:
        """[answers]: how many each has."""
        return torch.tensor(self.counts, device=self.policy.device, dtype=self.policy.dtype)


PolicyLoss = Callable[[Rollout], Tensor]
"""[answers]: to be summed and divided by the answers of each prompt."""


def divergences(policy: Tensor, reference: Tensor) -> Tensor:
    """[tokens]: k3, the estimate of KL(policy || reference) that is unbiased and never negative (Schulman, 2020; equation 4 of arXiv:2402.03300)."""
    difference = reference - policy
    return torch.exp(difference) - difference - 1


def grpo_loss(settings: Grpo) -> PolicyLoss:
    """Equation 3 of arXiv:2402.03300 at a probability ratio of 1, or with `constant` normalisation that of Dr. GRPO (arXiv:2503.20783)."""

    def loss(rollout: Rollout) -> Tensor:
        advantages = rollout.rewards - rollout.rewards.mean(1, keepdim=True)
        if settings.scale_by_deviation:
            advantages = advantages / (rollout.rewards.std(1, keepdim=True) + SMALLEST_DEVIATION)
        by_token = torch.repeat_interleave(advantages.reshape(-1), rollout.tokens.long())
        # The ratio to the policy that drew the answers: 1, with the gradient of the log-probability.
        losses = -torch.exp(rollout.policy - rollout.policy.detach()) * by_token
        if rollout.reference is not None:
            losses = losses + settings.beta * divergences(rollout.policy, rollout.reference)
        length = rollout.longest if settings.length_normalization == "constant" else rollout.tokens
        return rollout.by_answer(losses) / length

    return loss


def rloo_loss(settings: Rloo) -> PolicyLoss:
    """Equations 1 and 7 of arXiv:2402.14740: the reward loses `beta` times the log-ratio to the reference."""

    def loss(rollout: Rollout) -> Tensor:
        policy, rewards = rollout.by_answer(rollout.policy), rollout.rewards
        if rollout.reference is not None:
            log_ratios = policy.detach() - rollout.by_answer(rollout.reference)
            rewards = rewards - settings.beta * log_ratios.view_as(rewards)
        others = (rewards.sum(1, keepdim=True) - rewards) / (rewards.shape[1] - 1)
        return -(rewards - others).reshape(-1) * torch.exp(policy - policy.detach())

    return loss
