"""Images, sounds and small models for the examples of tasks. Runs where torch and transformers are: in the trainer image.

Usage: python dev/demo/media.py (NAME DESTINATION SOURCE)...

`digits` are the 1,797 real handwritten digits that scikit-learn ships (Alpaydin and Kaynak, 1998, CC BY 4.0); SOURCE is its
unpacked package. `shapes` (coloured squares) and `tones` (words of three letters, each letter a tone) are drawn here: no
package ships small annotated pictures or speech. The four models are random and small: what they know, they learn in the
example's job.
"""

import csv
import gzip
import io
import math
import random
import struct
import sys
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from models import tiny_bert
from PIL import Image, ImageDraw
from pyarrow import parquet
from tiny_media import RATE, save_clip, save_vit, save_wav2vec2, save_yolos
from transformers import AutoTokenizer

SEED = 42
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COLOURS = {"red": (230, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 230)}
TONES = {"A": 440, "B": 880, "C": 1760}
SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
}


def digits(source: Path, destination: Path) -> None:
    """Pictures of 8 x 8, each with its name and a sentence."""
    file = source / "sklearn" / "datasets" / "data" / "digits.csv.gz"
    with gzip.open(file, "rt") as lines:
        rows = [[int(float(cell)) for cell in row] for row in csv.reader(lines)]
    found = []
    for *cells, digit in rows:
        picture = Image.frombytes("L", (8, 8), bytes(min(255, 16 * cell) for cell in cells))
        found.append({"image": png(picture), "label": NAMES[digit], "text": f"the digit {NAMES[digit]}"})
    write_splits(destination, found)


def shapes(_: Path, destination: Path) -> None:
    """One to three squares on black, with their boxes."""
    generator = random.Random(SEED)  # noqa: S311 - pictures, not secrets
    found = []
    for _number in range(240):
        picture, boxes, names = Image.new("RGB", (64, 64)), [], []
        for name in generator.sample(list(COLOURS), generator.randint(1, 3)):
            edge = generator.randint(14, 24)
            left, top = generator.randint(0, 63 - edge), generator.randint(0, 63 - edge)
            ImageDraw.Draw(picture).rectangle((left, top, left + edge - 1, top + edge - 1), fill=COLOURS[name])
            boxes.append([left, top, edge, edge])
            names.append(name)
        found.append({"image": png(picture), "objects": {"bbox": boxes, "category": names}})
    write_splits(destination, found)


def tones(_: Path, destination: Path) -> None:
    """Words of three letters, each letter a twentieth of a second of its own tone, with some noise."""
    generator = random.Random(SEED)  # noqa: S311 - sounds, not secrets
    found = []
    for _number in range(240):
        text = "".join(generator.choice("ABC") for _ in range(3))
        samples = [
            round(16000 * math.sin(2 * math.pi * TONES[letter] * place / RATE) + generator.gauss(0, 300))
            for letter in text
            for place in range(RATE // 20)
        ]
        buffer = io.BytesIO()
        with wave.open(buffer, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes(struct.pack(f"<{len(samples)}h", *samples))
        found.append({"audio": buffer.getvalue(), "text": text})
    write_splits(destination, found)


def png(picture: Image.Image) -> bytes:
    """The file's bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def write_splits(destination: Path, rows: list[dict[str, Any]]) -> None:
    """Every sixth row validates, every sixth tests; the bytes are in the rows."""
    for split, places in (("validation", {4}), ("test", {5}), ("train", {0, 1, 2, 3})):
        chosen = [row for place, row in enumerate(rows) if place % 6 in places]
        parquet.write_table(pa.Table.from_pylist(chosen), destination / f"{split}.parquet")


def tiny_vit(_: Path, destination: Path) -> None:
    """A vision transformer for pictures of 8 x 8."""
    save_vit(destination, edge=8, patch=2, shape=SHAPE)


def tiny_clip(_: Path, destination: Path) -> None:
    """Two towers, for pictures of 8 x 8 and short sentences."""
    tiny_bert(_, destination)  # its tokenizer; the weights are replaced
    tokenizer = AutoTokenizer.from_pretrained(destination)
    tokenizer.model_max_length = 32
    save_clip(destination, tokenizer, edge=8, patch=2, width=32, shape=SHAPE)


def tiny_yolos(_: Path, destination: Path) -> None:
    """A detector of at most six things in pictures of 64 x 64."""
    save_yolos(destination, edge=64, patch=8, things=6, shape=SHAPE)


def tiny_wav2vec2(_: Path, destination: Path) -> None:
    """A listener with three letters and 100 frames a second."""
    save_wav2vec2(destination, letters=list(TONES), channels=32, shape=SHAPE, mask_time_prob=0.0)


BUILDERS: dict[str, Callable[[Path, Path], None]] = {
    "digits": digits,
    "shapes": shapes,
    "tones": tones,
    "tiny-vit": tiny_vit,
    "tiny-clip": tiny_clip,
    "tiny-yolos": tiny_yolos,
    "tiny-wav2vec2": tiny_wav2vec2,
}


def main(arguments: list[str]) -> None:
    """Build everything that is asked for."""
    for name, destination, source in zip(arguments[::3], arguments[1::3], arguments[2::3], strict=True):
        torch.manual_seed(SEED)
        BUILDERS[name](Path(source), Path(destination))
        for file in Path(destination).iterdir():
            file.chmod(0o644)  # safetensors writes files that only their owner may read


if __name__ == "__main__":
    main(sys.argv[1:])
