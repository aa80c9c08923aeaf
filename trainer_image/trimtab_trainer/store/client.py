"""How the S3 client is made: timeouts, retries, trust, and credentials that follow the mounted files."""

import atexit
import os
import ssl
import tempfile
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import botocore.session
import certifi
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleWithWebIdentityCredentialFetcher,
    CredentialProvider,
    CredentialResolver,
    Credentials,
    DeferredRefreshableCredentials,
    ReadOnlyCredentials,
)
from botocore.loaders import create_loader
from botocore.utils import FileWebIdentityTokenLoader

from trimtab_trainer.contract import mounts
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.run_config import Store
from trimtab_trainer.errors import TrainerError

MAX_CONNECTIONS = 32
_CONNECT_TIMEOUT_SECONDS = 5
_READ_TIMEOUT_SECONDS = 60
_ATTEMPTS = 5
"""Tries of one request. botocore's standard mode waits at most 1 + 2 + 4 + 8 s between five of them."""


def make_client(store: Store, *, credentials: Path) -> Any:
    """An S3 client for one StorageProfile. It speaks to nobody yet.

    Args:
        store: endpoint, region, trust and credential mode.
        credentials: directory with the Secret's keys as files; unused for `webIdentity`.

    Raises:
        TrainerError: `StorageSecretMissing` when a credential file is missing, `ConfigInvalid` for a malformed endpoint.
    """
    session = botocore.session.Session()
    session.register_component("data_loader", _service_descriptions())
    verify = _trusted_certificates(store)
    provider = (
        _WebIdentityProvider(session, store, verify)
        if store.credentials == "webIdentity"
        else _SecretProvider(store, credentials)
    )
    session.register_component("credential_provider", CredentialResolver([provider]))
    try:
        return session.create_client(
            "s3",
            endpoint_url=store.endpoint or None,
            region_name=store.region,
            verify=verify,
            config=_client_config(store),
        )
    except ValueError as error:
        raise TrainerError(
            TrainerReason.CONFIG_INVALID,
            f"StorageProfile '{store.profile}': `spec.endpoint` must be a URL such as https://s3.example.com; got '{store.endpoint}'.",
        ) from error


@cache
def _service_descriptions() -> Any:
    # Parsing S3's description takes 0.1 s, most of what a client costs: once a process is enough.
    return create_loader()


def _client_config(store: Store) -> Config:
    s3: dict[str, Any] = {"addressing_style": "path" if store.path_style else "virtual"}
    if not store.endpoint or store.endpoint.startswith("https://"):
        # TLS protects the body on its way; the manifest's SHA-256 protects it for good.
        s3["payload_signing_enabled"] = False
    return Config(
        connect_timeout=_CONNECT_TIMEOUT_SECONDS,
        read_timeout=_READ_TIMEOUT_SECONDS,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        max_pool_connections=MAX_CONNECTIONS,
        tcp_keepalive=True,
        # The default of boto3 >= 1.36 (CRC32 trailers) breaks several S3 servers; our own SHA-256 covers more.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        user_agent_extra="trimtab",
        s3=s3,
    )


def _trusted_certificates(store: Store) -> str | bool:
    """Path of a file with the system's certificates and the profile's, or True for the system's alone."""
    if not store.ca_bundle:
        return True
    system = Path(ssl.get_default_verify_paths().cafile or certifi.where())
    descriptor, name = tempfile.mkstemp(prefix="trimtab-ca-", suffix=".pem")
    atexit.register(Path(name).unlink, missing_ok=True)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(system.read_text(encoding="utf-8") + "\n" + store.ca_bundle + "\n")
    return name


class _SecretCredentials(Credentials):
    """Keys of a mounted Secret, read anew for each request: a rotation needs no restart."""

    def __init__(self, store: Store, directory: Path) -> None:
        self._store, self._directory = store, directory
        keys = self.get_frozen_credentials()
        super().__init__(keys.access_key, keys.secret_key, keys.token, method="trimtab-secret")

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        # The kubelet replaces all keys at once by moving one link; resolving it first never mixes old and new ones.
        directory = (self._directory / "..data").resolve()
        if not directory.is_dir():
            directory = self._directory
        return ReadOnlyCredentials(
            self._read(directory, "AWS_ACCESS_KEY_ID"),
            self._read(directory, "AWS_SECRET_ACCESS_KEY"),
            self._read(directory, "AWS_SESSION_TOKEN", optional=True) or None,
        )

    def _read(self, directory: Path, key: str, *, optional: bool = False) -> str:
        try:
            value = (directory / key).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            value = ""
        if not value and not optional:
            raise TrainerError(
                TrainerReason.STORAGE_SECRET_MISSING,
                f"StorageProfile '{self._store.profile}': its Secret must hold the key '{key}'; nothing was found at "
                f"{self._directory / key}. Create the Secret that `spec.credentials.secretName` names in the job's namespace.",
            )
        return value


class _SecretProvider(CredentialProvider):
    METHOD = "trimtab-secret"

    def __init__(self, store: Store, directory: Path) -> None:
        super().__init__()
        self._credentials = _SecretCredentials(store, directory)

    def load(self) -> Credentials:
        return self._credentials


class _WebIdentityProvider(CredentialProvider):
    """A projected service-account token, exchanged at STS for keys that botocore renews before they expire.

    Where the profile names an endpoint of its own, that store answers STS requests too (MinIO, Ceph); else AWS does.
    """

    METHOD = "trimtab-web-identity"

    def __init__(self, session: botocore.session.Session, store: Store, verify: str | bool) -> None:  # noqa: FBT001 - botocore's type
        super().__init__()
        if not Path(mounts.WEB_IDENTITY_TOKEN_FILE).exists():
            raise TrainerError(
                TrainerReason.STORAGE_SECRET_MISSING,
                f"StorageProfile '{store.profile}': there is no service-account token at {mounts.WEB_IDENTITY_TOKEN_FILE}.",
            )

        host = urlsplit(store.endpoint).hostname or ""
        endpoint = None if not host or host.endswith((".amazonaws.com", ".amazonaws.com.cn")) else store.endpoint

        def create_client(service: str, **options: Any) -> Any:
            return session.create_client(
                service, region_name=store.region, endpoint_url=endpoint, verify=verify, **options
            )

        fetcher = AssumeRoleWithWebIdentityCredentialFetcher(
            client_creator=create_client,
            web_identity_token_loader=FileWebIdentityTokenLoader(str(mounts.WEB_IDENTITY_TOKEN_FILE)),
            role_arn=store.web_identity_role_arn,
            extra_args={"RoleSessionName": "trimtab"},
        )
        self._credentials = DeferredRefreshableCredentials(method=self.METHOD, refresh_using=fetcher.fetch_credentials)

    def load(self) -> Credentials:
        return self._credentials
