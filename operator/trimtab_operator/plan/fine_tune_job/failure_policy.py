"""The Job's `podFailurePolicy`, built from the contract's exit codes.

One failed pod ends the Job in any case (`backoffLimit: 0`). The rules are there for what they leave behind: the Job's condition
then says the exit code or the disruption, also when the pods are long gone. One rule per group, so that its index tells the group.
"""

from trimtab_operator.state import Manifest
from trimtab_trainer.contract.exit_codes import USER_MUST_ACT, ExitCode

CONTAINER = "trainer"


def pod_failure_policy() -> Manifest:
    """Disruptions first: a pod that was evicted exits with a code, too, and the eviction is the cause."""
    platform = [code for code in ExitCode if code not in USER_MUST_ACT and code is not ExitCode.SUCCEEDED]
    return {
        "rules": [
            {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            _on_exit_codes(sorted(USER_MUST_ACT)),
            _on_exit_codes(sorted(platform)),
        ]
    }


def _on_exit_codes(codes: list[ExitCode]) -> Manifest:
    values = [code.value for code in codes]
    return {"action": "FailJob", "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": values}}
