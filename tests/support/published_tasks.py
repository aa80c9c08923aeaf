"""Versions of every task on tiny models, as the trainer publishes them, and what evaluations say of them."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tests.support import media_models
from tests.support.learning import learn
from tests.support.media_models import coloured_images, scenes, tones
from tests.support.rows import labelled, preferences, questions, tagged, write_jsonl
from tests.support.tiny_models import write_tiny_bert, write_tiny_llama
from tests.support.training import make_job

from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.data.formats import read_examples
from trimtab_trainer.data.splits import Split, encode_split
from trimtab_trainer.evaluate import evaluate
from trimtab_trainer.fetch.published import PublishedFiles, published_labels
from trimtab_trainer.objectives.registry import definition_of
from trimtab_trainer.published_model import Measurable, load_published
from trimtab_trainer.publishing.export import export_format, export_model
from trimtab_trainer.world import World

WRITERS: dict[str, Callable[[Path], Path]] = {
    "bert": write_tiny_bert,
    "llama": write_tiny_llama,
    "vit": media_models.write_tiny_vit,
    "yolos": media_models.write_tiny_yolos,
    "clip": media_models.write_tiny_clip,
    "wav2vec2": media_models.write_tiny_wav2vec2,
}
"""Of the base models."""
MAX_LENGTH = 64
PROMPT = "it is {}"


@dataclass(frozen=True)
class Case:
    """One version of one task."""

    task: dict[str, Any]
    model: str
    rows: Callable[[Path], Sequence[dict[str, Any]]]
    url: str
    request: Callable[[dict[str, Any], Path], dict[str, Any]]
    """The row as a client asks for it."""
    steps: int = 20
    method: dict[str, Any] = field(default_factory=lambda: {"full": {}})
    objective: dict[str, Any] = field(default_factory=lambda: {"supervised": {}})

    @property
    def job(self) -> RunConfig:
        """The job that made it."""
        return make_job(
            model={"uri": f"s3://models/{self.model}"},
            task=self.task,
            method=self.method,
            objective=self.objective,
            data={"train": [{"uri": "s3://data/train.jsonl"}], "maxSequenceLength": MAX_LENGTH, "packing": False},
        )


def in_base64(row: Mapping[str, Any], folder: Path) -> str:
    return base64.b64encode((folder / row["image"]).read_bytes()).decode()


def _choice(row: dict[str, Any], folder: Path) -> dict[str, Any]:
    return {"inputs": in_base64(row, folder), "parameters": {"candidate_labels": ["red", "blue", "green"]}}


def _messages(row: dict[str, Any], _: Path) -> dict[str, Any]:
    if isinstance(row["prompt"], str):
        turns = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["chosen"]}]
        return {"messages": turns}
    return {"messages": [*row["prompt"], *row["chosen"]]}


WORDS = {"is_split_into_words": True}
CASES: dict[str, Case] = {
    "texts": Case(
        {"sequenceClassification": {}},
        "bert",
        lambda _: labelled(8),
        "/v1/classify",
        lambda row, _: {"input": row["text"]},
    ),
    "rewards": Case(
        {"sequenceClassification": {}},
        "llama",
        lambda _: preferences(4),
        "/v1/classify",
        _messages,
        objective={"reward": {}},
    ),
    "texts of a decoder": Case(
        {"sequenceClassification": {}},
        "llama",
        lambda _: labelled(8),
        "/v1/classify",
        lambda row, _: {"input": row["text"]},
    ),
    "words": Case(
        {"tokenClassification": {}},
        "bert",
        lambda _: tagged(8),
        "/v1/token-classification",
        lambda row, _: {"inputs": row["tokens"], "parameters": WORDS},
        steps=40,
    ),
    "questions": Case(
        {"questionAnswering": {"stride": 16}},
        "bert",
        lambda _: questions(6),
        "/v1/question-answering",
        lambda row, _: {"inputs": {"question": row["question"], "context": row["context"]}},
    ),
    "pictures": Case(
        {"imageClassification": {}},
        "vit",
        lambda folder: coloured_images(folder, 6),
        "/v1/image-classification",
        lambda row, folder: {"inputs": in_base64(row, folder)},
    ),
    "scenes": Case(
        {"objectDetection": {}},
        "yolos",
        lambda folder: scenes(folder, 4),
        "/v1/object-detection",
        lambda row, folder: {"inputs": in_base64(row, folder), "parameters": {"threshold": 0.0}},
    ),
    "choices": Case(
        {"imageTextMatching": {"zeroShotPrompt": PROMPT}},
        "clip",
        lambda folder: coloured_images(folder, 6),
        "/v1/zero-shot-image-classification",
        _choice,
    ),
    "recordings": Case(
        {"speechRecognition": {}},
        "wav2vec2",
        lambda folder: tones(folder, 6),
        "/v1/audio/transcriptions",
        lambda row, folder: {"file": (folder / row["audio"]).read_bytes()},
    ),
}


@dataclass(frozen=True)
class Version:
    """What lies in the store, and by which rows it is judged."""

    case: Case
    base: Path
    path: Path
    format: str
    rows: Sequence[dict[str, Any]]
    folder: Path
    """The rows name images and recordings relative to it."""

    def measured(self) -> tuple[Measurable, dict[str, float]]:
        """The model as an evaluation loads it, with the rows in its own words, and its metrics."""
        job, definition = self.case.job, definition_of(self.case.job)
        path = write_jsonl(self.folder / "rows.jsonl", self.rows)
        examples = read_examples([("rows.jsonl", path)], job.data.train[0], allowed=definition.formats)
        is_whole = self.format == "safetensors"
        files = PublishedFiles(
            self.path if is_whole else self.base, None if is_whole else self.path, published_labels(self.path)
        )
        splits = {"test": Split("test", [], examples, encode_split("test", [], lambda _: []).summary)}
        found = load_published(job, files, splits, device=torch.device("cpu"), precision=torch.float32)
        split, world = found.splits["test"], World()
        metrics = evaluate(found.model, found.task, split, world=world, tokens_per_batch=512, stop=lambda: False)
        found.model.module.eval()
        return found, metrics


def publish(case: Case, base: Path, root: Path, *, steps: int | None = None) -> Version:
    """A few steps of training, then what `publish_model` writes."""
    folder = root / "data"
    folder.mkdir(parents=True)
    rows = case.rows(folder / "files")
    learned = learn(case.job, base, rows, folder, steps=case.steps if steps is None else steps, rate=5e-3)
    export_model(learned.model, case.job, root / "version")
    if learned.labels:
        (root / "version" / "labels.json").write_text(json.dumps(learned.labels))
    return Version(case, base, root / "version", export_format(case.job), rows, folder)
