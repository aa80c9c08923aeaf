"""ServerConfig: the one document that tells a server what to serve. A pure function of rollout, versions and profiles."""

from collections.abc import Sequence

from trimtab_operator.api.v1alpha1 import ModelRollout, ModelVersion
from trimtab_operator.plan.stores import model_source, store
from trimtab_operator.state import ServerSetting
from trimtab_trainer.contract.manifests import canonical_json, sha256_hex
from trimtab_trainer.contract.run_config import JobIdentity, ServedVersion, ServerConfig, SignaturePolicy
from trimtab_trainer.contract.spec import Task

_KEY_CHARACTERS = 16


def server_config(
    rollout: ModelRollout,
    setting: ServerSetting,
    versions: Sequence[tuple[ModelVersion, int]],
    *,
    revision: int,
) -> ServerConfig:
    """The versions with their weights, on servers made from that setting."""
    metadata, servers, signing = rollout.metadata, rollout.spec.serving.servers, setting.profile.spec.signing
    return ServerConfig(
        rollout=JobIdentity(namespace=metadata.namespace, name=metadata.name, uid=metadata.uid),
        model_name=rollout.spec.model_name,
        task=setting.version.spec.task or Task.model_validate({"causalLanguageModeling": {}}),
        base_model=model_source(setting.version.spec.base_model),
        versions=[served_version(version, weight=weight) for version, weight in versions],
        revision=revision,
        sticky=servers.sticky if servers else True,
        store=store(setting.storage.metadata.name, setting.storage.spec),
        signatures=SignaturePolicy(public_keys=signing.public_keys, required=signing.required),
        # Where every version has a vLLM of its own there is no base model beside it.
        offer_base_model=rollout.spec.serving.gateway is None,
        termination_grace_seconds=setting.profile.spec.termination_grace_period_seconds,
    )


def config_key(config: ServerConfig) -> str:
    """Names everything in it that a running server cannot change: servers with the same key differ in their weights only.

    A vLLM that has no base model is started with its version.

    A field that a release adds is in it where it is on: an upgrade starts no server anew.
    """
    changing = ("versions", "revision", "sticky") if config.offer_base_model else ("revision", "sticky")
    fixed = {key: value for key, value in config.to_sparse_json().items() if key not in changing}
    return sha256_hex(canonical_json(fixed))[:_KEY_CHARACTERS]


def served_version(version: ModelVersion, *, weight: int) -> ServedVersion:
    """A version as the server knows it."""
    artifact = version.published
    return ServedVersion(
        name=version.metadata.name,
        version=version.spec.version,
        artifact_uri=artifact.uri,
        manifest_sha256=artifact.manifest_sha256,
        # What else a ModelVersion may be, validation has refused.
        format="safetensors" if artifact.format == "ensemble" else artifact.format,
        max_sequence_length=version.spec.max_sequence_length,
        signed=version.spec.signature is not None,
        weight=weight,
    )
