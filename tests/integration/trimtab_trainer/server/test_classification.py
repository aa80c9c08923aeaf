"""Labels with scores: the same as transformers and peft, alone or in company."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import torch
from peft import PeftModel
from tests.support import serving
from tests.support.serving import LABELS, FolderSource, Running, make_config, running, served
from transformers import AutoModelForSequenceClassification, AutoTokenizer

TEXTS = ["Hello", "What is a trim tab?", "x" * 90, "Grüße, 世界 🌊"]
pytestmark = pytest.mark.asyncio(loop_scope="module")
CLASSIFIES = {"task": {"sequenceClassification": {}}}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("classifiers")
    made = {"base": serving.save_bert(root / "base")}
    for number in (1, 2):
        made[f"tone-v{number}"] = serving.save_classifier_adapter(root / f"v{number}", made["base"], seed=number)
    made["tone-v3"] = serving.save_classifier_adapter(root / "v3", made["base"], seed=3, labels=("no", "yes"))
    made["tone-v9"] = serving.save_classifier(root / "v9")
    return made


@pytest_asyncio.fixture(name="server", scope="module", loop_scope="module")
async def server_fixture(folders: dict[str, Path]) -> AsyncIterator[Running]:
    """Two adapters, one with other labels, and a whole model."""
    adapters = [served("tone-v1"), served("tone-v2", weight=0), served("tone-v3", weight=0)]
    config = make_config(*adapters, served("tone-v9", weight=0, form="safetensors"), **CLASSIFIES)
    async with running(config, FolderSource(folders["base"], folders)) as server:
        yield server


def reference(folders: dict[str, Path], name: str, text: str) -> list[float]:
    """The libraries' own probabilities."""
    tokenizer = AutoTokenizer.from_pretrained(folders["base"])
    if name == "tone-v9":
        model: Any = AutoModelForSequenceClassification.from_pretrained(folders[name])
    else:
        trunk = AutoModelForSequenceClassification.from_pretrained(folders["base"], num_labels=len(LABELS))
        model = PeftModel.from_pretrained(trunk, folders[name])
    with torch.inference_mode():
        logits = model.eval()(**tokenizer([text], return_tensors="pt")).logits[0]
    return [float(score) for score in torch.softmax(logits, -1)]


@pytest.mark.parametrize("name", ["tone-v1", "tone-v2", "tone-v9"])
async def test_scores_equal_those_of_transformers_and_peft(
    name: str, folders: dict[str, Path], server: Running
) -> None:
    answer = (await server.client.post("/v1/classify", json={"model": name, "input": TEXTS})).json()
    assert answer["model"] == name
    for text, found in zip(TEXTS, answer["data"], strict=True):
        expected = dict(zip(LABELS, reference(folders, name, text), strict=True))
        assert {score["label"]: score["score"] for score in found["scores"]} == pytest.approx(expected, abs=1e-5)
        assert found["label"] == max(expected, key=lambda label: expected[label])
        assert found["score"] == found["scores"][0]["score"]


async def test_requests_for_several_versions_at_once(server: Running) -> None:
    cases = [{"model": f"tone-v{1 + number % 2}", "input": TEXTS[number % 4]} for number in range(16)]
    alone = [(await server.client.post("/v1/classify", json=case)).json()["data"] for case in cases]
    together = await asyncio.gather(*(server.client.post("/v1/classify", json=case) for case in cases))
    for one, other in zip(alone, together, strict=True):
        found = other.json()["data"]
        assert [score["label"] for score in found[0]["scores"]] == [score["label"] for score in one[0]["scores"]]
        assert found[0]["score"] == pytest.approx(one[0]["score"], abs=1e-5)


async def test_a_trunk_without_a_head_is_not_offered_as_base(server: Running) -> None:
    assert (await server.client.get("/v1/models")).json()["data"][-1]["id"] == "tone-v9"
    answer = await server.client.post("/v1/classify", json={"model": "base", "input": "x"})
    assert answer.status_code == 404
    chat = await server.chat("Hi")
    assert (chat.status_code, chat.json()["error"]["param"]) == (400, "model")


async def test_a_version_with_other_labels_is_refused(server: Running) -> None:
    refused = next(version for version in server.versions.report() if version.error)
    assert refused.served.name == "tone-v3"
    assert "must have the same labels: bad, fine, good; got no, yes" in str(refused.error)


@pytest.mark.parametrize(
    ("text", "param", "words"),
    [
        pytest.param("", "input", "must not be empty", id="empty"),
        pytest.param([], "input", "at least 1 item", id="none"),
        pytest.param(["a", "x" * 201], "input.1", "takes 200 tokens; `input.1` has 201", id="too long"),
        pytest.param(["a", 5], "input", "valid string", id="a number"),
    ],
)
async def test_refusals(text: Any, param: str, words: str, server: Running) -> None:
    answer = await server.client.post("/v1/classify", json={"model": "tone", "input": text})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert words in answer.json()["error"]["message"]


async def test_labels_of_a_multi_label_classifier_have_probabilities_of_their_own(folders: dict[str, Path]) -> None:
    config = make_config(served("tone-v1"), task={"sequenceClassification": {"multiLabel": True}})
    async with running(config, FolderSource(folders["base"], folders)) as server:
        answer = (await server.client.post("/v1/classify", json={"model": "tone-v1", "input": TEXTS[0]})).json()
    softmax = torch.tensor(reference(folders, "tone-v1", TEXTS[0])).log()
    found = {entry["label"]: entry["score"] for entry in answer["data"][0]["scores"]}
    logits = torch.tensor([found[label] for label in LABELS]).logit()
    # The same logits as the softmax's, which knows them up to a constant.
    assert torch.allclose(logits - logits[0], softmax - softmax[0], atol=1e-3)
    assert sum(found.values()) != pytest.approx(1.0, abs=1e-2)
