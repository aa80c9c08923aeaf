"""Recordings to samples: WAV files by the standard library, resampled to what the model listens to."""

import io
import math
import wave
from math import gcd

import numpy as np
from numpy.typing import NDArray

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.data.media import Media
from trimtab_trainer.errors import TrainerError

MIN_RATE, MAX_RATE = 1000, 768_000
"""Samples a second. A file may say anything, and the filter that resamples grows with it."""
_KINDS = {1: np.dtype(np.uint8), 2: np.dtype("<i2"), 4: np.dtype("<i4")}
_FULL_SCALE = {1: 128.0, 2: 32768.0, 4: 2147483648.0}
"""By bytes a sample; 8-bit WAV files have their silence at 128."""


def read_recording(media: Media, *, rate: int, place: str, max_seconds: float = math.inf) -> NDArray[np.float32]:
    """Samples between -1 and 1 at `rate` a second, all channels mixed into one; [samples].

    Raises:
        TrainerError: DatasetInvalid naming the row.
    """
    try:
        with wave.open(io.BytesIO(media.read())) as file:
            width, channels, found = file.getsampwidth(), file.getnchannels(), file.getframerate()
            _check_length(file, place, max_seconds)
            data = file.readframes(file.getnframes())
        whole = np.frombuffer(data, _KINDS[width]).astype(np.float32)
    except (wave.Error, EOFError, OSError, ValueError, KeyError) as error:
        raise TrainerError(
            TrainerReason.DATASET_INVALID,
            f"{place}: the recording cannot be read ({error}). It must be a WAV file of 8, 16 or 32-bit PCM samples.",
        ) from error
    samples = (whole - (128.0 if width == 1 else 0.0)) / _FULL_SCALE[width]
    mixed = samples.reshape(-1, channels).mean(axis=1)
    if found != rate:
        from scipy.signal import resample_poly  # noqa: PLC0415 - half a second, and only speech needs it

        step = gcd(found, rate)
        mixed = resample_poly(mixed, rate // step, found // step)
    return np.ascontiguousarray(mixed, np.float32)


def _check_length(file: wave.Wave_read, place: str, max_seconds: float) -> None:
    """Before anything is read or resampled."""
    rate, seconds = file.getframerate(), file.getnframes() / max(file.getframerate(), 1)
    if not MIN_RATE <= rate <= MAX_RATE:
        raise TrainerError(
            TrainerReason.DATASET_INVALID,
            f"{place}: the recording says {rate} samples a second; it must be {MIN_RATE} to {MAX_RATE}.",
        )
    if seconds > max_seconds:
        raise TrainerError(
            TrainerReason.DATASET_INVALID,
            f"{place}: the recording has {seconds:.1f} seconds; this model takes at most {max_seconds:.1f}.",
        )
