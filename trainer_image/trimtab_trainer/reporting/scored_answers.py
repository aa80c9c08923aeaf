"""What the tuned model answers to held-out prompts, and what that is worth: its best and its worst answers, for readers."""

from collections.abc import Callable, Sequence

from pydantic import Field

from trimtab_trainer.contract.base import Document
from trimtab_trainer.data.batches import micro_batches
from trimtab_trainer.data.encoded import cost
from trimtab_trainer.data.prompt_encoding import EncodedPrompt
from trimtab_trainer.data.splits import Split
from trimtab_trainer.interruption import Interruption
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.objectives.policy import Answering

ASKED = 64
SHOWN = 5
SHOWN_CHARACTERS = 300


class ScoredAnswer(Document):
    """One drawn answer to a held-out prompt."""

    prompt: str
    answer: str
    finished: bool
    """It ends by itself."""
    tokens: int
    reward: float
    terms: dict[str, float] = Field(default_factory=dict)
    """Each term of the reward, without its weight."""


def score_answers(
    model: TrainableModel, task: object, split: Split, *, tokens_per_batch: int, stop: Callable[[], bool]
) -> list[ScoredAnswer]:
    """One answer to each of the split's first prompts, best first; empty for tasks without rewards.

    Raises:
        Interruption: SIGTERM came.
    """
    if not isinstance(task, Answering):
        return []
    prompts = [one for one in split.encoded[:ASKED] if isinstance(one, EncodedPrompt)]
    rows = sorted(((index,) for index in range(len(prompts))), key=lambda row: -prompts[row[0]].length)
    found: list[ScoredAnswer] = []
    for batch in micro_batches(rows, size=None, tokens=tokens_per_batch, length=lambda row: cost(prompts[row[0]])):
        if stop():
            raise Interruption("SIGTERM while answers were drawn")
        for drawn, worth in task.draw_for_readers(model, [prompts[index] for row in batch for index in row]):
            found.append(
                ScoredAnswer(
                    prompt=drawn.prompt.content.last_words,
                    answer=drawn.text,
                    finished=drawn.is_finished,
                    tokens=len(drawn.ids),
                    reward=worth.total,
                    terms=dict(zip(task.scorer.names, worth.terms, strict=True)),
                )
            )
    return sorted(found, key=lambda one: -one.reward)


def render_scored(answers: Sequence[ScoredAnswer]) -> str:
    """A part of `report.md`."""
    if not answers:
        return ""
    best = list(answers[:SHOWN])
    worst = list(answers[max(SHOWN, len(answers) - SHOWN) :])
    parts = [
        f"## Answers and their rewards\n\nOf {len(answers)} drawn answers to held-out prompts, the best:\n\n{_table(best)}"
    ]
    if worst:
        parts.append(f"The worst:\n\n{_table(worst)}")
    return "\n\n".join(parts)


def _table(answers: Sequence[ScoredAnswer]) -> str:
    rows = [
        f"| {one.reward:.4g} | {', '.join(f'{name} {value:.3g}' for name, value in one.terms.items())} | {_cell(one.prompt)} "
        f"| {_cell(one.answer)}{'' if one.finished else ' *(unfinished)*'} |"
        for one in answers
    ]
    return "\n".join(["| reward | terms | prompt | answer |", "|---:|---|---|---|", *rows])


def _cell(text: str) -> str:
    return text[:SHOWN_CHARACTERS].replace("\n", " ").replace("|", "\\|").strip() or "*(nothing)*"
