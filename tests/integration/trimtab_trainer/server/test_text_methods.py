"""Prefixes, prompts, bottlenecks and LoReFT: the same text as peft and our loader write, alone or beside each other."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import torch
from peft import PeftModel, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from tests.support import serving
from tests.support.serving import FolderSource, Running, make_config, running, served, text_of
from transformers import AutoModelForCausalLM, AutoTokenizer

from trimtab_trainer.contract.methods import Adapter, Reft
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.methods.own_adapters import AdapterFile, add_modules, is_own, load_adapter, save_adapter
from trimtab_trainer.server.models import load_generation_model
from trimtab_trainer.server.prefixes import load_prefix

pytestmark = pytest.mark.asyncio(loop_scope="module")
PROMPT_KINDS = {"tone-v2": PrefixTuningConfig, "tone-v3": PromptTuningConfig}
OWN = {"tone-v4": AdapterFile(adapter=Adapter(bottleneck_size=8)), "tone-v5": AdapterFile(reft=Reft(r=2))}
QUESTIONS = ["Hi", "What is a trim tab?", "x" * 60]
TOKENS = 16


def save_prompt(directory: Path, base: Path, kind: Any, *, tokens: int) -> Path:
    """Random vectors before the text."""
    torch.manual_seed(tokens)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), kind(num_virtual_tokens=tokens, task_type="CAUSAL_LM")
    )
    with torch.no_grad():
        for parameter in model.prompt_encoder.parameters():
            parameter.normal_(0, 2)
    model.save_pretrained(directory, save_embedding_layers=False)
    return directory


def save_own(directory: Path, base: Path, settings: AdapterFile) -> Path:
    """Random modules beside the model's own."""
    torch.manual_seed(4)
    directory.mkdir()
    model = add_modules(AutoModelForCausalLM.from_pretrained(base), settings)
    own = {name: value for name, value in model.named_parameters() if is_own(name)}
    with torch.no_grad():
        for parameter in own.values():
            parameter.add_(torch.randn_like(parameter))
    save_adapter(own, settings, directory)
    return directory


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("methods")
    made = {"base": serving.save_llama(root / "base")}
    made["tone-v1"] = serving.save_adapter(root / "v1", made["base"], seed=1)
    for tokens, (name, kind) in enumerate(PROMPT_KINDS.items(), start=4):
        made[name] = save_prompt(root / name, made["base"], kind, tokens=tokens)
    for name, settings in OWN.items():
        made[name] = save_own(root / name, made["base"], settings)
    return made


@pytest_asyncio.fixture(name="server", scope="module", loop_scope="module")
async def server_fixture(folders: dict[str, Path]) -> AsyncIterator[Running]:
    versions = [served("tone-v1")]
    versions += [served(name, weight=0, form="peftPrompt") for name in PROMPT_KINDS]
    versions += [served(name, weight=0, form="trimtabAdapter") for name in OWN]
    async with running(make_config(*versions), FolderSource(folders["base"], folders)) as server:
        yield server


def reference(folders: dict[str, Path], name: str, question: str) -> str:
    tokenizer = AutoTokenizer.from_pretrained(folders["base"])
    base: Any = AutoModelForCausalLM.from_pretrained(folders["base"])
    model = load_adapter(base, folders[name]) if name in OWN else PeftModel.from_pretrained(base, folders[name])
    messages = [{"role": "user", "content": question}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    made = model.eval().generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, do_sample=False
    )
    return str(tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True))


@pytest.mark.parametrize("name", [*PROMPT_KINDS, *OWN])
async def test_texts_equal_those_of_the_methods_own_loader(
    name: str, folders: dict[str, Path], server: Running
) -> None:
    answers = await asyncio.gather(*(server.chat(text, model=name, max_tokens=TOKENS) for text in QUESTIONS))
    for question, answer in zip(QUESTIONS, answers, strict=True):
        assert text_of(answer) == reference(folders, name, question)


async def test_every_kind_beside_every_other(server: Running) -> None:
    names = ["base", "tone-v1", *PROMPT_KINDS, *OWN]
    cases = [(name, text) for text in QUESTIONS for name in names]
    alone = [text_of(await server.chat(text, model=name, max_tokens=TOKENS)) for name, text in cases]
    together = await asyncio.gather(*(server.chat(text, model=name, max_tokens=TOKENS) for name, text in cases))
    assert [text_of(answer) for answer in together] == alone
    assert len(set(alone[: len(names)])) == len(names), "each says something else"


async def test_a_prefix_takes_its_part_of_the_length(server: Running) -> None:
    for name, taken in (("tone-v1", 0), ("tone-v2", 4), ("tone-v3", 5)):
        refused = await server.chat("x" * 300, model=name)
        assert f"takes {200 - taken} tokens" in refused.json()["error"]["message"]


async def test_what_is_no_prefix_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    model = load_generation_model(folders["base"], max_length=64)
    with pytest.raises(TrainerError, match="must be prefix or prompt tuning; this is LORA"):
        load_prefix(model, folders["tone-v1"])
    other = serving.save_llama(tmp_path / "other", hidden_size=64)
    with pytest.raises(TrainerError, match="does not fit the base model"):
        load_prefix(model, save_prompt(tmp_path / "prompt", other, PromptTuningConfig, tokens=3))
