"""StorageProfile: an S3-compatible store and how pods get at it."""

from typing import ClassVar

from pydantic import Field

from trimtab_operator.api.common import ApiObject, Column, Resource, StatusModel
from trimtab_trainer.contract.base import Document, OneOf, rules


class WebIdentity(Document):
    """Credentials by AssumeRoleWithWebIdentity with a projected service-account token."""

    role_arn: str = Field(min_length=1, max_length=2048)
    """The role to assume."""
    audience: str = Field(default="sts.amazonaws.com", max_length=253)
    """Audience of the token."""


class Credentials(OneOf):
    """How pods authenticate. Exactly one member."""

    secret_name: str | None = Field(default=None, min_length=1, max_length=253)
    """Secret, looked up in the namespace of the job, with the keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."""
    web_identity: WebIdentity | None = None
    """A role, assumed with the pod's service account."""


class StorageProfileSpec(Document):
    """Where the store is, and how to get at it."""

    model_config = rules(
        (
            "!self.endpoint.startsWith('http://') || self.insecure",
            "endpoint is plain http: use https, or set insecure: true for a store that you trust the network to",
        ),
    )

    endpoint: str = Field(default="", max_length=512, pattern=r"^(https?://[^/?#@]+)?$")
    """URL of the store, without a path. Empty: AWS."""
    region: str = Field(default="us-east-1", max_length=64)
    """Region to sign for."""
    bucket: str = Field(min_length=3, max_length=63, pattern=r"^[a-z0-9][a-z0-9.-]*[a-z0-9]$")
    """Bucket for checkpoints and models."""
    prefix: str = Field(default="", max_length=512, pattern=r"^([A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*)?$")
    """Key prefix inside the bucket, without slashes at the ends."""
    ca_bundle: str = Field(default="", max_length=65536)
    """PEM certificates to trust besides the system's."""
    path_style: bool = True
    """Bucket in the path instead of the host name."""
    insecure: bool = False
    """Allow a plain http endpoint."""
    credentials: Credentials
    """How pods authenticate. The operator itself never holds credentials."""
    default: bool = False
    """Jobs that name no storage use this one. Of several defaults the oldest counts."""


class ProbeResult(Document):
    """What the conformance probe of a job's pod found."""

    conditional_writes: bool
    """Of several concurrent `If-None-Match: *` puts, exactly one won."""
    read_after_write: bool
    """A written object is readable at once."""
    list_after_write: bool
    """A written object is listed at once."""
    multipart: bool
    """Multipart uploads work."""
    checked_at: str = ""
    """When."""
    message: str = Field(default="", max_length=1024)
    """What to know."""


class StorageProfileStatus(StatusModel):
    """What is true now."""

    probe: ProbeResult | None = None
    """The newest result of the conformance probe."""


class StorageProfile(ApiObject):
    """An S3-compatible store and how pods get at it."""

    resource: ClassVar[Resource] = Resource(
        kind="StorageProfile",
        plural="storageprofiles",
        short_name="sprof",
        scope="Cluster",
        columns=(
            Column("ENDPOINT", "string", ".spec.endpoint"),
            Column("BUCKET", "string", ".spec.bucket"),
            Column("CONFORMANT", "string", ".status.conditions[?(@.type=='Conformant')].status"),
            Column("DEFAULT", "string", ".spec.default"),
            Column("AGE", "date", ".metadata.creationTimestamp"),
        ),
    )

    spec: StorageProfileSpec
    """Where the store is, and how to get at it."""
    status: StorageProfileStatus = Field(default_factory=StorageProfileStatus)
    """What is true now."""
