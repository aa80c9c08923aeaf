"""Task speechRecognition: what is said in a recording, letter by letter, without alignment (CTC, Graves et al., 2006)."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoModelForCTC, AutoProcessor

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.contract.run_config import RunConfig
from trimtab_trainer.data.formats import Example
from trimtab_trainer.errors import TrainerError
from trimtab_trainer.model import TrainableModel
from trimtab_trainer.tasks.definition import TaskDefinition
from trimtab_trainer.tasks.recordings import read_recording
from trimtab_trainer.tasks.scores import edit_distance
from trimtab_trainer.tasks.task import Sums, Task


@dataclass(frozen=True, slots=True)
class SpeechInput:
    """A recording and its letters."""

    samples: NDArray[np.float32]
    ids: NDArray[np.int32]
    """The transcript's tokens."""
    text: str
    length: int
    """Frames that the model makes of it."""
    is_too_long: bool

    cut = False

    @property
    def shape(self) -> int:
        """Recordings of one shape are not padded beside each other."""
        return len(self.samples)

    @property
    def targets(self) -> int:
        """Letters."""
        return len(self.ids)

    @property
    def is_learnable(self) -> bool:
        """There are frames enough: one for each letter, and one between two equal ones."""
        repeats = int((self.ids[1:] == self.ids[:-1]).sum())
        return not self.is_too_long and 0 < self.targets <= self.length - repeats


@dataclass(frozen=True)
class SpeechEncoder:
    """Recordings to samples, transcripts to letters of the model's alphabet."""

    processor: Any
    max_frames: int
    strides: tuple[tuple[int, int], ...]
    """`(kernel, stride)` of the layers that make frames of samples."""

    def encode(self, examples: Iterable[Example]) -> list[SpeechInput]:
        """All examples in their order; recordings of more frames than fit cannot be learned from.

        Raises:
            TrainerError: DatasetInvalid naming the first row whose recording cannot be read or has no known letter.
        """
        return [self._encode(example.place, example.content) for example in examples]

    @property
    def max_seconds(self) -> float:
        """How long a recording may be."""
        samples = self.max_frames * math.prod(stride for _, stride in self.strides)
        return samples / int(self.processor.feature_extractor.sampling_rate)

    @property
    def min_samples(self) -> int:
        """Of which the model makes one frame."""
        samples = 1
        for kernel, stride in reversed(self.strides):
            samples = (samples - 1) * stride + kernel
        return samples

    def encode_recording(self, samples: NDArray[np.float32]) -> SpeechInput:
        """A recording of which nobody knows what is said in it; at the model's own rate."""
        return self._input(samples, np.zeros(0, np.int32), "")

    def _encode(self, place: str, content: Any) -> SpeechInput:
        rate = self.processor.feature_extractor.sampling_rate
        samples = read_recording(content.audio, rate=rate, place=place)
        text = " ".join(self._cased(content.text).split())
        ids = np.asarray(self.processor.tokenizer(text).input_ids, np.int32)
        if len(ids) and (ids == self.processor.tokenizer.unk_token_id).all():
            raise TrainerError(
                TrainerReason.DATASET_INVALID,
                f"{place}: no letter of {content.text[:40]!r} is in the model's alphabet: "
                f"{' '.join(sorted(self.processor.tokenizer.get_vocab())[:40])}.",
            )
        return self._input(samples, ids, text)

    def _input(self, samples: NDArray[np.float32], ids: NDArray[np.int32], text: str) -> SpeechInput:
        frames = frame_count(len(samples), self.strides)
        return SpeechInput(samples, ids, text, max(frames, 1), is_too_long=frames > self.max_frames)

    def _cased(self, text: str) -> str:
        """Many models know capitals only, or none."""
        alphabet = "".join(token for token in self.processor.tokenizer.get_vocab() if len(token) == 1)
        if alphabet == alphabet.upper():
            return text.upper()
        return text.lower() if alphabet == alphabet.lower() else text


def frame_count(samples: int, strides: Iterable[tuple[int, int]]) -> int:
    """Frames that convolutions without padding make."""
    for kernel, stride in strides:
        samples = max((samples - kernel) // stride + 1, 0)
    return samples


@dataclass(frozen=True)
class SpeechBatch:
    """A micro batch."""

    inputs: dict[str, Tensor]
    """`input_values` [recordings, samples], and `attention_mask` where the model reads one."""
    frames: Tensor
    """[recordings]"""
    letters: Tensor
    """The transcripts' letters, one after the other."""
    letter_counts: Tensor
    """[recordings]"""
    texts: tuple[str, ...]


@dataclass
class Transcription:
    """Letters of a recording."""

    device: torch.device
    processor: Any
    blank: int
    """The output that stands for no letter."""

    @property
    def layout(self) -> str:
        """How examples lie in a batch, for the report."""
        return "padded recordings of like lengths"

    def targets(self, example: SpeechInput) -> int:
        """Letters."""
        return example.targets

    def collate(self, examples: Sequence[SpeechInput]) -> SpeechBatch:
        """Padded to the longest recording."""
        extractor = self.processor.feature_extractor
        inputs = extractor(
            [example.samples for example in examples],
            sampling_rate=extractor.sampling_rate,
            padding=True,
            return_tensors="pt",
        )
        return SpeechBatch(
            {name: values.to(self.device) for name, values in inputs.items()},
            torch.tensor([example.length for example in examples]),
            torch.from_numpy(np.concatenate([example.ids for example in examples])).long().to(self.device),
            torch.tensor([example.targets for example in examples]),
            tuple(example.text for example in examples),
        )

    def loss(self, model: TrainableModel, batch: SpeechBatch) -> Tensor:
        """Sum of the negative log-likelihoods of the transcripts over all alignments."""
        return self._loss(self.logits(model, batch), batch)

    @torch.no_grad()
    def measure(self, model: TrainableModel, batch: SpeechBatch) -> Sums:
        """Loss, letters; edits and words, edits and characters, of the likeliest letters."""
        logits = self.logits(model, batch)
        pairs = list(zip(batch.texts, self._transcripts(logits, batch), strict=True))
        return {
            "loss": float(self._loss(logits, batch)),
            "targets": float(batch.letter_counts.sum()),
            "word_edits": float(sum(edit_distance(text.split(), guess.split()) for text, guess in pairs)),
            "words": float(sum(len(text.split()) for text in batch.texts)),
            "character_edits": float(sum(edit_distance(text, guess) for text, guess in pairs)),
            "characters": float(sum(map(len, batch.texts))),
        }

    @torch.no_grad()
    def answer(self, model: TrainableModel, examples: Sequence[SpeechInput]) -> list[str]:
        """What is said in each recording."""
        batch = self.collate(examples)
        return self._transcripts(self.logits(model, batch), batch)

    def _transcripts(self, logits: Tensor, batch: SpeechBatch) -> list[str]:
        """The likeliest letters of each frame, repeats and blanks taken out."""
        return [
            str(self.processor.tokenizer.decode(row[:frames].argmax(-1).tolist()))
            for row, frames in zip(logits, batch.frames.tolist(), strict=True)
        ]

    def metrics(self, sums: Mapping[str, Any]) -> dict[str, float]:
        """Loss a letter; word and character error rates: edits of a whole split by words and characters of it."""
        return {
            "loss": sums["loss"] / sums["targets"],
            "word_error_rate": sums["word_edits"] / sums["words"],
            "character_error_rate": sums["character_edits"] / sums["characters"],
        }

    def logits(self, model: TrainableModel, batch: SpeechBatch) -> Tensor:
        """[recordings, frames, letters] in float32."""
        with model.autocast():
            return model.module(**batch.inputs).logits.float()

    def _loss(self, logits: Tensor, batch: SpeechBatch) -> Tensor:
        return nn.functional.ctc_loss(
            logits.log_softmax(-1).transpose(0, 1),
            batch.letters,
            batch.frames.to(self.device),
            batch.letter_counts.to(self.device),
            blank=self.blank,
            reduction="sum",
        )


class SpeechTranscription(TaskDefinition):
    """What is said in a recording."""

    metric_names = ("loss", "word_error_rate", "character_error_rate")
    formats = ("transcribedAudio",)
    auto_model = AutoModelForCTC
    auto_processor = "AutoProcessor"
    processor_name = "processor"
    pipeline_tag = "automatic-speech-recognition"

    def load_processor(self, directory: Path) -> Any:
        """Feature extractor and alphabet."""
        try:
            processor = AutoProcessor.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
            raise TrainerError(
                TrainerReason.MODEL_INVALID, f"The model's processor cannot be loaded: {error}"
            ) from error
        if not hasattr(processor, "feature_extractor") or not hasattr(processor, "tokenizer"):
            raise TrainerError(
                TrainerReason.MODEL_INVALID,
                "speechRecognition needs a model with a feature extractor and an alphabet (vocab.json).",
            )
        return processor

    def encoder(self, config: RunConfig, directory: Path, processor: Any, labels: tuple[str, ...]) -> SpeechEncoder:
        """Recordings of at most maxSequenceLength frames."""
        del labels
        document = json.loads((directory / "config.json").read_text("utf-8"))
        kernels, strides = document.get("conv_kernel"), document.get("conv_stride")
        if not kernels or not strides:
            raise TrainerError(
                TrainerReason.MODEL_INVALID,
                f"speechRecognition needs a CTC model that listens to samples, as wav2vec2 does; got {document.get('model_type')}.",
            )
        return SpeechEncoder(processor, config.data.max_sequence_length, tuple(zip(kernels, strides, strict=True)))

    def make(self, config: RunConfig, model: TrainableModel, train: Sequence[Any]) -> tuple[Task, str]:
        """Padded recordings."""
        del config, train
        return Transcription(model.device, model.tokenizer, int(model.base.config.pad_token_id or 0)), ""

    def data_warnings(self, encoder: SpeechEncoder, train: Sequence[SpeechInput]) -> list[str]:
        """Letters that the model does not know."""
        unknown = encoder.processor.tokenizer.unk_token_id
        lost = sum(bool((example.ids == unknown).any()) for example in train)
        return (
            [f"{lost} of {len(train)} train transcripts have letters that are not in the model's alphabet."]
            if lost
            else []
        )

    def show(self, example: SpeechInput, processor: Any) -> list[tuple[bool, str]]:
        """The transcript; the recording before it."""
        del processor
        return [(False, f"a recording of {example.length} frames"), (True, example.text)]
