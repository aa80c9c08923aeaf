"""The operator's errors say who must act.

OperatorError
├─ RetryableError    time acts: the API server is away, a quota may be raised; try again after `retry_after`
│  └─ GoingError     the namespace is being deleted: nothing can be created in it any more
├─ ConflictError     somebody wrote first: read again and decide anew
├─ NotFoundError     the object is gone
├─ AlreadyExistsError  an object of this name is there
└─ RejectedError     the API server refused what we wrote (quota, admission, schema): a person must act
"""

from datetime import timedelta

from trimtab_operator.api.v1alpha1.reasons import Reason


class OperatorError(Exception):
    """The root of the tree."""


class RetryableError(OperatorError):
    """Time acts."""

    def __init__(self, message: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class GoingError(RetryableError):
    """The namespace is being deleted (403, NamespaceTerminating)."""


class ConflictError(OperatorError):
    """The object changed since it was read (409, resourceVersion or uid precondition)."""


class NotFoundError(OperatorError):
    """The object does not exist (404)."""


class AlreadyExistsError(OperatorError):
    """An object of this name exists (409 on create)."""


class RejectedError(OperatorError):
    """The API server refuses the object itself (403 quota or admission, 422 schema)."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
