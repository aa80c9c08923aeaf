"""Answers drawn from the model itself: batches with a key-value cache, from the very distribution that is trained."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GenerationConfig

from trimtab_trainer.contract.rewards import Sampling
from trimtab_trainer.data.encoded import Encoded
from trimtab_trainer.data.prompt_encoding import EncodedPrompt
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.objectives.rewards.rules import Answer
from trimtab_trainer.tasks.attention import attention_implementation


@dataclass(frozen=True)
class Sampled:
    """One answer to one prompt."""

    prompt: EncodedPrompt
    ids: NDArray[np.int32]
    """[tokens], with the stop token where there is one."""
    text: str
    """Without special tokens."""
    is_finished: bool
    """It ends in a stop token."""

    @property
    def answer(self) -> Answer:
        """As rewards see it."""
        return Answer(self.prompt.content, self.text, len(self.ids), self.is_finished)

    @property
    def sequence(self) -> Encoded:
        """Prompt and answer, of which the answer is trained."""
        return sequence_of(self.prompt, self.ids)


def sequence_of(prompt: EncodedPrompt, answer: NDArray[np.int32]) -> Encoded:
    """Prompt and answer end to end; the answer carries loss."""
    ids = np.concatenate([prompt.ids, answer]).astype(np.int32)
    return Encoded(ids, np.arange(len(ids)) >= prompt.length)


@dataclass(frozen=True)
class Sampler:
    """Draws answers."""

    settings: Sampling
    stop_ids: tuple[int, ...]

    @torch.no_grad()
    def draw(self, model: TrainableModel, prompts: Sequence[EncodedPrompt], *, count: int) -> list[Sampled]:
        """`count` answers to each prompt, side by side. What is drawn follows from torch's random numbers."""
        repeated = [prompt for prompt in prompts for _ in range(count)]
        was_training = model.module.training
        model.module.eval()
        try:
            with attention_implementation(model.base, "sdpa"), _plain_generation(model.base), model.autocast():
                written = self._generate(model, repeated)
        finally:
            model.module.train(was_training)
        answers = [self._until_stop(ids) for ids in written]
        texts = model.tokenizer.batch_decode(answers, skip_special_tokens=True)
        return [
            Sampled(prompt, ids, str(text), bool(ids[-1] in self.stop_ids))
            for prompt, ids, text in zip(repeated, answers, texts, strict=True)
        ]

    def _generate(self, model: TrainableModel, prompts: Sequence[EncodedPrompt]) -> NDArray[np.int32]:
        """[answers, tokens]: what follows the prompts, which are padded on the left."""
        width = max(prompt.length for prompt in prompts)
        ids: NDArray[np.int64] = np.full((len(prompts), width), model.tokenizer.pad_token_id, np.int64)
        mask = np.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, width - prompt.length :] = prompt.ids
            mask[row, width - prompt.length :] = 1
        output = model.module.generate(
            input_ids=torch.from_numpy(ids).to(model.device),
            attention_mask=torch.from_numpy(mask).to(model.device),
            generation_config=GenerationConfig(
                do_sample=True,
                temperature=self.settings.temperature,
                top_k=0,
                top_p=1.0,
                max_new_tokens=self.settings.max_new_tokens,
                pad_token_id=model.tokenizer.pad_token_id,
                eos_token_id=list(self.stop_ids),
            ),
        )
        found: NDArray[np.int32] = output[:, width:].cpu().numpy().astype(np.int32)
        return found

    def _until_stop(self, ids: NDArray[np.int32]) -> NDArray[np.int32]:
        """Without the padding behind the stop token."""
        stops = np.flatnonzero(np.isin(ids, self.stop_ids))
        return ids[: stops[0] + 1] if len(stops) else ids


@contextmanager
def _plain_generation(module: Any) -> Iterator[None]:
    """A model's own `generation_config.json` may cut or bend the distribution (penalties, top-k): not here."""
    own = module.generation_config
    module.generation_config = GenerationConfig()
    try:
        yield
    finally:
        module.generation_config = own
