"""A tiny trainer on a CPU: random models that fit into kilobytes, data files, and a store in memory."""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest
import torch
from safetensors.torch import load, save
from tests.support.object_store import make_run_config
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import BertConfig, BertForMaskedLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from trimtab_trainer import __main__ as program
from trimtab_trainer import finish, prepare, run, termination
from trimtab_trainer.attempt import Attempt
from trimtab_trainer.contract.messages import (
    CommittedCheckpoint,
    PublishedModel,
    RejectedCheckpoint,
    TerminationMessage,
    TrainerReport,
    VersionReply,
)
from trimtab_trainer.contract.run_config import RunConfig, Store
from trimtab_trainer.fetch import base_model, published
from trimtab_trainer.interruption import StopSignal
from trimtab_trainer.reporting.progress import Reporter
from trimtab_trainer.world import World

CHAT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "<|im_start|>system\nBe kind<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As SmolLM2's: a default system message, no generation marks, a line break after each stop token."""
STOP, START = "<|im_end|>", "<|im_start|>"
DIGEST = "sha256:" + 64 * "0"


def byte_tokenizer(*, chat_template: str | None = CHAT_TEMPLATE, bos: bool = False) -> PreTrainedTokenizerFast:
    """One token a byte, and two marks. The stop mark is EOS and padding at once, as SmolLM2's is."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(START, special=True), AddedToken(STOP, special=True)])
    if bos:
        from tokenizers.processors import TemplateProcessing  # noqa: PLC0415 - one test needs it

        start = tokenizer.token_to_id(START)
        tokenizer.post_processor = TemplateProcessing(single=f"{START} $A", special_tokens=[(START, start)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=START, eos_token=STOP, pad_token=STOP, cls_token=START, sep_token=STOP
    )
    fast.chat_template = chat_template
    return fast


def write_tiny_llama(directory: Path, *, dropout: float = 0.0, tied: bool = True, **changes: Any) -> Path:
    """A random Llama of two layers with grouped queries."""
    torch.manual_seed(7)
    config = LlamaConfig(
        **{
            "vocab_size": 258,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "tie_word_embeddings": tied,
            "attention_dropout": dropout,
            "bos_token_id": 256,
            "eos_token_id": 257,
            "pad_token_id": 257,
            **changes,
        }
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    byte_tokenizer().save_pretrained(directory)
    return directory


def write_tiny_bert(directory: Path) -> Path:
    """A random BERT of two layers, without a classification head."""
    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=258,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        pad_token_id=257,
    )
    BertForMaskedLM(config).save_pretrained(directory)
    byte_tokenizer(chat_template=None).save_pretrained(directory)
    return directory


def chats(count: int, *, turns: int = 1) -> list[dict[str, Any]]:
    """Conversations of different lengths."""
    return [
        {
            "messages": [
                message
                for turn in range(turns)
                for message in (
                    {"role": "user", "content": f"Say {'very ' * (number % 7)}{number + turn}"},
                    {"role": "assistant", "content": f"{'well, ' * (number % 3)}{(number + turn) % 10}"},
                )
            ]
        }
        for number in range(count)
    ]


def labelled(count: int) -> list[dict[str, Any]]:
    """Texts that say their label."""
    return [
        {
            "text": f"{'so ' * (number % 5)}{'good' if number % 2 else 'bad'} {number}",
            "label": ["no", "yes"][number % 2],
        }
        for number in range(count)
    ]


def multi_labelled(count: int) -> list[dict[str, Any]]:
    """Texts that say their labels: both, one, or none."""
    return [
        {
            "text": f"{'so ' * (number % 5)}{'good ' if number % 2 else ''}{'new' if number % 3 else 'old'} {number}",
            "labels": [*(["kind"] if number % 2 else []), *(["fresh"] if number % 3 else [])],
        }
        for number in range(count)
    ]


def tagged(count: int) -> list[dict[str, Any]]:
    """Sentences with a person of one or two words."""
    return [
        {
            "tokens": ["so", *(number % 3) * ["very"], "Ann", *(number % 2) * ["Lee"], "left"],
            "tags": ["O", *(number % 3) * ["O"], "B-PER", *(number % 2) * ["I-PER"], "O"],
        }
        for number in range(count)
    ]


def questions(count: int) -> list[dict[str, Any]]:
    """Questions about a sentence with a number; some contexts are longer than a window of 64 tokens."""
    rows = []
    for number in range(count):
        context = f"{'and so on ' * (3 * (number % 3))}it is {number % 10} now"
        answer = str(number % 10)
        start = context.rindex(f"is {answer}") + 3
        rows.append(
            {"question": "what is it", "context": context, "answers": {"text": [answer], "answer_start": [start]}}
        )
    return rows


def preferences(count: int) -> list[dict[str, Any]]:
    """Kind answers are chosen; strings and messages in turn."""
    rows: list[dict[str, Any]] = []
    for number in range(count):
        asked, chosen, rejected = f"Help {'me ' * (number % 5)}{number}", f"Gladly, {number}", "No" + "!" * (number % 3)
        is_text = number % 2 == 0
        rows.append(
            {
                "prompt": asked if is_text else [{"role": "user", "content": asked}],
                "chosen": chosen if is_text else [{"role": "assistant", "content": chosen}],
                "rejected": rejected if is_text else [{"role": "assistant", "content": rejected}],
            }
        )
    return rows


def prompts(count: int) -> list[dict[str, Any]]:
    """Questions with a reference; strings and messages in turn."""
    return [
        {
            "prompt": asked if number % 2 else [{"role": "user", "content": asked}],
            "reference": str(number % 10),
        }
        for number, asked in ((number, f"Say {'very ' * (number % 4)}{number}") for number in range(count))
    ]


def write_jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@dataclass
class Fetched:
    """What the storage's fetch functions return."""

    files: list[Path] = field(default_factory=list)
    digest: str = DIGEST
    source: Any = None
    path: Path = Path()
    manifest: Any = None


@dataclass
class MemoryStorage:
    """Store, checkpoints and publishing in memory, with the interfaces of the real ones."""

    root: Path
    """`s3://x/y` is the local path `<root>/x/y`."""
    objects: dict[str, bytes] = field(default_factory=dict)
    checkpoints: dict[int, tuple[str, bytes]] = field(default_factory=dict)
    """By step: the document, and the tensors as safetensors."""
    saved_steps: list[int] = field(default_factory=list)
    published: dict[str, Any] = field(default_factory=dict)
    artifact_metrics: dict[str, float] = field(default_factory=dict)
    """What the manifest of a fetched version says."""

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Take the places of the real functions."""
        patch.setattr(run, "ObjectStore", self)
        patch.setattr(run, "thread_count", lambda: 1)  # tiny matrices: threads would wait for each other, not compute
        patch.setattr(run, "CheckpointWriter", lambda *_, **options: MemoryWriter(self, **options))
        patch.setattr(run, "load_latest", self.load_latest)
        patch.setattr(prepare, "fetch_dataset", self.fetch_dataset)
        patch.setattr(base_model, "fetch_model", self.fetch_model)
        patch.setattr(base_model, "fetch_artifact", self.fetch_artifact)
        patch.setattr(published, "fetch_model", self.fetch_model)
        patch.setattr(published, "fetch_artifact", self.fetch_artifact)
        patch.setattr(finish, "publish", self.publish)
        patch.setattr(prepare, "release_detector", lambda: None)  # loading it again takes a second

    def open(self, _store: Store) -> "MemoryStorage":
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def put(self, key: str, data: bytes) -> None:
        self.objects[key.rpartition("/")[2]] = bytes(data)

    def uri(self, key: str) -> str:
        return f"s3://bucket/{key}"

    def local(self, uri: str) -> Path:
        return self.root / uri.removeprefix("s3://")

    def fetch_dataset(self, source: Any, **_: Any) -> Fetched:
        return Fetched(files=[self.local(source.uri)], source=source)

    def fetch_model(self, source: Any, **_: Any) -> Fetched:
        return Fetched(path=self.local(source.uri))

    def fetch_artifact(self, uri: str, **_: Any) -> Fetched:
        copy = self.root / "fetched-artifact"
        shutil.rmtree(copy, ignore_errors=True)
        manifest = SimpleNamespace(metrics=self.artifact_metrics)
        return Fetched(path=shutil.copytree(self.local(uri), copy), manifest=manifest)

    def load_latest(self, _store: object, _config: RunConfig) -> tuple[Any, list[RejectedCheckpoint]]:
        if not self.checkpoints:
            return None, []
        step = max(self.checkpoints)
        document, tensors = self.checkpoints[step]
        return Loaded(step, json.loads(document), load(tensors)), []

    def publish(
        self, directory: Path, *, config: RunConfig, reserve: Callable[[list[int]], VersionReply], origin: Any, **_: Any
    ) -> PublishedModel:
        reply = reserve([])
        target = self.root / "published"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(directory, target)
        self.published = {"metrics": origin.metrics, "step": origin.step, "format": origin.format, "path": target}
        return PublishedModel(
            name=reply.name,
            version=reply.version,
            uri="s3://bucket/model",
            manifest_sha256=64 * "0",
            size_bytes=1,
            files=1,
            format=origin.format,
            base_model_digest=DIGEST,
            config_digest=config.job.uid,
            step=origin.step,
            verified_at="",
        )

    @property
    def history(self) -> list[dict[str, float]]:
        """The lines of `metrics.jsonl`, without what depends on the clock."""
        lines = [json.loads(line) for line in self.objects["metrics.jsonl"].splitlines()]
        return [{name: value for name, value in line.items() if name != "tokens_per_second"} for line in lines]


@dataclass
class Loaded:
    """A checkpoint that was read back."""

    step: int
    document: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    attempt: int = 1


class MemoryWriter:
    """A checkpoint writer that commits at once."""

    def __init__(self, storage: MemoryStorage, **_: Any) -> None:
        self._storage = storage
        self.committed: list[CommittedCheckpoint] = []

    def save(
        self,
        tensors: Mapping[str, torch.Tensor],
        document: Mapping[str, Any],
        *,
        step: int,
        metrics: Mapping[str, float],
    ) -> float:
        data = save({name: tensor.contiguous() for name, tensor in tensors.items()})
        self._storage.checkpoints[step] = (json.dumps(document, allow_nan=False), data)
        self._storage.saved_steps.append(step)
        self.committed.append(
            CommittedCheckpoint(
                step=step,
                attempt=1,
                uri=f"s3://bucket/{step}",
                manifest_sha256=64 * "0",
                bytes=len(data),
                time="",
                metrics=dict(metrics),
            )
        )
        return 0.001

    def wait(self, timeout: float | None = None) -> None: ...

    def finish(self) -> None: ...

    def close(self) -> None: ...


class Killed(BaseException):
    """SIGKILL: nothing more is written."""


class CountedStop(StopSignal):
    """SIGTERM (or SIGKILL) at the n-th time that the loop looks for it; an exact place, unlike a timer."""

    def __init__(self, *, term_at: int | None = None, kill_at: int | None = None, everywhere: bool = False) -> None:
        self.looks = 0
        self._term_at, self._kill_at, self._counts = term_at, kill_at, everywhere
        self._everywhere = everywhere
        super().__init__()

    @contextmanager
    def finish_first(self) -> Iterator[None]:
        """The loop runs inside; looks elsewhere count only with `everywhere`."""
        self._counts = True
        try:
            yield
        finally:
            self._counts = self._everywhere

    @property
    def requested(self) -> bool:
        self.looks += self._counts
        if self._kill_at is not None and self.looks >= self._kill_at:
            raise Killed
        return self._term_at is not None and self.looks >= self._term_at

    @requested.setter
    def requested(self, _value: bool) -> None: ...


@dataclass
class End:
    """How a run ended."""

    code: int
    message: TerminationMessage
    report: TrainerReport
    attempt: Attempt


class Endpoint:
    """An operator that reserves version 1."""

    def post(self, _body: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {"name": "tone-v1", "version": 1}


def run_job(config: RunConfig, scratch: Path, *, stop: StopSignal | None = None, world: World | None = None) -> End:
    """One attempt in this process, with `MemoryStorage` installed."""
    scratch.mkdir(parents=True, exist_ok=True)
    attempt = Attempt(
        config=config,
        stop=stop or StopSignal(),
        reporter=Reporter(TrainerReport(attempt=config.attempt, phase="Preparing"), None),
        scratch=scratch,
        world=world or World(),
        version_endpoint=Endpoint(),  # type: ignore[arg-type]
        started=time.monotonic(),
    )
    log = scratch / "termination-log"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(termination.FILE_VARIABLE, str(log))
        patch.setattr(program, "leave", lambda _: None)
        code = program.run(attempt)
    return End(code, TerminationMessage.model_validate_json(log.read_bytes()), attempt.reporter.report, attempt)


def make_job(**changes: Any) -> RunConfig:
    """A job on the files of the `job_files` fixture: six steps of four examples."""
    document: dict[str, Any] = {
        "model": {"uri": "s3://models/llama"},
        "data": {
            "train": [{"uri": "s3://data/train.jsonl"}],
            "validation": [{"uri": "s3://data/validation.jsonl"}],
            "test": [{"uri": "s3://data/test.jsonl"}],
            "maxSequenceLength": 128,
        },
        "method": {"lora": {"r": 4, "dropout": 0.2}},
        "training": {"maxSteps": 6, "globalBatchSize": 4, "learningRate": 0.01, "precision": "float32"},
        "checkpoints": {"everySteps": 2},
    }
    for name, change in changes.items():
        is_merged = name in {"data", "training", "checkpoints"}
        document[name] = {**document[name], **change} if is_merged else change
    base = make_run_config(Store(profile="default", bucket="bucket")).to_json()
    return RunConfig.model_validate({**base, **document})


Job = Callable[..., RunConfig]


def job_on(store: Store, **changes: Any) -> RunConfig:
    """The same job with model and data below `in/` of the store's bucket."""
    data = {split: [{"uri": f"s3://{store.bucket}/in/data/{split}.jsonl"}] for split in ("train", "validation", "test")}
    known = {"model": {"uri": f"s3://{store.bucket}/in/models/llama"}}
    document = make_job(**{**known, **changes, "data": data | changes.get("data", {})}).to_json()
    return RunConfig.model_validate({**document, "store": store.to_json()})


def write_job_files(root: Path) -> Path:
    """Models and data that `make_job` names."""
    (root / "models").mkdir(parents=True)
    (root / "data").mkdir()
    write_tiny_llama(root / "models" / "llama", dropout=0.1)
    write_tiny_llama(root / "models" / "llama-no-dropout")
    write_tiny_bert(root / "models" / "bert")
    write_jsonl(root / "data" / "train.jsonl", chats(22))
    write_jsonl(root / "data" / "validation.jsonl", chats(5, turns=2))
    write_jsonl(root / "data" / "test.jsonl", [{**row} for row in chats(27)[22:]])
    write_jsonl(
        root / "data" / "general.jsonl",
        [{"text": f"The {number} seas are wide and {number} ships sail."} for number in range(6)],
    )
    for split, count in (("train", 22), ("validation", 6), ("test", 6)):
        for name, rows in (
            ("labelled", labelled),
            ("multi-labelled", multi_labelled),
            ("tagged", tagged),
            ("questions", questions),
        ):
            write_jsonl(root / "data" / f"{split}-{name}.jsonl", rows(count))
        write_jsonl(root / "data" / f"{split}-preferences.jsonl", preferences(count))
        write_jsonl(root / "data" / f"{split}-prompts.jsonl", prompts(count))
        write_jsonl(root / "data" / f"{split}-raw.jsonl", [{"text": f"{split} {'ab ' * n}"} for n in range(count)])
    return root
