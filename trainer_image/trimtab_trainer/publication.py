"""From trained weights to a published version: export, describe, reserve, upload."""

import json
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import torch
from torch import Tensor

from trimtab_trainer.attempt import Attempt
from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.messages import VersionReply
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.measure import measure_exported
from trimtab_trainer.preflight import signing_key
from trimtab_trainer.prepare import Prepared
from trimtab_trainer.publishing.export import export_format, export_model
from trimtab_trainer.publishing.facts import PublicationFacts
from trimtab_trainer.publishing.merge import merge_adapter
from trimtab_trainer.publishing.model_card import model_card
from trimtab_trainer.publishing.provenance import write_provenance
from trimtab_trainer.publishing.publish import ModelOrigin, publish
from trimtab_trainer.publishing.quantize import Quantized, quantize, weight_bytes
from trimtab_trainer.reporting.progress import reserve_version
from trimtab_trainer.software import software_versions
from trimtab_trainer.store.object_store import ObjectStore
from trimtab_trainer.tasks.attention import attention_implementation

EXPORT = "export"
"""Folder of the scratch space: what is published."""


def export(attempt: Attempt, prepared: Prepared, tuned: Mapping[str, float]) -> Quantized | None:
    """Write the model as it is published; with fewer bits, also what they cost against the metrics `tuned`."""
    config, directory = attempt.config, attempt.scratch / EXPORT
    if config.output.merge:
        merge_adapter(prepared.model, lambda: example_outputs(prepared))
    quantization = config.output.quantization
    whole = directory if quantization is None else attempt.scratch / "whole"
    export_model(prepared.model, config, whole)
    if prepared.model.labels:
        (whole / "labels.json").write_text(json.dumps(prepared.model.labels, ensure_ascii=False), "utf-8")
    if quantization is None:
        return None
    matrices = quantize(config, prepared.model.base, whole=whole, directory=directory)
    before = weight_bytes(whole)
    shutil.rmtree(whole)
    return Quantized(
        kind=quantization.kind,
        matrices=matrices,
        bytes_before=before,
        bytes_after=weight_bytes(directory),
        before=dict(tuned),
        after=measure_exported(attempt, prepared, directory),
    )


def publish_model(attempt: Attempt, prepared: Prepared, store: ObjectStore, facts: PublicationFacts) -> None:
    """Describe what was exported, reserve a version, upload and verify."""
    config, directory = attempt.config, attempt.scratch / EXPORT
    (directory / "README.md").write_text(model_card(facts), "utf-8")
    write_provenance(facts, directory)
    origin = ModelOrigin(
        base_model_digest=prepared.model_digest,
        datasets=prepared.datasets,
        metrics=dict(facts.metrics),
        step=facts.step,
        format=export_format(config),
    )
    attempt.published = publish(
        directory,
        store=store,
        config=config,
        reserve=lambda taken: _reserve(attempt, taken),
        origin=origin,
        key=signing_key(config),
    )


def publication_facts(
    attempt: Attempt, prepared: Prepared, *, step: int, metrics: Mapping[str, float]
) -> PublicationFacts:
    """What the model's card and its provenance say."""
    usage, finished = attempt.usage(), datetime.now(UTC)
    return PublicationFacts(
        config=attempt.config,
        step=step,
        learning_rate=prepared.learning_rate,
        base_digest=prepared.model_digest,
        datasets=prepared.datasets,
        metrics=metrics,
        usage=usage,
        software=software_versions(),
        started=finished - timedelta(seconds=usage.active_seconds),
        finished=finished,
        parameters=sum(parameter.numel() for parameter in prepared.model.module.parameters()),
        trained_parameters=sum(parameter.numel() for parameter in prepared.model.trainable.values()),
        truncated={name: split.summary.truncated for name, split in prepared.splits.items()},
    )


def example_outputs(prepared: Prepared) -> Tensor:
    """Logits of the first example's tokens; for tasks that read none, what is counted of its answer."""
    model, first = prepared.model, prepared.splits["train"].encoded[0]
    if not hasattr(first, "ids"):
        return torch.tensor(sorted(prepared.task.measure(model, prepared.task.collate([first])).values()))
    ids = torch.from_numpy(first.ids).long()[None].to(model.device)
    base = model.base
    with model.autocast(), attention_implementation(base, "sdpa"):
        logits: Tensor = base(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    return logits


def _reserve(attempt: Attempt, taken: list[int]) -> VersionReply:
    if attempt.version_endpoint is None:
        raise TrainerError(
            TrainerReason.TRAINER_ERROR, "TRIMTAB_VERSION_URL is not set: there is nobody to reserve a version."
        )
    return reserve_version(attempt.version_endpoint, attempt=attempt.config.attempt, taken=taken)
