"""Pairs of a task, objective or practice with every method: two steps on a tiny model, or refused with a reason. docs/methods.md has the table.

TRIMTAB_WRITE_PAIRS=1 dev/in-trainer-image python -m pytest tests/integration/trimtab_trainer/test_pairs.py     writes it anew
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.memory_storage import MemoryStorage
from tests.support.training import make_job, run_job

from trimtab_trainer.contract.base import OneOf
from trimtab_trainer.contract.exit_codes import ExitCode
from trimtab_trainer.contract.methods import Method, PrefixTuning
from trimtab_trainer.contract.objectives import Objective
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.contract.spec import Task
from trimtab_trainer.methods.registry import METHODS

PAGE = Path(__file__).parents[3] / "docs" / "methods.md"
SCHEMA = Path(__file__).parents[3] / "crds" / "finetunejobs.trimtab.dev.yaml"
BEGIN, END = "<!-- pairs: written by tests/integration/trimtab_trainer/test_pairs.py -->", "<!-- /pairs -->"
SETTINGS: dict[str, dict[str, Any]] = {
    "full": {},
    "partial": {"lastLayers": 1},
    "headOnly": {},
    "lora": {"r": 2},
    "qlora": {"r": 2},
    "adapter": {"bottleneckSize": 4},
    "reft": {"r": 2},
    "prefixTuning": {"virtualTokens": 2},
}
"""The methods, each at its smallest."""


def reads(of: str, model: str = "bert", **changes: Any) -> dict[str, Any]:
    """A job on one of the small data sets."""
    return {"model": {"uri": f"s3://models/{model}"}, "of": f"-{of}", **changes}


def rewarded(name: str, **settings: Any) -> dict[str, Any]:
    """A job that learns from its own answers, four letters long."""
    rewards = [{"regularExpression": {"pattern": "[aeiou]"}}]
    known = {"rewards": rewards, "samplesPerPrompt": 2, "sampling": {"maxNewTokens": 4}}
    return reads("prompts", "llama", objective={name: {**known, **settings}})


def several_tasks() -> dict[str, Any]:
    """Two heads over one trunk."""
    heads = {"tone": ("sequenceClassification", "labelled"), "people": ("tokenClassification", "tagged")}
    sources = {
        split: [{"uri": f"s3://data/{split}-{data}.jsonl", "task": name} for name, (_, data) in heads.items()]
        for split in ("train", "test")
    }
    tasks = [{"name": name, "head": {head: {}}} for name, (head, _) in heads.items()]
    return reads("labelled", task={"multiTask": {"tasks": tasks}}, data=sources)


CHATS: dict[str, Any] = {"model": {"uri": "s3://models/llama"}, "of": ""}
TASK_ROWS: dict[str, dict[str, Any]] = {
    "causalLanguageModeling": CHATS,
    "sequenceClassification": reads("labelled", task={"sequenceClassification": {}}),
    "sequenceClassification (decoder)": reads("labelled", "llama", task={"sequenceClassification": {}}),
    "sequenceClassification (multiLabel)": reads(
        "multi-labelled", task={"sequenceClassification": {"multiLabel": True}}
    ),
    "tokenClassification": reads("tagged", task={"tokenClassification": {}}),
    "questionAnswering": reads("questions", task={"questionAnswering": {"stride": 16}}),
    "imageClassification": reads("images", "vit", task={"imageClassification": {}}),
    "imageClassification (convolutions)": reads("images", "resnet", task={"imageClassification": {}}),
    "objectDetection": reads("scenes", "yolos", task={"objectDetection": {}}),
    "imageTextMatching": reads("images", "clip", task={"imageTextMatching": {}}),
    "speechRecognition": reads("tones", "wav2vec2", task={"speechRecognition": {}}),
    "multiTask": several_tasks(),
}
OBJECTIVE_ROWS: dict[str, dict[str, Any]] = {
    "continuedPretraining": reads("raw", "llama", objective={"continuedPretraining": {}}),
    "reward": reads("preferences", "llama", task={"sequenceClassification": {}}, objective={"reward": {}}),
    "fewShot": reads("labelled", task={"sequenceClassification": {}}, objective={"fewShot": {}}),
    "fewShot (decoder)": reads("labelled", "llama", task={"sequenceClassification": {}}, objective={"fewShot": {}}),
    "dpo": reads("preferences", "llama", objective={"dpo": {}}),
    "orpo": reads("preferences", "llama", objective={"orpo": {}}),
    "grpo": rewarded("grpo"),
    "rloo": rewarded("rloo"),
    "tao": rewarded("tao", rounds=1),
}
LABELLED = TASK_ROWS["sequenceClassification (decoder)"]
GENERAL = {"general": [{"uri": "s3://data/test-labelled.jsonl"}]}


def practice(
    data: dict[str, Any] | None = None, output: dict[str, Any] | None = None, **training: Any
) -> dict[str, Any]:
    """A classifier of texts with one practice."""
    return {**LABELLED, "data": data or {}, "training": training, "output": {"modelName": "pair", **(output or {})}}


PRACTICE_ROWS: dict[str, dict[str, Any]] = {
    "dropout": practice(dropout=0.1),
    "labelSmoothing": practice(labelSmoothing=0.1),
    "embeddingNoiseAlpha": practice(embeddingNoiseAlpha=5),
    "exponentialMovingAverage": practice(exponentialMovingAverage={}),
    "adversarial": practice(adversarial={"fgm": {}}),
    "classWeights": practice(classWeights={"balanced": {}}),
    "balancedSampling": practice(balancedSampling=True),
    "layerwiseLearningRateDecay": practice(layerwiseLearningRateDecay=0.9),
    "gradualUnfreezing": practice(gradualUnfreezing={"everySteps": 1}),
    "recomputeActivations": practice(recomputeActivations=True),
    "continual.ewc": practice(GENERAL, continual={"ewc": {"examples": 2}}),
    "continual.startingPoint": practice(continual={"startingPoint": {}}),
    "data.mixFraction": practice({**GENERAL, "mixFraction": 0.3}),
    "data.augmentation": practice({"augmentation": {"wordSwaps": 0.1}}),
    "output.merge": practice(output={"merge": True}),
}
TABLES = {"task": TASK_ROWS, "objective": OBJECTIVE_ROWS, "practice": PRACTICE_ROWS}
BY_THE_SCHEMA = {
    **{
        (name, "headOnly"): "method.headOnly needs a task with a head of its own"
        for name, row in {**TASK_ROWS, **OBJECTIVE_ROWS}.items()
        if "task" not in row
    },
    **{
        (name, method): f"training.{name} needs a method that trains layers one by one: method.{method} has none"
        for name in ("layerwiseLearningRateDecay", "gradualUnfreezing")
        for method in ("headOnly", "prefixTuning")
    },
    **{
        ("output.merge", method): "output.merge folds a LoRA adapter into the base model"
        for method in SETTINGS
        if method != "lora"
    },
}
"""Refused by the API server, whose rules have these words; the trainer need not know."""
YES = "yes"


def config_of(row: dict[str, Any], method: str) -> RunConfig:
    """Two steps of four rows; base model and result are measured on the test split."""
    changes = {key: value for key, value in row.items() if key not in {"of", "data", "training"}}
    data = {
        "train": [{"uri": f"s3://data/train{row['of']}.jsonl"}],
        "validation": [],
        "test": [{"uri": f"s3://data/test{row['of']}.jsonl"}],
        "maxSequenceLength": 64,
        "packing": method != "prefixTuning",
        **row.get("data", {}),
    }
    training = {"maxSteps": 2, "globalBatchSize": 4, "microBatchSize": 2, **row.get("training", {})}
    return make_job(**changes, method={method: SETTINGS[method]}, data=data, training=training)


def outcome(name: str, row: dict[str, Any], method: str, scratch: Path) -> str:
    """`yes`, or the words of the refusal; anything else is a failure of the test."""
    if words := BY_THE_SCHEMA.get((name, method)):
        assert words in " ".join(SCHEMA.read_text().split())
        return words
    ended = run_job(config_of(row, method), scratch)
    if ended.code == ExitCode.SUCCEEDED:
        return YES
    said = ended.message.message
    assert ended.code == ExitCode.CONFIG_INVALID, f"{name} x {method}: {said}"
    # a field, and what would do instead
    assert "`" in said, f"{name} x {method}: {said}"
    assert len(said.split()) > 5, f"{name} x {method}: {said}"
    return said


def test_every_method_has_its_column() -> None:
    assert set(SETTINGS) == set(METHODS) == members(Method)


@pytest.mark.parametrize(
    ("union", "rows"),
    [
        pytest.param(Task, set(TASK_ROWS), id="tasks"),
        pytest.param(Objective, {"supervised", *OBJECTIVE_ROWS}, id="objectives"),  # supervised: the rows of the tasks
    ],
)
def test_every_member_of_the_api_has_its_row(union: type[OneOf], rows: set[str]) -> None:
    assert {row.partition(" ")[0] for row in rows} == members(union)


def members(union: type[OneOf]) -> set[str]:
    """Their names in the spec."""
    return {str(field.alias) for field in union.model_fields.values()}


@pytest.fixture
def storage(media_storage: MemoryStorage) -> MemoryStorage:
    return media_storage


@pytest.fixture(scope="module")
def found() -> Iterator[dict[str, dict[str, list[str]]]]:
    """What came of each row, by table; written into the page at the end if asked for."""
    outcomes: dict[str, dict[str, list[str]]] = {kind: {} for kind in TABLES}
    yield outcomes
    if os.environ.get("TRIMTAB_WRITE_PAIRS"):
        assert {kind: set(rows) for kind, rows in outcomes.items()} == {
            kind: set(rows) for kind, rows in TABLES.items()
        }
        lines = [line for kind in TABLES for line in table(kind, outcomes[kind])]
        before, rest = PAGE.read_text().split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n{END}{rest.split(END)[1]}")


def table(kind: str, rows: dict[str, list[str]]) -> list[str]:
    """Markdown."""
    head = [f"| {kind} | {' | '.join(f'`{method}`' for method in SETTINGS)} |", "|---" * (len(SETTINGS) + 1) + "|"]
    return [*head, *(line_of(name, cells) for name, cells in rows.items()), ""]


def line_of(name: str, cells: list[str]) -> str:
    """One row: `yes` or `refused`."""
    return f"| `{name}` | {' | '.join(YES if cell == YES else 'refused' for cell in cells)} |"


@pytest.mark.parametrize(
    ("kind", "name"), [pytest.param(kind, name, id=name) for kind, rows in TABLES.items() for name in rows]
)
def test_a_pair_runs_or_is_refused_with_a_reason(
    kind: str, name: str, storage: MemoryStorage, found: dict[str, dict[str, list[str]]], tmp_path: Path
) -> None:
    cells = []
    for method in SETTINGS:
        storage.checkpoints.clear()
        cells.append(outcome(name, TABLES[kind][name], method, tmp_path / method))
    found[kind][name] = cells
    for method, cell in zip(SETTINGS, cells, strict=True):
        if cell != YES:
            print(f"{name} x {method}: {cell}")
    if not os.environ.get("TRIMTAB_WRITE_PAIRS"):
        page = re.sub(r"[ ]+", " ", PAGE.read_text())
        assert line_of(name, cells) in page, "docs/methods.md says something else"


@pytest.mark.parametrize("name", ["tokenClassification", "questionAnswering"])
def test_trained_embeddings_before_a_text_have_no_tags_and_are_no_answer(
    name: str, storage: MemoryStorage, tmp_path: Path
) -> None:
    config = config_of(TASK_ROWS[name], "prefixTuning")
    prompts = Method(prefix_tuning=PrefixTuning(kind="prompt", virtual_tokens=2))
    ended = run_job(config.model_copy(update={"method": prompts}), tmp_path)
    assert ended.code == ExitCode.SUCCEEDED, ended.message.message
    assert 0 <= storage.published["metrics"]["test_f1"] <= 1
