"""What goes wrong between the trainer and the store, in words that name the StorageProfile, the bucket or key, and the remedy."""

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    SSLError,
)
from urllib3.exceptions import HTTPError

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.run_config import Store
from trimtab_trainer.errors import TrainerError

_DENIED_STATUS = frozenset({401, 403})
_UNAVAILABLE_CODES = frozenset({"SlowDown", "RequestTimeout", "RequestTimeTooSkewed", "Throttling", "OperationAborted"})
_UNAVAILABLE_STATUS = frozenset({409, 429})
_WRONG_REGION_CODES = frozenset(
    {"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"}
)
_DENIED_CODES = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidToken",
        "InvalidIdentityToken",
        "IDPRejectedClaim",
        "XAdminUserNotFound",
    }
)
_SERVER_ERROR = 500


class ObjectNotFoundError(TrainerError):
    """The key does not exist, though its bucket does."""


class ObjectExistsError(TrainerError):
    """The key already holds other bytes, and it must never be overwritten."""


def error_code(error: ClientError) -> str:
    """The store's own code, such as `NoSuchKey`; for replies without a body the HTTP status."""
    return str(error.response.get("Error", {}).get("Code", ""))


def http_status(error: ClientError) -> int:
    """The HTTP status of the store's reply; 0 if there was none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def is_already_there(error: ClientError) -> bool:
    """Whether a write found that the key exists, or that its own multipart upload was completed by a try whose reply was lost."""
    return error_code(error) in {"PreconditionFailed", "NoSuchUpload"} or http_status(error) == 412  # noqa: PLR2004 - "Precondition Failed"


def is_unsupported(error: ClientError) -> bool:
    """Whether the store says that it does not know conditional writes."""
    return http_status(error) == 501 or error_code(error) == "NotImplemented"  # noqa: PLR2004 - "Not Implemented"


def translate(error: Exception, *, store: Store, action: str, uri: str) -> TrainerError:
    """Turn an error of botocore into one that says who must act.

    Args:
        error: what botocore raised after its own retries.
        store: where the request went, for the name of the profile and its fields.
        action: a verb for the message: `read`, `write`, `list`, `delete`.
        uri: what the request was about.
    """
    if isinstance(error, TrainerError):
        return error
    where = f"StorageProfile '{store.profile}' ({store.endpoint or 'AWS ' + store.region})"
    if isinstance(error, ClientError):
        return _from_reply(error, store=store, where=where, what=f"cannot {action} {uri}")
    if isinstance(error, NoCredentialsError | CredentialRetrievalError):
        return TrainerError(
            TrainerReason.STORAGE_ACCESS_DENIED, f"{where}: no credentials could be obtained to {action} {uri}: {error}"
        )
    if isinstance(error, SSLError):
        return TrainerError(
            TrainerReason.STORAGE_UNAVAILABLE,
            f"{where}: TLS failed: {error}. `spec.caBundle` must hold the certificate authority of `spec.endpoint`.",
        )
    if isinstance(error, BotoCoreError | HTTPError | OSError):
        return TrainerError(
            TrainerReason.STORAGE_UNAVAILABLE,
            f"{where}: cannot {action} {uri}: {error}. `spec.endpoint` must be reachable from this pod: "
            "check the store, its Service and NetworkPolicies.",
        )
    return TrainerError(TrainerReason.TRAINER_ERROR, f"{where}: cannot {action} {uri}: {error}")


def _from_reply(error: ClientError, *, store: Store, where: str, what: str) -> TrainerError:
    code, status = error_code(error), http_status(error)
    said = f"{code or status}: {error.response.get('Error', {}).get('Message', '')}".strip(": ")
    if code == "NoSuchBucket":
        return TrainerError(
            TrainerReason.STORAGE_NOT_FOUND,
            f"{where}: {what}: the bucket does not exist ({said}). Create it, or correct `spec.bucket` or the URI.",
        )
    if code in _WRONG_REGION_CODES:
        return TrainerError(
            TrainerReason.STORAGE_NOT_FOUND,
            f"{where}: {what}: `spec.region` is '{store.region}', and the bucket is elsewhere ({said}). Correct the region.",
        )
    if code in _UNAVAILABLE_CODES or status >= _SERVER_ERROR or status in _UNAVAILABLE_STATUS:
        return TrainerError(TrainerReason.STORAGE_UNAVAILABLE, f"{where}: {what}, after several tries ({said}).")
    if status in _DENIED_STATUS or code in _DENIED_CODES:
        source = (
            "the role in `spec.credentials`"
            if store.credentials == "webIdentity"
            else "the keys in the profile's Secret"
        )
        return TrainerError(
            TrainerReason.STORAGE_ACCESS_DENIED,
            f"{where}: {what}: access denied ({said}). Check {source}, and that they may read, write, list and delete there.",
        )
    return TrainerError(TrainerReason.TRAINER_ERROR, f"{where}: {what} ({said}).")
