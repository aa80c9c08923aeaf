"""Sequence classification: texts that arrive together for the same version go through the model together."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from trimtab_trainer.server.models import MULTI_LABEL, ClassificationModel

TOKENS_PER_STEP = 4096
"""Tokens, padding included, of one forward pass."""

Scores = list[list[float]]


@dataclass(eq=False)
class Classification:
    """One request: some texts as tokens. `deliver` is called from the engine's thread."""

    texts: list[list[int]]
    adapter: str
    deliver: Callable[[Scores | Exception], None]
    cancelled: bool = False


class ClassificationLane:
    """One classifier and its requests. Everything but `submit` belongs to the engine's thread."""

    def __init__(self, model: ClassificationModel) -> None:
        self.model = model
        self._waiting: deque[Classification] = deque()
        self._running: list[Classification] = []

    def submit(self, request: Classification) -> None:
        """Queue a request; wake the engine afterwards."""
        self._waiting.append(request)

    @property
    def running(self) -> int:
        """Requests of the current step."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    def step(self) -> bool:
        """Answer the oldest request and those for the same version that fit beside it."""
        self._running = requests = self._next_requests()
        if not requests:
            return False
        self.model.adapters.choose_for_all(requests[0].adapter)
        scores = self._scores([text for request in requests for text in request.texts])
        for request in requests:
            request.deliver(scores[: len(request.texts)])
            del scores[: len(request.texts)]
        self._running = []
        return True

    def fail(self, error: Exception) -> None:
        """Give up the requests of this step."""
        for request in self._running:
            request.deliver(error)
        self._running = []

    def _next_requests(self) -> list[Classification]:
        chosen: list[Classification] = []
        tokens = 0
        for _ in range(len(self._waiting)):
            request = self._waiting.popleft()
            if request.cancelled:
                continue
            size = sum(len(text) for text in request.texts)
            if chosen and (request.adapter != chosen[0].adapter or tokens + size > TOKENS_PER_STEP):
                self._waiting.appendleft(request)
                break
            chosen.append(request)
            tokens += size
        return chosen

    def _scores(self, texts: list[list[int]]) -> Scores:
        """Probabilities of the labels for each text; texts of like length share a pass."""
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        scores: Scores = [[] for _ in texts]
        while order:
            longest = len(texts[order[-1]])
            count = max(1, TOKENS_PER_STEP // longest)
            batch, order = order[-count:], order[:-count]
            for index, row in zip(batch, self._forward([texts[index] for index in batch]), strict=True):
                scores[index] = row
        return scores

    def _forward(self, texts: list[list[int]]) -> Any:
        device = self.model.module.device
        longest = max(len(text) for text in texts)
        pad = self.model.tokenizer.pad_token_id or 0
        ids = torch.tensor([text + [pad] * (longest - len(text)) for text in texts], device=device)
        mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in texts], device=device)
        logits = self.model.module(input_ids=ids, attention_mask=mask).logits
        if self.model.module.config.problem_type == MULTI_LABEL:
            return torch.sigmoid(logits.float()).tolist()
        if logits.shape[-1] == 1:  # of a reward model: a score, no share
            return logits.float().tolist()
        return torch.softmax(logits.float(), dim=-1).tolist()
