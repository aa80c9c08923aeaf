"""Continuous batching: requests join and leave the running batch between steps, and every step gives each a token.

A step of one row costs almost as much as one of eight, because it is spent reading the weights (SmolLM2-135M, one core:
59 ms for one row, 125 ms for eight). Prompts are read in pieces, so that a long one holds up the others only briefly.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from trimtab_trainer.server.models import GenerationModel
from trimtab_trainer.server.rows import Prefix, Rows
from trimtab_trainer.server.sampling import Sampler, Sampling, TextStream

PROMPT_TOKENS_PER_STEP = 512
"""Prompt tokens read between two steps of the running rows."""
_KEPT_COLUMNS = 1024
"""An empty batch that has grown longer gives its memory back."""

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Delta:
    """More text."""

    text: str


@dataclass(frozen=True)
class Finished:
    """The answer is complete."""

    reason: FinishReason
    completion_tokens: int


@dataclass(frozen=True)
class Failed:
    """There will be no answer."""

    error: Exception


Event = Delta | Finished | Failed


@dataclass(eq=False)
class Generation:
    """One request for text. `deliver` is called from the engine's thread."""

    prompt: list[int]
    adapter: str
    max_tokens: int
    deliver: Callable[[Event], None]
    tokenizer: Any
    sampling: Sampling = field(default_factory=Sampling)
    stop: tuple[str, ...] = ()
    prefix: Prefix | None = None
    cancelled: bool = False
    """Set from any thread: nobody waits for the answer any more."""


class _Row:
    """A request while it is in a batch."""

    def __init__(self, request: Generation) -> None:
        self.request = request
        self.sampler = Sampler(request.sampling)
        self.text = TextStream(request.tokenizer, request.stop)
        self.tokens = 0
        self.last = 0


@dataclass
class _Prompts:
    """Prompts that are being read together; more than one only where a single step reads them all."""

    rows: Rows
    members: list[_Row]
    read: int = 0


class GenerationLane:
    """One causal language model and its requests. Everything but `submit` belongs to the engine's thread."""

    def __init__(self, model: GenerationModel, *, max_rows: int) -> None:
        self.model = model
        self._max_rows = max_rows
        self._waiting: deque[Generation] = deque()
        self._prompts: _Prompts | None = None
        self._rows = Rows(model.module, max_rows=max_rows)
        self._running: list[_Row] = []

    def submit(self, request: Generation) -> None:
        """Queue a request; wake the engine afterwards."""
        self._waiting.append(request)

    @property
    def running(self) -> int:
        """Requests that hold a row."""
        return len(self._running) + (len(self._prompts.members) if self._prompts else 0)

    @property
    def waiting(self) -> int:
        """Requests that wait for a row."""
        return len(self._waiting)

    def step(self) -> bool:
        """Read a piece of the newest prompts, then give every running row its next token."""
        self._drop_cancelled()
        worked = self._read_prompts()
        if self._running:
            self.model.adapters.choose_for_rows([row.request.adapter for row in self._running])
            self._settle(self._rows.advance([[row.last] for row in self._running]))
            worked = True
        return worked

    def fail(self, error: Exception) -> None:
        """Give up what was in the batch; what waits is tried next."""
        for row in (*self._running, *(self._prompts.members if self._prompts else ())):
            row.request.deliver(Failed(error))
        self._running, self._prompts = [], None
        self._rows = Rows(self.model.module, max_rows=self._max_rows)

    def _drop_cancelled(self) -> None:
        for index in reversed(range(len(self._running))):
            if self._running[index].request.cancelled:
                self._drop(index)
        if self._prompts and all(row.request.cancelled for row in self._prompts.members):
            self._prompts = None

    def _read_prompts(self) -> bool:
        prompts = self._prompts = self._prompts or self._next_prompts()
        if prompts is None:
            return False
        end = prompts.read + PROMPT_TOKENS_PER_STEP
        self.model.adapters.choose_for_rows([row.request.adapter for row in prompts.members])
        logits = prompts.rows.advance([row.request.prompt[prompts.read : end] for row in prompts.members])
        prompts.read = end
        if all(len(row.request.prompt) <= end for row in prompts.members):
            self._prompts = None
            for index, row in enumerate(prompts.members):
                if not row.request.cancelled and self._accept(row, logits[index]):
                    self._rows.move_from(prompts.rows, index)
                    self._running.append(row)
        return True

    def _next_prompts(self) -> _Prompts | None:
        """The oldest request, and those after it whose prompts fit into the same step."""
        chosen: list[Generation] = []
        longest = 0
        while self._waiting and len(self._running) + len(chosen) < self._max_rows:
            request = self._waiting[0]
            longest = max(longest, len(request.prompt))
            if chosen and longest * (len(chosen) + 1) > PROMPT_TOKENS_PER_STEP:
                break
            self._waiting.popleft()
            if not request.cancelled:
                chosen.append(request)
        if not chosen:
            return None
        rows = Rows(self.model.module, max_rows=len(chosen))
        rows.add(len(chosen))
        for number, request in enumerate(chosen):
            if request.prefix is not None:
                rows.begin(number, request.prefix)
        return _Prompts(rows, [_Row(request) for request in chosen])

    def _settle(self, logits: Any) -> None:
        # From the end: a finished row's place is taken by the last one, which has had its turn.
        for index in reversed(range(len(self._running))):
            if not self._accept(self._running[index], logits[index]):
                self._drop(index)

    def _accept(self, row: _Row, logits: Any) -> bool:
        """Choose a row's next token and deliver its text; whether the row goes on."""
        try:
            row.last = row.sampler.choose(logits)
        except ValueError as error:
            # A broken version must not end the answers of the others in its batch.
            row.request.deliver(Failed(error))
            return False
        row.tokens += 1
        at_end = row.last in self.model.end_tokens
        text = "" if at_end else row.text.push(row.last)
        done = at_end or row.text.stopped or row.tokens >= row.request.max_tokens
        if done:
            text += row.text.finish()
        if text:
            row.request.deliver(Delta(text))
        if done:
            reason: FinishReason = "stop" if at_end or row.text.stopped else "length"
            row.request.deliver(Finished(reason, row.tokens))
        return not done

    def _drop(self, index: int) -> None:
        self._rows.drop(index)
        self._running[index] = self._running[-1]
        self._running.pop()
        if not self._running and self._rows.columns > _KEPT_COLUMNS:
            self._rows = Rows(self.model.module, max_rows=self._max_rows)
