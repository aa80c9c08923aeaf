"""What a model makes of single examples, before and after training: to show what training changed."""

import math
from collections.abc import Sequence

from trimtab_trainer.attempt import Attempt
from trimtab_trainer.data.splits import Split
from trimtab_trainer.prepare import Prepared
from trimtab_trainer.reporting import answers
from trimtab_trainer.reporting.error_analysis import COMPARED_EXAMPLES, Before, ErrorAnalysis, analyse, examine
from trimtab_trainer.reporting.report import SampleAnswer
from trimtab_trainer.state import LoopState


def held_out(prepared: Prepared) -> Split:
    """The split that samples are taken from."""
    return prepared.splits["test"] if prepared.splits["test"].encoded else prepared.splits["validation"]


def sample_answers(attempt: Attempt, prepared: Prepared) -> list[str]:
    """Greedy answers to the first held-out questions; empty for tasks without answers."""
    encoder = answers.asking(prepared.encoder)
    if encoder is None:
        return []
    asked = answers.questions(held_out(prepared), encoder)
    return answers.answer(prepared.model, asked, stop_ids=sorted(encoder.stop_ids), stop=lambda: attempt.stop.requested)


def compare_samples(prepared: Prepared, base: Sequence[str], tuned: Sequence[str]) -> list[SampleAnswer]:
    """The base model's answers beside the tuned one's."""
    encoder = answers.asking(prepared.encoder)
    if encoder is None:
        return []
    asked = answers.questions(held_out(prepared), encoder)
    return [
        SampleAnswer(prompt=question.prompt, reference=question.reference, base=before, tuned=after)
        for question, before, after in zip(asked, base, tuned, strict=False)
    ]


def look_before(attempt: Attempt, prepared: Prepared, loop: LoopState) -> None:
    """Note what the base model makes of single examples, to show what training changed. The main process alone."""
    findings = examine(
        prepared.model,
        prepared.task,
        held_out(prepared),
        tokens_per_batch=prepared.micro_batch_size * attempt.config.data.max_sequence_length,
        stop=lambda: attempt.stop.requested,
        limit=COMPARED_EXAMPLES,
    )
    found = [findings[index] for index in range(len(findings))]
    if all(math.isfinite(one.loss) for one in found):
        loop.baseline_losses = [one.loss for one in found]
        loop.baseline_predicted = [one.predicted for one in found]


def look_at_errors(attempt: Attempt, prepared: Prepared, loop: LoopState) -> ErrorAnalysis | None:
    """The tuned model on single examples of the split that samples are taken from. The main process alone."""
    return analyse(
        prepared.model,
        prepared.task,
        held_out(prepared),
        tokens_per_batch=prepared.micro_batch_size * attempt.config.data.max_sequence_length,
        stop=lambda: attempt.stop.requested,
        before=Before(loop.baseline_losses, loop.baseline_predicted),
    )
