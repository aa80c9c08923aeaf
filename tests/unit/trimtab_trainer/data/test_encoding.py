"""Tokens and loss masks: exactly the answers are supervised, and their end is taught."""

from typing import Any

import pytest
from tests.support.tiny_models import STOP, byte_tokenizer

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.data.encoded import show
from trimtab_trainer.data.encoding import TextEncoder
from trimtab_trainer.data.formats import Chat, Completion, Content, Example, Text
from trimtab_trainer.errors import TrainerError

SYSTEM = "<|im_start|>system\nBe kind<|im_end|>\n"


def chat(*turns: tuple[str, str]) -> Chat:
    return Chat(turns)


def encode(content: Content, *, tokenizer: Any = None, max_length: int = 500, loss_on_prompt: bool = False) -> Any:
    encoder = TextEncoder(tokenizer or byte_tokenizer(), max_length, loss_on_prompt)
    return encoder.encode([Example("here", content)])[0]


@pytest.mark.parametrize(
    ("content", "pieces"),
    [
        pytest.param(
            chat(("user", "a"), ("assistant", "b")),
            [
                (False, SYSTEM + "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"),
                (True, "b<|im_end|>"),
                (False, "\n"),
            ],
            id="one turn: the answer and its stop token, not the line break after it",
        ),
        pytest.param(
            chat(("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")),
            [
                (False, "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"),
                (True, "b<|im_end|>"),
                (False, "\n<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n"),
                (True, "d<|im_end|>"),
                (False, "\n"),
            ],
            id="two turns: both answers",
        ),
        pytest.param(
            chat(("user", "a"), ("assistant", "b"), ("user", "never answered")),
            [
                (False, SYSTEM + "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"),
                (True, "b<|im_end|>"),
                (False, "\n"),
            ],
            id="what follows the last answer is left out",
        ),
        pytest.param(
            chat(("user", "a"), ("assistant", " "), ("user", "c"), ("assistant", "d")),
            [
                (
                    False,
                    SYSTEM
                    + "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n <|im_end|>\n<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n",
                ),
                (True, "d<|im_end|>"),
                (False, "\n"),
            ],
            id="an empty answer teaches nothing",
        ),
        pytest.param(
            Completion("a", "b"),
            [
                (False, SYSTEM + "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"),
                (True, "b<|im_end|>"),
                (False, "\n"),
            ],
            id="a completion for a chat model is one turn",
        ),
        pytest.param(
            Text("ab"), [(False, "a"), (True, "b<|im_end|>")], id="raw text: everything that something predicts"
        ),
    ],
)
def test_exactly_the_answers_carry_loss(content: Content, pieces: list[tuple[bool, str]]) -> None:
    assert show(encode(content), byte_tokenizer()) == pieces


def test_a_completion_without_template_is_joined_as_it_is() -> None:
    tokenizer = byte_tokenizer(chat_template=None)
    assert show(encode(Completion("ab", "c"), tokenizer=tokenizer), tokenizer) == [(False, "ab"), (True, "c" + STOP)]


def test_the_first_token_of_models_that_have_one_comes_once() -> None:
    tokenizer = byte_tokenizer(chat_template=None, bos=True)
    assert show(encode(Completion("a", "b"), tokenizer=tokenizer), tokenizer) == [
        (False, "<|im_start|>a"),
        (True, "b" + STOP),
    ]
    assert encode(Text("a"), tokenizer=tokenizer).ids.tolist()[:1] == [tokenizer.bos_token_id]


def test_loss_on_prompt_supervises_all_but_the_first_token() -> None:
    encoded = encode(chat(("user", "a"), ("assistant", "b")), loss_on_prompt=True)
    assert encoded.targets == encoded.length - 1


def test_a_long_example_is_cut_at_its_end_and_says_so() -> None:
    whole = encode(Text("abcdef"))
    cut = encode(Text("abcdef"), max_length=4)
    assert (whole.cut, cut.cut, cut.ids.tolist()) == (False, True, whole.ids.tolist()[:4])


def test_the_prompt_for_generation_is_what_training_saw_before_the_answer() -> None:
    example = Example("here", chat(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")))
    encoder = TextEncoder(byte_tokenizer(), 500)
    prompt, encoded = encoder.prompt_ids(example), encoder.encode([example])[0]
    assert encoded.ids.tolist()[: len(prompt)] == prompt
    assert encoded.supervised.tolist()[len(prompt)]
    assert not encoded.supervised[len(prompt) - 3 : len(prompt)].any()


@pytest.mark.parametrize(
    ("template", "content", "reason", "words"),
    [
        pytest.param(
            None,
            chat(("user", "a"), ("assistant", "b")),
            TrainerReason.MODEL_INVALID,
            "has no chat template",
            id="no template",
        ),
        pytest.param(
            "{{ raise_exception('roles must alternate') }}",
            chat(("user", "a"), ("assistant", "b")),
            TrainerReason.DATASET_INVALID,
            r"here: the model's chat template refuses this conversation \(roles must alternate\). Its roles are: user, assistant",
            id="a template that refuses",
        ),
    ],
)
def test_what_cannot_be_rendered_is_refused(
    template: str | None, content: Chat, reason: TrainerReason, words: str
) -> None:
    with pytest.raises(TrainerError, match=words) as caught:
        encode(content, tokenizer=byte_tokenizer(chat_template=template))
    assert caught.value.reason is reason
