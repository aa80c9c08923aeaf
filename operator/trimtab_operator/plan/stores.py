"""Values of the contract that are made from our kinds: the store, and the model under a version."""

from trimtab_operator.api.v1alpha1 import ModelVersion
from trimtab_operator.api.v1alpha1.model_version import BaseModel
from trimtab_operator.api.v1alpha1.storage_profile import StorageProfileSpec
from trimtab_trainer.contract.run_config import ResolvedModelVersion, Store
from trimtab_trainer.contract.spec import ModelSource


def store(name: str, spec: StorageProfileSpec, *, probe: bool = False) -> Store:
    """How a pod finds the store of the StorageProfile of that name. Credentials come as files."""
    identity = spec.credentials.web_identity
    return Store(
        profile=name,
        endpoint=spec.endpoint,
        region=spec.region,
        bucket=spec.bucket,
        prefix=spec.prefix,
        ca_bundle=spec.ca_bundle,
        path_style=spec.path_style,
        credentials="webIdentity" if identity else "secret",
        web_identity_role_arn=identity.role_arn if identity else "",
        probe=probe,
    )


def model_source(base: BaseModel) -> ModelSource:
    """A version's base model, pinned to the bytes that it was trained on."""
    return ModelSource(uri=base.uri, revision=base.revision, digest=base.digest, secret_name=base.secret_name)


def resolved_version(version: ModelVersion) -> ResolvedModelVersion:
    """A published version as a trainer finds it."""
    artifact = version.published
    return ResolvedModelVersion(
        name=version.metadata.name,
        artifact_uri=artifact.uri,
        manifest_sha256=artifact.manifest_sha256,
        format=artifact.format,
        base_model=model_source(version.spec.base_model),
    )
