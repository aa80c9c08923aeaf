"""The trainer's errors: each has a reason of the contract, and so an exit code.

TrainerError
└─ carries a TrainerReason; anything else that escapes is `TrainerError` (1), retried by the operator
"""

from trimtab_trainer.contract.exit_codes import EXIT_CODE_OF, ExitCode, TrainerReason


class TrainerError(Exception):
    """An end that the operator understands. The message names the field, what was given and what to do."""

    def __init__(self, reason: TrainerReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    @property
    def exit_code(self) -> ExitCode:
        """The exit code that tells the operator this reason."""
        return EXIT_CODE_OF[self.reason]
