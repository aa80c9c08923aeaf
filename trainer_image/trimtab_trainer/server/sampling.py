"""From logits to text: the next token, and what of it may be shown already."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What a tokenizer decodes from the first bytes of a character whose rest is still to come."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. Temperature 0 takes the most likely one."""

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None


class Sampler:
    """Chooses the tokens of one request; with a seed, the same ones each time."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._generator = torch.Generator()
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed)

    def choose(self, logits: Any) -> int:
        """The next token, from one row of logits.

        Raises:
            ValueError: the logits are not finite: the version's weights are broken.
        """
        if not bool(torch.isfinite(logits).all()):
            raise ValueError("the model's logits are not finite")
        if self._sampling.temperature == 0:
            return int(logits.argmax())
        # On the CPU, where a generator gives the same numbers on every machine.
        probabilities = torch.softmax(logits.float().cpu() / self._sampling.temperature, dim=-1)
        if self._sampling.top_p < 1:
            probabilities = _nucleus(probabilities, self._sampling.top_p)
        return int(torch.multinomial(probabilities, 1, generator=self._generator))


def _nucleus(probabilities: Any, top_p: float) -> Any:
    """Keep the fewest most likely tokens whose probabilities reach `top_p` together."""
    ordered, tokens = probabilities.sort(descending=True)
    before = ordered.cumsum(-1) - ordered
    kept = torch.zeros_like(probabilities)
    return kept.scatter_(-1, tokens, torch.where(before < top_p, ordered, 0.0))


class TextStream:
    """Turns tokens into text piece by piece; the pieces together are the whole text, cut before the first stop sequence."""

    def __init__(self, tokenizer: Any, stop: Sequence[str] = ()) -> None:
        self._tokenizer, self._stop = tokenizer, tuple(stop)
        self._tokens: list[int] = []
        self._context = 0
        """Tokens from here on are decoded again with each new one: spaces depend on the token before."""
        self._decoded = 0
        """Tokens up to here are in the text."""
        self._held = ""
        """Text that may be the beginning of a stop sequence."""
        self.stopped = False

    def push(self, token: int) -> str:
        """Add a token; the text that can be shown now."""
        self._tokens.append(token)
        return self._release(self._decode(final=False))

    def finish(self) -> str:
        """No more tokens: the rest of the text."""
        rest = self._release(self._decode(final=True)) + ("" if self.stopped else self._held)
        self._held = ""
        return rest

    def _decode(self, *, final: bool) -> str:
        before = self._text(self._tokens[self._context : self._decoded])
        after = self._text(self._tokens[self._context :])
        if after.endswith(_UNFINISHED) and not final:
            return ""
        if len(after) > len(before):
            self._context, self._decoded = self._decoded, len(self._tokens)
        return after[len(before) :]

    def _text(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _release(self, new: str) -> str:
        if self.stopped:
            return ""
        text = self._held + new
        found = [at for stop in self._stop if (at := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        held = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
