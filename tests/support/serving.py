"""Tiny models and a server over them, in this process."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import torch
from peft import LoraConfig, get_peft_model
from tests.support.object_store import BUCKET
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

from trimtab_trainer.contract.manifests import FileEntry, ModelManifest, sha256_hex
from trimtab_trainer.contract.run_config import ServedVersion, ServerConfig
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.server.app import create_app
from trimtab_trainer.server.engine import Engine
from trimtab_trainer.server.front import Front
from trimtab_trainer.server.loading import Loader
from trimtab_trainer.server.metrics import Metrics
from trimtab_trainer.server.rooms import Rooms
from trimtab_trainer.server.sources import BaseFiles
from trimtab_trainer.server.target import Target
from trimtab_trainer.server.versions import Versions
from trimtab_trainer.store.object_store import ObjectStore

SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}
LABELS = ("bad", "fine", "good")
VERSIONS = "runs/team/models/tone"
"""Below here the store has the published versions."""
TEMPLATE = (
    "{% for message in messages %}{% if message.role == 'assistant' and loop.first %}{{ raise_exception('the user begins') }}"
    "{% endif %}<{{ message.role }}>{{ message.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
PATIENCE = 30.0
"""Seconds that a test waits for something that normally takes milliseconds."""


def tiny_tokenizer(*, template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    """One token a byte, and three special ones."""
    special = ["<pad>", "<s>", "</s>"]
    vocabulary = {token: index for index, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    tokenizer = Tokenizer(BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    fast.chat_template = template
    return fast


def save_llama(directory: Path, *, seed: int = 0, **changes: Any) -> Path:
    """A random causal language model that is never sure of the next token."""
    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    settings = {**SHAPE, "num_key_value_heads": 2, "initializer_range": 0.4, **changes}
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=len(tokenizer), bos_token_id=1, eos_token_id=2, pad_token_id=0, **settings)
    )
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def save_models(root: Path) -> dict[str, Path]:
    """A base model `base`, three adapters `tone-v1` to `tone-v3`, and a whole model `tone-v9`."""
    made = {"base": save_llama(root / "base")}
    for number in (1, 2, 3):
        made[f"tone-v{number}"] = save_adapter(root / f"v{number}", made["base"], seed=number)
    made["tone-v9"] = save_llama(root / "v9", seed=9)
    return made


def save_adapter(directory: Path, base: Path, *, seed: int, **changes: Any) -> Path:
    """A random LoRA adapter that changes the base model's answers."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM.from_pretrained(base)
    settings = {"r": 4, "lora_alpha": 32, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **changes}
    peft = get_peft_model(model, LoraConfig(init_lora_weights=False, **settings))
    peft.save_pretrained(directory, save_embedding_layers=False)
    return directory


def save_bert(directory: Path) -> Path:
    """A trunk without a head."""
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer(template=None)
    BertModel(BertConfig(vocab_size=len(tokenizer), pad_token_id=0, initializer_range=0.4, **SHAPE)).save_pretrained(
        directory
    )
    tokenizer.save_pretrained(directory)
    return directory


def save_classifier_adapter(directory: Path, base: Path, *, seed: int, labels: tuple[str, ...] = LABELS) -> Path:
    """A random adapter with its head, as the trainer publishes it."""
    from transformers import AutoModelForSequenceClassification  # noqa: PLC0415

    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(labels))
    settings = LoraConfig(
        r=4, lora_alpha=32, target_modules=["query", "value"], task_type="SEQ_CLS", init_lora_weights=False
    )
    get_peft_model(model, settings).save_pretrained(directory, save_embedding_layers=False)
    (directory / "labels.json").write_text(json.dumps(labels))
    return directory


def save_classifier(directory: Path, *, seed: int = 0) -> Path:
    """A whole classifier."""
    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer(template=None)
    names = {"id2label": dict(enumerate(LABELS)), "label2id": {label: number for number, label in enumerate(LABELS)}}
    config = LlamaConfig(vocab_size=len(tokenizer), pad_token_id=0, initializer_range=0.4, **SHAPE, **names)
    LlamaForSequenceClassification(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@dataclass
class FolderSource:
    """Models in local folders; what `problems` names is refused as the store would."""

    base_path: Path
    folders: Mapping[str, Path]
    problems: dict[str, TrainerError] = field(default_factory=dict)
    discarded: list[str] = field(default_factory=list)

    def base(self, _config: ServerConfig) -> BaseFiles:
        self._refuse("base")
        return BaseFiles(self.base_path, "sha256:" + "0" * 64)

    def version(self, _config: ServerConfig, served: ServedVersion, _base_digest: str) -> Path:
        self._refuse(served.name)
        return self.folders[served.name]

    def whole(self, _config: ServerConfig, served: ServedVersion) -> None:
        self._refuse(served.name)

    def discard(self, served: ServedVersion) -> None:
        self.discarded.append(served.name)

    def _refuse(self, name: str) -> None:
        if name in self.problems:
            raise self.problems[name]


def served(name: str, *, weight: int = 100, form: str = "peftAdapter") -> ServedVersion:
    """A version whose name ends in its number: `tone-v2`."""
    return ServedVersion(
        name=name,
        version=int(name.rpartition("v")[2]),
        artifact_uri=f"s3://trimtab/team/models/{name}",
        manifest_sha256=sha256_hex(name.encode()),
        format=form,  # type: ignore[arg-type]
        weight=weight,
    )


def put_base(store: ObjectStore, folder: Path) -> None:
    """Where `publish` says that the base model is."""
    for path in folder.iterdir():
        store.put(f"base/{path.name}", path.read_bytes())


def publish(store: ObjectStore, folder: Path, version: int, **changes: Any) -> ServedVersion:
    """As training publishes: files, then the manifest."""
    files = []
    for path in sorted(folder.iterdir()):
        key = f"{VERSIONS}/{version}/{path.name}"
        store.put(key, path.read_bytes())
        files.append(FileEntry(key=key, path=path.name, size=path.stat().st_size, sha256=sha256_hex(path.read_bytes())))
    job = {"namespace": "team", "name": "tone", "uid": "uid-1"}
    lineage = {"job": job, "attempt": 1, "step": 5, "datasets": [], "configDigest": "x", "image": ""}
    document = {
        "modelName": "tone",
        "version": version,
        "format": "peftAdapter",
        "baseModel": {"uri": f"s3://{BUCKET}/base", "digest": ""},
        "lineage": lineage,
        "files": [file.to_json() for file in files],
        "metrics": {},
        "createdAt": "2026-01-01T00:00:00Z",
        **changes,
    }
    manifest = ModelManifest.model_validate(document).to_bytes()
    store.put(f"{VERSIONS}/{version}/manifest.json", manifest)
    return ServedVersion(
        name=f"tone-v{version}",
        version=version,
        artifact_uri=store.uri(f"{VERSIONS}/{version}"),
        manifest_sha256=sha256_hex(manifest),
        format="peftAdapter",
    )


def make_config(*versions: ServedVersion, **changes: Any) -> ServerConfig:
    """A small valid ServerConfig."""
    document = {
        "rollout": {"namespace": "team", "name": "tone", "uid": "uid-1"},
        "modelName": "tone",
        "task": {"causalLanguageModeling": {}},
        "baseModel": {"uri": "s3://trimtab/base"},
        "versions": [version.to_json() for version in versions],
        "store": {"profile": "default", "bucket": "trimtab"},
        "maxSequenceLength": 200,
        **changes,
    }
    return ServerConfig.model_validate(document)


@dataclass
class Running:
    """A server in this process."""

    client: httpx.AsyncClient
    versions: Versions[Target]
    engine: Engine
    rooms: Rooms
    front: Front
    follower: "asyncio.Task[None]"

    async def chat(self, content: str, *, model: str = "tone", **options: Any) -> httpx.Response:
        """One chat request, greedy unless told otherwise."""
        body = {"model": model, "messages": [{"role": "user", "content": content}], "temperature": 0, "max_tokens": 24}
        return await self.client.post("/v1/chat/completions", json={**body, **options})

    async def until_ready(self, patience: float = PATIENCE) -> None:
        """Wait for every version of the configuration."""
        await eventually(lambda: self.versions.ready, patience)


@asynccontextmanager
async def running(
    config: ServerConfig, source: Any, *, wait: bool = True, is_guided: bool = False
) -> AsyncIterator[Running]:
    """Serve over ASGI, without a port."""
    engine, metrics = Engine(threads=1), Metrics()
    versions = Versions(config, Loader(engine, source), metrics, is_guided=is_guided)
    front = Front()
    rooms = Rooms(engine, versions, metrics, front)
    engine.start()

    async def follow() -> None:
        await versions.load_base()
        await versions.follow()

    task = asyncio.create_task(follow())
    front.app = create_app(rooms)
    transport = httpx.ASGITransport(app=front)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://server", timeout=PATIENCE) as client:
            server = Running(client, versions, engine, rooms, front, task)
            if wait:
                await server.until_ready()
            yield server
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.to_thread(engine.stop)


async def eventually(condition: Any, patience: float = PATIENCE) -> None:
    """Wait until a condition holds, with a deadline."""
    async with asyncio.timeout(patience):
        while not condition():  # noqa: ASYNC110 - conditions are about threads too
            await asyncio.sleep(0.005)


def events(body: str) -> list[Any]:
    """The documents of a server-sent stream; the last one is `[DONE]`."""
    lines = [line.removeprefix("data: ") for line in body.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def text_of(answer: httpx.Response) -> str:
    """The text of a whole chat answer."""
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])
