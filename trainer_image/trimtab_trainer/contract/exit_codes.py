"""How a trainer process ends, what that means, and who must act. The Job's `podFailurePolicy` is built from this."""

from enum import IntEnum, StrEnum


class TrainerReason(StrEnum):
    """Why a trainer failed; each is also a condition reason of the API."""

    CONFIG_INVALID = "ConfigInvalid"
    DATASET_NOT_FOUND = "DatasetNotFound"
    DATASET_INVALID = "DatasetInvalid"
    MODEL_NOT_FOUND = "ModelNotFound"
    MODEL_INVALID = "ModelInvalid"
    MODEL_ACCESS_DENIED = "ModelAccessDenied"
    DIGEST_MISMATCH = "DigestMismatch"
    WILL_NOT_FIT = "WillNotFit"
    OUT_OF_MEMORY = "OutOfMemory"
    LOSS_DIVERGED = "LossDiverged"
    SIGNATURE_INVALID = "SignatureInvalid"
    STORAGE_SECRET_MISSING = "StorageSecretMissing"  # noqa: S105 - a reason, not a secret
    STORAGE_ACCESS_DENIED = "StorageAccessDenied"
    STORAGE_NOT_FOUND = "StorageNotFound"
    STORAGE_UNAVAILABLE = "StorageUnavailable"
    PEER_LOST = "PeerLost"
    INTERRUPTED = "Interrupted"
    TRAINER_ERROR = "TrainerError"


class ExitCode(IntEnum):
    """Exit codes of the trainer container. 128 and above are signals, as the kernel reports them."""

    SUCCEEDED = 0
    TRAINER_ERROR = 1
    CONFIG_INVALID = 10
    DATASET_NOT_FOUND = 11
    DATASET_INVALID = 12
    MODEL_NOT_FOUND = 13
    MODEL_INVALID = 14
    MODEL_ACCESS_DENIED = 15
    DIGEST_MISMATCH = 16
    WILL_NOT_FIT = 17
    LOSS_DIVERGED = 18
    SIGNATURE_INVALID = 19
    STORAGE_SECRET_MISSING = 20
    STORAGE_ACCESS_DENIED = 21
    STORAGE_NOT_FOUND = 22
    STORAGE_UNAVAILABLE = 30
    PEER_LOST = 31
    OUT_OF_MEMORY = 137
    INTERRUPTED = 143


REASON_OF: dict[int, TrainerReason] = {
    code.value: TrainerReason[code.name] for code in ExitCode if code is not ExitCode.SUCCEEDED
}
"""Exit code to reason. A SIGKILL (137) is out of memory only where the kubelet says `OOMKilled`."""

EXIT_CODE_OF: dict[TrainerReason, ExitCode] = {reason: ExitCode(code) for code, reason in REASON_OF.items()}

USER_MUST_ACT: frozenset[ExitCode] = frozenset(
    code for code in ExitCode if ExitCode.CONFIG_INVALID <= code < ExitCode.STORAGE_UNAVAILABLE
)
"""Trying again cannot help: the job fails at once, without spending its attempts."""
