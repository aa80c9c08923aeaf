"""headOnly and partial over features computed once: the losses of a run that runs everything at every step, exact resumes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.support.media_models import write_media_files
from tests.support.memory_storage import MemoryStorage
from tests.support.training import CountedStop, Killed, make_job, run_job
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel, PhiConfig, PhiForCausalLM

from trimtab_trainer.contract.exit_codes import ExitCode
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.features import cache

FROM_FEATURES = "from features computed once"


@pytest.fixture(scope="session")
def media_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_media_files(tmp_path_factory.mktemp("media"))


@pytest.fixture
def storage(job_files: Path, media_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryStorage:
    for name in ("models", "data"):
        (tmp_path / name).mkdir()
        for source in (*(job_files / name).iterdir(), *(media_files / name).iterdir()):
            (tmp_path / name / source.name).symlink_to(source)
    storage = MemoryStorage(tmp_path)
    storage.install(monkeypatch)
    return storage


def job(task: dict[str, Any], data: str, *, model: str = "bert", cached: bool = True, **changes: Any) -> RunConfig:
    """Three epochs over a frozen part: of a head, unless another method is given."""
    suffix = f"-{data}" if data else ""
    sources = {split: [{"uri": f"s3://data/{split}{suffix}.jsonl"}] for split in ("train", "validation", "test")}
    return make_job(
        **{
            "model": {"uri": f"s3://models/{model}"},
            "task": task,
            "data": {**sources, "maxSequenceLength": 64 if data else 128},
            "method": {"headOnly": {"cacheFeatures": cached}},
            "training": {"globalBatchSize": 8, "maxSteps": 9},
            "checkpoints": {"everySteps": 3},
            **changes,
        }
    )


def write_model(name: str, directory: Path, like: Path) -> None:
    """Other trunks beside those of `job_files`, with its tokenizer."""
    torch.manual_seed(7)
    config = BertConfig.from_pretrained(like)
    if name == "bert-with-pooler":
        BertModel(config).save_pretrained(directory)
    elif name == "phi":
        layers = {"num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 128}
        like = like.with_name("llama")  # it has a chat template
        small = {"vocab_size": 258, "hidden_size": 32, "intermediate_size": 48, "pad_token_id": 257}
        PhiForCausalLM(PhiConfig(eos_token_id=257, resid_pdrop=0.1, **layers, **small)).save_pretrained(directory)
    else:
        small = {"vocab_size": 258, "dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4, "pad_token_id": 257}
        DistilBertModel(DistilBertConfig(max_position_embeddings=128, **small)).save_pretrained(directory)
    for file in (*like.glob("tokenizer*"), *like.glob("chat_template*")):
        (directory / file.name).symlink_to(file.resolve())


LANGUAGE: dict[str, Any] = {"causalLanguageModeling": {}}
CLASSIFY: dict[str, Any] = {"sequenceClassification": {}}
JOBS = [
    pytest.param(CLASSIFY, "labelled", "bert", id="a pooler that is new: BERT"),
    pytest.param(CLASSIFY, "labelled", "bert-with-pooler", id="a pooler of the trunk: BERT"),
    pytest.param(CLASSIFY, "labelled", "distilbert", id="the first token: DistilBERT"),
    pytest.param(CLASSIFY, "labelled", "llama", id="the last token: Llama"),
    pytest.param({"sequenceClassification": {"multiLabel": True}}, "multi-labelled", "bert", id="multi-label"),
    pytest.param({"tokenClassification": {}}, "tagged", "bert", id="tags"),
    pytest.param({"questionAnswering": {"stride": 16}}, "questions", "bert", id="questions of several windows"),
    pytest.param({"imageClassification": {}}, "images", "vit", id="images: ViT"),
    pytest.param({"imageClassification": {}}, "images", "resnet", id="images: ResNet"),
]


LAST: dict[str, Any] = {"lastLayers": 1}
PARTIAL = [
    pytest.param(LANGUAGE, "", "llama", LAST, id="several documents in a row: Llama"),
    pytest.param(LANGUAGE, "", "phi", {"lastLayers": 2}, id="padded rows: Phi"),
    pytest.param(
        LANGUAGE, "", "llama", {"patterns": [r"model\.norm\.weight"]}, id="nothing but the norm after all layers"
    ),
    pytest.param(CLASSIFY, "labelled", "bert", LAST, id="dropout in all layers: BERT"),
    pytest.param(CLASSIFY, "labelled", "llama", LAST, id="a decoder that reads the last token"),
    pytest.param({"tokenClassification": {}}, "tagged", "bert", LAST, id="tags"),
    pytest.param({"imageClassification": {}}, "images", "vit", LAST, id="images: ViT"),
]


@pytest.mark.parametrize(("task", "data", "model"), JOBS)
def test_losses_are_those_of_a_run_without_kept_features(
    task: dict[str, Any], data: str, model: str, storage: MemoryStorage, tmp_path: Path
) -> None:
    compare(job(task, data, model=model, cached=False), job(task, data, model=model), storage, tmp_path)


@pytest.mark.parametrize(("task", "data", "model", "method"), PARTIAL)
def test_so_they_are_where_the_first_layers_are_frozen(
    task: dict[str, Any], data: str, model: str, method: dict[str, Any], storage: MemoryStorage, tmp_path: Path
) -> None:
    computed, kept = (
        job(task, data, model=model, method={"partial": {**method, **said}}) for said in ({"cacheFeatures": False}, {})
    )
    compare(computed, kept, storage, tmp_path)


def compare(computed: RunConfig, kept: RunConfig, storage: MemoryStorage, tmp_path: Path) -> None:
    """The same losses with kept features, and the same bits after an interruption."""
    directory = storage.local(kept.model.uri)
    if not directory.exists():
        write_model(directory.name, directory, tmp_path / "models" / "bert")
    ended = run_job(computed, tmp_path / "computed")
    assert ended.code == ExitCode.SUCCEEDED, ended.message.message
    expected = storage.history
    storage.checkpoints.clear()
    assert FROM_FEATURES not in json.loads(storage.objects["report.json"])["layout"]
    stop = CountedStop()
    assert run_job(kept, tmp_path / "kept", stop=stop).code == ExitCode.SUCCEEDED
    assert FROM_FEATURES in json.loads(storage.objects["report.json"])["layout"]
    assert ["loss" in line for line in expected].count(True) == 9
    for line, other in zip(storage.history, expected, strict=True):
        assert line == pytest.approx(other, rel=1e-4, abs=1e-5)
    history, (_, state) = storage.history, storage.checkpoints[9]
    storage.checkpoints.clear()
    with pytest.raises(Killed):
        run_job(kept, tmp_path / "killed", stop=CountedStop(kill_at=stop.looks * 2 // 3))
    resumed = run_job(kept, tmp_path / "resumed")
    assert resumed.report.resumed_from_step
    assert (storage.history, storage.checkpoints[9][1]) == (history, state)


def test_features_in_a_file_are_those_in_memory(
    storage: MemoryStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = job({"tokenClassification": {}}, "tagged")
    run_job(config, tmp_path / "memory")
    expected = storage.history, storage.checkpoints[9][1]
    storage.checkpoints.clear()
    monkeypatch.setattr(cache, "IN_MEMORY_BYTES", 0)
    assert run_job(config, tmp_path / "spilled").code == ExitCode.SUCCEEDED
    assert (storage.history, storage.checkpoints[9][1]) == expected
    tensors = load_file(tmp_path / "spilled" / "0-features.safetensors")
    assert tensors["last_hidden_state"].shape[1] == 32


def test_statistics_of_a_frozen_trunk_stay_as_they_are(storage: MemoryStorage, tmp_path: Path) -> None:
    # Batch norms count what they see, whatever is frozen: the trunk must not be in training mode.
    config = job({"imageClassification": {}}, "images", model="resnet", cached=False)
    assert run_job(config, tmp_path / "run").code == ExitCode.SUCCEEDED
    before = load_file(tmp_path / "models" / "resnet" / "model.safetensors")
    after = load_file(storage.published["path"] / "model.safetensors")
    kept = {name: tensor for name, tensor in before.items() if "running" in name}
    assert kept
    assert all(torch.equal(after[f"resnet.{name.removeprefix('resnet.')}"], tensor) for name, tensor in kept.items())


@pytest.mark.parametrize(
    ("task", "training", "warning"),
    [
        pytest.param({}, {"maxSteps": 3}, "", id="one epoch"),
        pytest.param({"horizontalFlip": True}, {"maxSteps": 9}, "horizontalFlip", id="pictures that change"),
    ],
)
def test_where_it_does_not_pay_or_would_change_the_run_nothing_is_kept(
    task: dict[str, Any], training: dict[str, Any], warning: str, storage: MemoryStorage, tmp_path: Path
) -> None:
    config = job({"imageClassification": task}, "images", model="vit", training=training)  # 3 steps an epoch
    ended = run_job(config, tmp_path / "run")
    assert ended.code == ExitCode.SUCCEEDED, ended.message.message
    assert FROM_FEATURES not in json.loads(storage.objects["report.json"])["layout"]
    told = [one for one in ended.attempt.warnings if "frozen part" in one]
    assert any(warning in one for one in told) if warning else not told


@pytest.mark.parametrize(
    ("method", "training", "warning"),
    [
        pytest.param(LAST, {"embeddingNoiseAlpha": 5}, "embeddingNoiseAlpha", id="noise on the embeddings"),
        pytest.param({**LAST, "embeddings": True}, {}, "", id="embeddings move"),
    ],
)
def test_states_that_change_are_not_kept(
    method: dict[str, Any], training: dict[str, Any], warning: str, storage: MemoryStorage, tmp_path: Path
) -> None:
    training = {"globalBatchSize": 8, "maxSteps": 9, **training}
    config = job(LANGUAGE, "", model="llama", method={"partial": method}, training=training)
    ended = run_job(config, tmp_path / "run")
    assert ended.code == ExitCode.SUCCEEDED, ended.message.message
    assert FROM_FEATURES not in json.loads(storage.objects["report.json"])["layout"]
    told = [one for one in ended.attempt.warnings if "frozen part" in one]
    assert any(warning in one for one in told) if warning else not told


def test_a_full_volume_is_told(storage: MemoryStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(cache, "SPARE_BYTES", 2**62)
    ended = run_job(job(CLASSIFY, "labelled"), tmp_path / "run")
    assert ended.code == ExitCode.SUCCEEDED
    assert any("scratchSize" in one for one in ended.attempt.warnings)
    assert FROM_FEATURES not in json.loads(storage.objects["report.json"])["layout"]
