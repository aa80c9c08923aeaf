"""A Job that looks at a published version: real store, real bytes, real numbers."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.support.object_store import BUCKET, admin_client
from tests.support.training import End, Job, run_job

from trimtab_trainer import termination, version_job
from trimtab_trainer.contract.exit_codes import ExitCode, TrainerReason
from trimtab_trainer.contract.messages import TerminationMessage
from trimtab_trainer.contract.run_config import RunConfig, SignaturePolicy, VersionJobConfig

GATES: dict[str, Any] = {
    "gates": [
        {"metric": "perplexity", "source": "general", "successCondition": "result <= baseline * 1.05"},
        {"metric": "loss", "successCondition": "result < champion"},
    ]
}
GENERAL: dict[str, Any] = {"general": [{"uri": "s3://trimtab/in/data/general.jsonl"}]}


def run_version_job(config: VersionJobConfig, scratch: Path) -> tuple[int, TerminationMessage]:
    """As in its pod: configuration and last words are files."""
    scratch.mkdir(exist_ok=True)
    file, log = scratch / "version-job.json", scratch / "termination-log"
    file.write_text(config.model_dump_json(by_alias=True, exclude_none=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(version_job.CONFIG_VARIABLE, str(file))
        patch.setenv(version_job.SCRATCH_VARIABLE, str(scratch))
        patch.setenv(termination.FILE_VARIABLE, str(log))
        code = version_job.main()
    return code, TerminationMessage.model_validate_json(log.read_bytes())


def of(config: RunConfig, ended: End, **evaluate: Any) -> VersionJobConfig:
    """What the operator writes for a version that this run published."""
    published = ended.message.published
    assert published is not None, ended.message.message
    version = {
        "name": published.name,
        "artifactUri": published.uri,
        "manifestSha256": published.manifest_sha256,
        "format": published.format,
        "baseModel": config.model.to_json(),
    }
    document = {
        "namespace": "team",
        "version": version,
        "task": config.task.to_json(),
        "store": config.store.to_json(),
    }
    if evaluate:
        document["evaluate"] = {
            "objective": config.objective.to_json(),
            "data": config.data.to_json(),
            "precision": config.training.precision,
            **evaluate,
        }
    return VersionJobConfig.model_validate(document)


def test_a_version_is_read_back_and_measured_as_it_was(job: Job, tmp_path: Path) -> None:
    config = job(data=GENERAL, evaluation=GATES)
    ended = run_job(config, tmp_path / "run")
    asked = of(config, ended, evaluation=GATES)
    champion = asked.version.model_copy(update={"name": "tone-v0"})
    assert asked.evaluate is not None
    asked = asked.model_copy(update={"evaluate": asked.evaluate.model_copy(update={"champion": champion})})
    code, words = run_version_job(asked, tmp_path / "again")
    assert code == ExitCode.SUCCEEDED, words.message
    assert words.verification is not None
    assert words.verification.holds
    assert words.champion == "tone-v0"
    for before, now in zip(ended.message.gates, words.gates, strict=True):
        assert float(now.result or "nan") == pytest.approx(float(before.result or "nan"), rel=1e-4)
        assert float(now.baseline or "nan") == pytest.approx(float(before.baseline or "nan"), rel=1e-4)
        assert now.champion == now.result, "it was compared with itself"


def test_what_does_not_match_is_named(job: Job, tmp_path: Path, s3_endpoint: str) -> None:
    config = job()
    ended = run_job(config, tmp_path / "run")
    assert ended.message.published is not None
    folder = ended.message.published.uri.removeprefix(f"s3://{BUCKET}/")
    with closing(admin_client(s3_endpoint)) as client:
        key = f"{folder}/adapter_model.safetensors"
        data = bytearray(client.get_object(Bucket=BUCKET, Key=key)["Body"].read())
        data[len(data) // 2] ^= 1
        client.put_object(Bucket=BUCKET, Key=key, Body=bytes(data))
        client.delete_object(Bucket=BUCKET, Key=f"{folder}/README.md")
    code, words = run_version_job(of(config, ended, evaluation=GATES), tmp_path / "again")
    assert (code, words.reason) == (ExitCode.DIGEST_MISMATCH, TrainerReason.DIGEST_MISMATCH)
    assert words.verification is not None
    assert not words.verification.holds
    assert "README.md is missing" in words.verification.message
    assert "adapter_model.safetensors has sha256" in words.verification.message
    assert words.gates == [], "bytes that do not match are not loaded"

    other = of(config, ended)
    other = other.model_copy(update={"version": other.version.model_copy(update={"manifest_sha256": 64 * "a"})})
    _, words = run_version_job(other, tmp_path / "other")
    assert words.verification is not None
    assert "manifest.json has sha256" in words.verification.message


def test_a_signature_that_is_gone_is_told(job: Job, tmp_path: Path) -> None:
    config = job()
    ended = run_job(config, tmp_path / "run")
    policy = SignaturePolicy(public_keys=["nobody is asked: there is no signature"])
    signed = of(config, ended).model_copy(update={"signatures": policy, "signed": True})
    code, words = run_version_job(signed, tmp_path / "again")
    assert (code, words.reason) == (ExitCode.SIGNATURE_INVALID, TrainerReason.SIGNATURE_INVALID)
    assert words.verification is not None
    assert not words.verification.holds
    assert "there is no s3://" in words.verification.message


def test_data_that_is_gone_is_no_verdict_on_the_bytes(job: Job, tmp_path: Path) -> None:
    config = job(data=GENERAL)
    ended = run_job(config, tmp_path / "run")
    asked = of(
        config.model_copy(update={"data": job(data={"test": [{"uri": "s3://trimtab/in/no.jsonl"}]}).data}),
        ended,
        evaluation={"gates": GATES["gates"][1:]},
    )
    code, words = run_version_job(asked, tmp_path / "again")
    assert code == ExitCode.DATASET_NOT_FOUND
    assert words.verification is not None
    assert words.verification.holds


def an_import(config: RunConfig, uri: str, *, kind: str = "peftAdapter", number: int = 7) -> VersionJobConfig:
    source = {
        "uri": uri,
        "format": kind,
        "name": f"bought-v{number}",
        "modelName": "bought",
        "version": number,
        "uid": f"uid-{number}",
        "baseModel": config.model.to_json(),
    }
    return VersionJobConfig.model_validate(
        {
            "namespace": "team",
            "importFrom": source,
            "task": config.task.to_json(),
            "store": config.store.to_json(),
        }
    )


def test_an_adapter_from_elsewhere_becomes_a_version_and_is_measured(
    job: Job, tmp_path: Path, s3_endpoint: str
) -> None:
    config = job(data=GENERAL, evaluation=GATES)
    ended = run_job(config, tmp_path / "run")
    assert ended.message.published is not None
    folder = ended.message.published.uri.removeprefix(f"s3://{BUCKET}/")
    with closing(admin_client(s3_endpoint)) as client:
        for entry in client.list_objects_v2(Bucket=BUCKET, Prefix=folder)["Contents"]:
            name = entry["Key"].rpartition("/")[2]
            if name not in ("manifest.json", "provenance.json"):
                client.copy_object(
                    Bucket=BUCKET, Key=f"lake/mine/{name}", CopySource={"Bucket": BUCKET, "Key": entry["Key"]}
                )
    asked = an_import(config, f"s3://{BUCKET}/lake/mine")
    evaluate = of(config, ended, evaluation=GATES).evaluate
    code, words = run_version_job(asked.model_copy(update={"evaluate": evaluate}), tmp_path / "import")
    assert code == ExitCode.SUCCEEDED, words.message
    assert words.published is not None
    assert words.published.uri == f"s3://{BUCKET}/runs/team/models/bought/7"
    assert words.verification is not None
    assert words.verification.holds
    assert float(words.gates[0].result or "nan") == pytest.approx(
        float(ended.message.gates[0].result or "nan"), rel=1e-4
    )
    _, again = run_version_job(asked, tmp_path / "again")
    assert again.published is not None
    assert again.published.manifest_sha256 == words.published.manifest_sha256, "a second try finds the first one's work"

    other = asked.model_copy(update={"import_from": asked.import_from.model_copy(update={"uid": "other"})})  # type: ignore[union-attr]
    code, words = run_version_job(other, tmp_path / "other")
    assert code == ExitCode.CONFIG_INVALID
    assert "already holds another model as version 7" in words.message


def test_a_whole_model_is_imported_and_what_is_no_adapter_is_not(job: Job, tmp_path: Path) -> None:
    config = job()
    model = config.model.uri
    code, words = run_version_job(an_import(config, model, kind="safetensors"), tmp_path / "whole")
    assert code == ExitCode.SUCCEEDED, words.message
    assert words.published is not None
    assert (words.published.format, words.published.files > 2) == ("safetensors", True)
    code, words = run_version_job(an_import(config, model, number=8), tmp_path / "adapter")
    assert code == ExitCode.MODEL_INVALID
    assert "adapter_config.json and adapter_model.safetensors is missing" in words.message


def keys(endpoint: str, prefix: str) -> list[str]:
    with closing(admin_client(endpoint)) as client:
        found = client.list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}/").get("Contents", [])
        return [entry["Key"].removeprefix(f"{prefix}/") for entry in found]


def a_deletion(config: RunConfig, name: str, number: int, sha256: str, uid: str = "uid") -> VersionJobConfig:
    gone = {"name": f"{name}-v{number}", "modelName": name, "version": number, "uid": uid, "manifestSha256": sha256}
    document = {"namespace": "team", "task": config.task.to_json(), "store": config.store.to_json(), "delete": gone}
    return VersionJobConfig.model_validate(document)


def test_a_deleted_version_leaves_a_mark_and_its_number_is_not_used_again(
    job: Job, tmp_path: Path, s3_endpoint: str
) -> None:
    config = job()
    made = run_job(config, tmp_path / "run").message.published
    assert made is not None
    folder = made.uri.removeprefix(f"s3://{BUCKET}/")
    name = config.output.model_name
    before = keys(s3_endpoint, folder)
    code, words = run_version_job(a_deletion(config, name, made.version, 64 * "a"), tmp_path / "other")
    assert (code, words.reason) == (ExitCode.DIGEST_MISMATCH, TrainerReason.DIGEST_MISMATCH)
    assert keys(s3_endpoint, folder) == before, "another manifest than the version's is not touched"

    asked = a_deletion(config, name, made.version, made.manifest_sha256)
    code, words = run_version_job(asked, tmp_path / "gone")
    assert (code, words.reason) == (ExitCode.SUCCEEDED, "Succeeded"), words.message
    assert f"{len(before)} objects" in words.message
    assert keys(s3_endpoint, folder) == ["deleted.json"]
    code, words = run_version_job(asked, tmp_path / "again")
    assert (code, keys(s3_endpoint, folder)) == (ExitCode.SUCCEEDED, ["deleted.json"]), "twice is once"

    imported = an_import(config, config.model.uri, kind="safetensors", number=made.version)
    source = imported.import_from.model_copy(update={"model_name": name})  # type: ignore[union-attr]
    code, words = run_version_job(imported.model_copy(update={"import_from": source}), tmp_path / "number")
    assert code == ExitCode.CONFIG_INVALID
    assert "already holds another model" in words.message


def test_an_import_that_was_never_published_takes_only_its_own_along(
    job: Job, tmp_path: Path, s3_endpoint: str
) -> None:
    config = job()
    code, words = run_version_job(an_import(config, config.model.uri, kind="safetensors"), tmp_path / "import")
    assert words.published is not None
    folder = words.published.uri.removeprefix(f"s3://{BUCKET}/")
    before = keys(s3_endpoint, folder)
    code, _ = run_version_job(a_deletion(config, "bought", 7, "", uid="somebody else"), tmp_path / "other")
    assert (code, keys(s3_endpoint, folder)) == (ExitCode.SUCCEEDED, before)
    code, _ = run_version_job(a_deletion(config, "bought", 7, "", uid="uid-7"), tmp_path / "own")
    assert (code, keys(s3_endpoint, folder)) == (ExitCode.SUCCEEDED, [])
