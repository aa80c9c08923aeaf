"""The loss of language models: the same however examples are laid out, cut up or computed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.rows import chats
from tests.support.tiny_models import SHAPE, VOCABULARY, byte_tokenizer, write_tiny_llama
from transformers import AutoModelForCausalLM

from trimtab_trainer.data.encoded import Encoded
from trimtab_trainer.data.encoding import TextEncoder
from trimtab_trainer.data.formats import Chat, Example
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.tasks.attention import PACKED
from trimtab_trainer.tasks.cross_entropy import linear_cross_entropy, linear_losses, linear_measure
from trimtab_trainer.tasks.language_modeling import LanguageModeling, choose_layout

CPU = torch.device("cpu")


def examples(count: int = 5) -> list[Encoded]:
    conversations = [
        Chat(tuple((turn["role"], turn["content"]) for turn in row["messages"])) for row in chats(count, turns=2)
    ]
    return TextEncoder(byte_tokenizer(), 400).encode([Example("here", one) for one in conversations])


def make_model(directory: Path, **changes: Any) -> TrainableModel:
    module = AutoModelForCausalLM.from_pretrained(write_tiny_llama(directory, **changes)).eval()
    return TrainableModel(module, byte_tokenizer(), CPU, torch.float32, trainable=dict(module.named_parameters()))


def loss_and_gradients(
    model: TrainableModel, task: LanguageModeling, batches: list[list[Encoded]]
) -> tuple[float, dict[str, torch.Tensor]]:
    model.module.zero_grad()
    targets = sum(task.targets(one) for batch in batches for one in batch)
    total = 0.0
    for batch in batches:
        loss = task.loss(model, task.collate(batch)) / targets
        loss.backward()
        total += float(loss.detach())
    return total, {name: value.grad.clone() for name, value in model.trainable.items() if value.grad is not None}


LAYOUTS = [
    pytest.param({}, id="grouped queries, tied head"),
    pytest.param({"tied": False}, id="own head"),
    pytest.param({"num_key_value_heads": 4}, id="as many keys as queries"),
]


@pytest.mark.parametrize("changes", LAYOUTS)
def test_packed_padded_and_accumulated_losses_and_gradients_are_equal(changes: dict[str, Any], tmp_path: Path) -> None:
    model, data = make_model(tmp_path, **changes), examples()
    packed, why = choose_layout(model, data)
    assert (packed.attention, why) == ("trimtab_packed", "")
    one_row = loss_and_gradients(model, packed, [data])
    accumulated = loss_and_gradients(model, packed, [data[:2], data[2:3], data[3:]])
    model.base.set_attn_implementation("sdpa")
    padded = loss_and_gradients(model, LanguageModeling(CPU, 257, attention=None), [data])
    for loss, gradients in (accumulated, padded):
        assert loss == pytest.approx(one_row[0], rel=1e-5)
        assert gradients.keys() == one_row[1].keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, one_row[1][name], rtol=1e-3, atol=1e-6, msg=name)


def test_the_loss_is_that_of_transformers(tmp_path: Path) -> None:
    model, data = make_model(tmp_path), examples(1)
    task, _ = choose_layout(model, data)
    found = loss_and_gradients(model, task, [data])[0]
    labels = torch.where(torch.from_numpy(data[0].supervised), torch.from_numpy(data[0].ids).long(), -100)
    model.base.set_attn_implementation("sdpa")
    expected = model.module(input_ids=torch.from_numpy(data[0].ids).long()[None], labels=labels[None]).loss.detach()
    assert found == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("attention", [PACKED, "sdpa"])
@pytest.mark.parametrize("kind", ["rotary positions", "learned positions"])
def test_documents_in_one_row_do_not_see_each_other(kind: str, attention: str, tmp_path: Path) -> None:
    """`sdpa` is what accelerators without flash attention take: transformers finds the documents by their positions.

    That needs position ids that begin anew, no cache and no attention mask; learned positions show wrong ids, rotary ones do not.
    """
    model = make_model(tmp_path) if kind == "rotary positions" else make_gpt2(tmp_path)
    data = examples(3)
    model.base.set_attn_implementation("sdpa")
    by_rows = LanguageModeling(CPU, 257, attention=None)
    expected = {number: by_rows.measure(model, by_rows.collate([one]))["loss"] for number, one in enumerate(data)}
    model.base.set_attn_implementation(attention)
    task = LanguageModeling(CPU, 257, attention=attention)
    for order in ((0, 1), (2, 0), (1, 2, 0)):
        found = task.measure(model, task.collate([data[number] for number in order]))["loss"]
        assert found == pytest.approx(sum(expected[number] for number in order), rel=1e-5), order


def make_gpt2(directory: Path) -> TrainableModel:
    from transformers import GPT2Config, GPT2LMHeadModel  # noqa: PLC0415 - a model with learned positions

    torch.manual_seed(1)
    config = GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=512)
    GPT2LMHeadModel(config).save_pretrained(directory)
    module = AutoModelForCausalLM.from_pretrained(directory).eval()
    return TrainableModel(module, byte_tokenizer(), CPU, torch.float32)


def test_a_window_is_kept_within_each_document(tmp_path: Path) -> None:
    from transformers import MistralConfig, MistralForCausalLM  # noqa: PLC0415 - a model with a sliding window

    torch.manual_seed(1)
    config = MistralConfig(**SHAPE, vocab_size=VOCABULARY, num_key_value_heads=2, sliding_window=16)
    MistralForCausalLM(config).save_pretrained(tmp_path)
    module = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    model = TrainableModel(module, byte_tokenizer(), CPU, torch.float32)
    task, why = choose_layout(model, examples())
    assert (task.attention, why) == ("trimtab_packed", "")


def test_an_architecture_that_cannot_pack_is_padded_and_says_why(tmp_path: Path) -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM  # noqa: PLC0415 - a model with soft caps

    torch.manual_seed(1)
    config = Gemma2Config(**SHAPE, vocab_size=VOCABULARY, num_key_value_heads=2, head_dim=8, query_pre_attn_scalar=8)
    Gemma2ForCausalLM(config).save_pretrained(tmp_path)
    module = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager").eval()
    model = TrainableModel(module, byte_tokenizer(), CPU, torch.float32)
    task, why = choose_layout(model, examples())
    assert task.attention is None
    assert why.startswith("Rows are padded")


def test_the_stop_token_is_supervised_although_it_is_the_padding_token(tmp_path: Path) -> None:
    model, data = make_model(tmp_path), examples(2)
    for attention in ("trimtab_packed", None):
        batch = LanguageModeling(CPU, 257, attention=attention).collate(data)
        assert (batch.targets == 257).sum() == 4  # two examples of two answers
    assert model.tokenizer.pad_token_id == model.tokenizer.eos_token_id == 257


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("positions", [9, 2], ids=["one chunk", "many chunks"])
def test_measures_of_chunks_are_the_ordinary_ones(
    positions: int, precision: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = 11
    monkeypatch.setattr("trimtab_trainer.tasks.cross_entropy.CHUNK_LOGITS", positions * words)
    torch.manual_seed(0)
    hidden, weight = torch.randn(9, 4).to(precision), torch.randn(words, 4).to(precision)
    targets = torch.randint(words, (9,))
    logits = (hidden @ weight.T).float()
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    loss, correct = linear_measure(hidden, weight, targets)
    torch.testing.assert_close(loss, expected.sum())
    assert torch.equal(correct, logits.argmax(-1) == targets)
    torch.testing.assert_close(linear_losses(hidden, weight, targets), expected)


@pytest.mark.parametrize("positions", [9, 2], ids=["one chunk", "many chunks"])
def test_chunked_cross_entropy_is_the_ordinary_one(positions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    words = 11
    monkeypatch.setattr("trimtab_trainer.tasks.cross_entropy.CHUNK_LOGITS", positions * words)
    torch.manual_seed(0)
    hidden = torch.randn(9, 4, requires_grad=True)
    weight = torch.randn(words, 4, requires_grad=True)
    targets = torch.randint(words, (9,))
    found = linear_cross_entropy(hidden, weight, targets) / 3
    found.backward()
    gradients = hidden.grad.clone(), weight.grad.clone()  # type: ignore[union-attr]
    hidden.grad = weight.grad = None
    expected = torch.nn.functional.cross_entropy(hidden @ weight.T, targets, reduction="sum") / 3
    expected.backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients[0], hidden.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(gradients[1], weight.grad, rtol=1e-4, atol=1e-6)


def test_an_exact_match_is_what_greedy_decoding_would_give(tmp_path: Path) -> None:
    model, data = make_model(tmp_path), examples(1)
    task, _ = choose_layout(model, data)
    assert task.measure(model, task.collate(data))["exact"] == 0
    ids = torch.from_numpy(data[0].ids).long()[None, :20]
    model.base.set_attn_implementation("sdpa")
    continued = model.module.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=5, do_sample=False, pad_token_id=257
    )[0]
    own = Encoded(continued.numpy().astype("int32"), (torch.arange(len(continued)) >= 20).numpy())
    model.base.set_attn_implementation(str(task.attention))
    assert task.metrics(task.measure(model, task.collate([own])))["exact_match"] == 1.0
