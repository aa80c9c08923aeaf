"""Rules about evaluation gates."""

from collections.abc import Sequence

from trimtab_operator.api.v1alpha1.reasons import Reason
from trimtab_operator.expressions import problem_of
from trimtab_operator.state import ObservedJob, Problem
from trimtab_trainer.contract.gates import Gate


def conditions_are_readable(observed: ObservedJob) -> Problem | None:
    """A gate that nobody can judge would be found out after hours of training."""
    return unreadable(observed.job.spec.evaluation.gates)


def unreadable(gates: Sequence[Gate]) -> Problem | None:
    """The first condition that cannot be read."""
    for index, gate in enumerate(gates):
        for field, text in (("successCondition", gate.success_condition), ("failureCondition", gate.failure_condition)):
            problem = problem_of(text) if text else ""
            if problem:
                return Problem(Reason.SPEC_INVALID, f"spec.evaluation.gates[{index}].{field}: {problem}.")
    return None
