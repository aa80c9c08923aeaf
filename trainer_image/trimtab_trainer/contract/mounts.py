"""Paths, ports and environment variables inside a trainer or server pod: made by the operator, read by the trainer."""

from pathlib import PurePosixPath as _Path

RUN_CONFIG_FILE = _Path("/etc/trimtab/run-config.json")
VERSION_JOB_FILE = _Path("/etc/trimtab/version-job.json")
CANARY_JOB_FILE = _Path("/etc/trimtab/canary-job.json")
SERVER_CONFIG_FILE = _Path("/etc/trimtab/server-config.json")
CREDENTIALS_DIRECTORY = _Path("/var/run/trimtab/storage")
"""The StorageProfile's Secret: one file a key (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, optional `AWS_SESSION_TOKEN`)."""
WEB_IDENTITY_TOKEN_FILE = _Path("/var/run/trimtab/web-identity/token")
HUB_DIRECTORY = _Path("/var/run/trimtab/hub")
"""Secret with the key `HF_TOKEN`."""
SIGNING_KEY_FILE = _Path("/var/run/trimtab/signing/signing.key")
"""Private key in PEM, the key `signing.key` of a Secret; only where `output.sign` is true."""
STATUS_DIRECTORY = _Path("/var/run/trimtab/status")
"""Projected volume: `token` (audience of the status endpoint) and `ca.crt`."""
VOLUMES_DIRECTORY = _Path("/mnt/trimtab")
"""`pvc://claim/path` is mounted read-only at `<this>/<claim>`."""
SCRATCH_DIRECTORY = _Path("/scratch")
"""Writable emptyDir; HOME, TMPDIR and all caches lie below it."""
TERMINATION_MESSAGE_FILE = _Path("/dev/termination-log")

STATUS_URL_VARIABLE = "KUBEFLOW_TRAINER_SERVER_URL"
STATUS_CA_VARIABLE = "KUBEFLOW_TRAINER_SERVER_CA_CERT"
STATUS_TOKEN_VARIABLE = "KUBEFLOW_TRAINER_SERVER_TOKEN"  # noqa: S105 - a path, not a secret
"""Kubeflow Trainer KEP-2779: URL to POST to, path of the CA certificate, path of the token."""
REPORT_URL_VARIABLE = "TRIMTAB_REPORT_URL"
"""POST a TrainerReport here; same CA and token."""
VERSION_URL_VARIABLE = "TRIMTAB_VERSION_URL"
"""POST a VersionRequest here, get a VersionReply; same CA and token."""
SERVER_URL_VARIABLE = "TRIMTAB_SERVER_URL"
"""POST a ServerReport here, get a ServerReply; same CA and token."""

SERVER_PORT = 8000
RENDEZVOUS_PORT = 29500
STATUS_TOKEN_AUDIENCE = "trimtab.dev/status"  # noqa: S105 - an audience, not a secret

MODELS_DIRECTORY = _Path("/models")
"""Shared by router and vLLM: verified files of base model and adapters."""
VLLM_PORT = 8001
"""On loopback: who reaches vLLM can have it load adapters."""
VLLM_BASE_MODEL = MODELS_DIRECTORY / "base-model"
"""Link to the base model, made when every byte of it is verified."""
VLLM_DRAINED_FILE = MODELS_DIRECTORY / "drained"
"""Made when the router has given its last answer: vLLM may end."""
