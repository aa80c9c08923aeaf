"""A reward model: fetched like a base model, every byte compared, and asked for scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.rewards import RewardModelSource
from trimtab_trainer.contract.run_config import ResolvedModelVersion, RunConfig
from trimtab_trainer.contract.spec import ModelSource
from trimtab_trainer.data.batches import micro_batches
from trimtab_trainer.data.encoded import Encoded
from trimtab_trainer.data.encoding import TextEncoder
from trimtab_trainer.data.formats import Chat, Completion, Example
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.fetch.published import PublishedFiles, fetch_version, fetch_whole
from trimtab_trainer.methods.own_adapters import with_adapter
from trimtab_trainer.model import TrainableModel, load_model, load_tokenizer, prepare
from trimtab_trainer.objectives.rewards.rules import Answer
from trimtab_trainer.store.object_store import ObjectStore
from trimtab_trainer.tasks.language_modeling import stop_ids
from trimtab_trainer.tasks.sequence_classification import SequenceClassification

TOKENS_PER_BATCH = 4096
LONGEST = 131072
"""Tokens, where the model does not say how many positions it has."""


@dataclass(frozen=True)
class RewardModel:
    """Scores conversations as the objective `reward` trained it to."""

    model: TrainableModel
    encoder: TextEncoder
    classification: SequenceClassification
    digest: str
    """Of its bytes: a resumed run must have the same judge."""

    @torch.no_grad()
    def score(self, answers: Sequence[Answer]) -> list[float]:
        """The head's output for each answer after its prompt."""
        encoded = self.encoder.encode(Example("a sample", _conversation(answer)) for answer in answers)
        order = sorted(range(len(encoded)), key=lambda index: -encoded[index].length)
        scores = [0.0] * len(encoded)
        batches = micro_batches(
            [(index,) for index in order],
            size=None,
            tokens=TOKENS_PER_BATCH,
            length=lambda row: encoded[row[0]].length,
        )
        for batch in batches:
            indices = [index for row in batch for index in row]
            for index, score in zip(indices, self._scores([encoded[index] for index in indices]), strict=True):
                scores[index] = float(score)
        return scores

    def _scores(self, encoded: Sequence[Encoded]) -> Tensor:
        return self.classification.logits(self.model, self.classification.collate(encoded))[:, 0].cpu()


def load_reward_model(
    config: RunConfig, source: RewardModelSource, *, store: ObjectStore, directory: Path, device: torch.device
) -> RewardModel:
    """Fetch, verify and load.

    Raises:
        TrainerError: ModelNotFound, ModelInvalid, DigestMismatch, or the store's, naming the reward model.
    """
    try:
        files, digest = _fetch(source, config.reward_model, store=store, directory=directory)
        model = _load(config, files, device)
    except TrainerError as error:
        raise TrainerError(error.reason, f"The reward model {source.uri}: {error}") from error
    model.module.eval()
    positions = getattr(model.base.config.get_text_config(), "max_position_embeddings", None) or LONGEST
    encoder = TextEncoder(
        model.tokenizer, positions, stop_ids=stop_ids(files.directory, model.tokenizer), only_last_answer=True
    )
    classification = SequenceClassification(device, model.tokenizer.pad_token_id)
    return RewardModel(model, encoder, classification, digest)


def _fetch(
    source: RewardModelSource, version: ResolvedModelVersion | None, *, store: ObjectStore, directory: Path
) -> tuple[PublishedFiles, str]:
    if version is not None:
        return fetch_version(version, store=store, directory=directory), f"sha256:{version.manifest_sha256}"
    if source.uri.startswith("modelversion://"):
        raise TrainerError(
            TrainerReason.MODEL_NOT_FOUND, "nobody has looked the ModelVersion up; name the model by its s3:// URI."
        )
    wanted = ModelSource(uri=source.uri, revision=source.revision, digest=source.digest)
    return fetch_whole(wanted, store=store, directory=directory)


def _load(config: RunConfig, files: PublishedFiles, device: torch.device) -> TrainableModel:
    tokenizer = load_tokenizer(files.adapter or files.directory)
    module, new = load_model(
        config,
        files.directory,
        auto_model=AutoModelForSequenceClassification,
        arguments={"num_labels": 1},
        has_new_head=True,
        tokenizer=tokenizer,
    )
    if files.adapter is not None:
        module = with_adapter(module, files.adapter)
    elif new:
        raise TrainerError(
            TrainerReason.MODEL_INVALID,
            f"it has no head with one output ({new[0]} is missing). Train one with the objective `reward`.",
        )
    module.requires_grad_(requires_grad=False)
    return prepare(module, tokenizer=tokenizer, device=device, precision=torch.float32, labels=())


def _conversation(answer: Answer) -> Chat | Completion:
    prompt = answer.prompt.prompt
    if isinstance(prompt, str):
        return Completion(prompt, answer.text)
    return Chat((*prompt, ("assistant", answer.text)))
