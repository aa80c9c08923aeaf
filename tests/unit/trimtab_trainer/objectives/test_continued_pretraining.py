"""Raw documents: nothing is cut, every token is predicted once, and no document sees another one."""

import math
from pathlib import Path

import pytest
import torch
from tests.support.tiny_models import byte_tokenizer, write_tiny_llama
from transformers import AutoModelForCausalLM

from trimtab_trainer.data.batches import pack
from trimtab_trainer.data.encoded import Encoded
from trimtab_trainer.data.formats import Example, Text
from trimtab_trainer.data.splits import encode_split
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.objectives.continued_pretraining import DocumentEncoder
from trimtab_trainer.tasks.language_modeling import choose_layout

EOS = 257
DOCUMENTS = ["short", "a" + "é" * 30, "a document that is longer than a row, and longer than two of them", "x" * 19]


def encode(*texts: str, max_length: int = 20, bos: bool = False) -> list[Encoded]:
    encoder = DocumentEncoder(byte_tokenizer(bos=bos), max_length)
    return encoder.encode([Example(text, Text(text)) for text in texts])


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("text", DOCUMENTS)
def test_a_long_document_becomes_rows_that_predict_each_token_once(text: str, *, bos: bool) -> None:
    tokenizer = byte_tokenizer(bos=bos)
    whole = [*tokenizer(text).input_ids, EOS]
    rows = encode(text, bos=bos)
    assert all(row.length <= 20 for row in rows)
    targets = [token for row in rows for token in row.ids[row.supervised].tolist()]
    assert targets == whole[1:]
    # Each row's first token is what predicts its second: the last one of the row before.
    assert [int(row.ids[0]) for row in rows[1:]] == [int(row.ids[-1]) for row in rows[:-1]]
    # One token is one byte here; a document's first token is predicted by a BOS token alone.
    assert sum(row.bytes for row in rows) == (len(text.encode()) if bos else len(text[1:].encode()))


def test_rows_know_their_document() -> None:
    examples = [Example(text, Text(text)) for text in DOCUMENTS]
    split = encode_split(
        "train", [*examples, Example("empty", Text(" "))], DocumentEncoder(byte_tokenizer(), 20).encode
    )
    assert [example.place for example in split.examples] == [
        example.place
        for example, text in zip(examples, DOCUMENTS, strict=True)
        for _ in range(math.ceil(len(text.encode()) / 19))
    ]
    assert (split.summary.truncated, split.summary.empty) == (0, 1)
    assert split.summary.supervised_tokens == sum(len(text.encode()) for text in DOCUMENTS)


def test_documents_in_full_rows_have_the_losses_they_have_alone(tmp_path: Path) -> None:
    module = AutoModelForCausalLM.from_pretrained(write_tiny_llama(tmp_path)).eval()
    model = TrainableModel(module, byte_tokenizer(), torch.device("cpu"), torch.float32)
    rows = encode(*DOCUMENTS)
    task, why = choose_layout(model, rows)
    assert why == ""
    alone = [task.measure(model, task.collate([row])) for row in rows]
    packed = [
        task.measure(model, task.collate([rows[index] for index in row]))
        for row in pack([row.length for row in rows], capacity=40, seed=1)
    ]
    assert len(packed) < len(alone)
    assert sum(sums["loss"] for sums in packed) == pytest.approx(sum(sums["loss"] for sums in alone), rel=1e-5)
    sums = {name: sum(one[name] for one in packed) for name in packed[0]}
    metrics = task.metrics(sums)
    # One token is one byte here, but for the end tokens, which stand for no byte.
    assert math.log(metrics["perplexity"]) == pytest.approx(sums["loss"] / sums["targets"])
    assert math.log(metrics["byte_perplexity"]) == pytest.approx(sums["loss"] / sum(row.bytes for row in rows))
