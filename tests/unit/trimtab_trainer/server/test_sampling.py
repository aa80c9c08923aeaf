"""The next token, and text in pieces."""

from collections import Counter

import pytest
import torch
from tests.support.serving import tiny_tokenizer

from trimtab_trainer.server.sampling import Sampler, Sampling, TextStream

LOGITS = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))


def test_temperature_0_takes_the_most_likely_token() -> None:
    assert {Sampler(Sampling(temperature=0)).choose(LOGITS) for _ in range(20)} == {0}


@pytest.mark.parametrize(
    ("sampling", "possible"),
    [
        pytest.param(Sampling(seed=1), {0, 1, 2, 3}, id="everything"),
        pytest.param(Sampling(seed=1, top_p=0.9), {0, 1, 2}, id="the fewest that reach 0.9"),
        pytest.param(Sampling(seed=1, top_p=0.5), {0}, id="one reaches 0.5 alone"),
        pytest.param(Sampling(seed=1, top_p=0.01), {0}, id="always at least one"),
        pytest.param(Sampling(seed=1, temperature=0.01), {0}, id="cold"),
    ],
)
def test_what_can_be_chosen(sampling: Sampling, possible: set[int]) -> None:
    sampler = Sampler(sampling)
    assert {sampler.choose(LOGITS) for _ in range(400)} == possible


def test_a_seed_gives_the_same_tokens_in_the_right_shares() -> None:
    def draw(seed: int) -> list[int]:
        sampler = Sampler(Sampling(seed=seed))
        return [sampler.choose(LOGITS) for _ in range(2000)]

    assert draw(5) == draw(5) != draw(6)
    assert Counter(draw(5))[0] == pytest.approx(1000, abs=100)


@pytest.mark.parametrize(
    ("text", "stop", "shown", "stopped"),
    [
        pytest.param("plain", [], "plain", False, id="no stop sequence"),
        pytest.param("Grüße 世界 🌊!", [], "Grüße 世界 🌊!", False, id="characters of several tokens"),
        pytest.param("one. two.", ["."], "one", True, id="one character"),
        pytest.param("a\n\nb", ["\n\n"], "a", True, id="two tokens"),
        pytest.param("ababac", ["abac"], "ab", True, id="a beginning that was none"),
        pytest.param("abab", ["abac"], "abab", False, id="an unfinished beginning is shown at the end"),
        pytest.param("xyz", ["z", "y"], "x", True, id="the first of several"),
        pytest.param("stop", ["stop"], "", True, id="everything"),
    ],
)
def test_text_in_pieces(text: str, stop: list[str], shown: str, *, stopped: bool) -> None:
    tokenizer = tiny_tokenizer()
    stream = TextStream(tokenizer, stop)
    pieces = [stream.push(token) for token in tokenizer(text)["input_ids"]] + [stream.finish()]
    assert "".join(pieces) == shown
    assert stream.stopped is stopped
    assert all("\N{REPLACEMENT CHARACTER}" not in piece for piece in pieces)


def test_half_a_character_at_the_end_is_shown_as_the_tokenizer_shows_it() -> None:
    tokenizer = tiny_tokenizer()
    tokens = tokenizer("a🌊")["input_ids"][:-1]
    stream = TextStream(tokenizer)
    assert "".join([*(stream.push(token) for token in tokens), stream.finish()]) == tokenizer.decode(tokens)
