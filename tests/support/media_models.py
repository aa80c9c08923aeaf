"""Tiny random models of images and sounds, and the files that they learn from."""

import math
import struct
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from dev.demo.tiny_media import RATE, save_clip, save_vit, save_wav2vec2, save_yolos
from PIL import Image, ImageDraw
from tests.support.rows import write_jsonl
from tests.support.tiny_models import SHAPE, byte_tokenizer
from transformers import ResNetConfig, ResNetModel
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

EDGE, PATCH = 16, 4
COLOURS = {"red": (230, 30, 30), "blue": (30, 30, 230), "green": (30, 200, 30)}


def write_tiny_vit(directory: Path) -> Path:
    """A vision transformer without a head."""
    torch.manual_seed(7)
    save_vit(directory, edge=EDGE, patch=PATCH, shape=SHAPE)
    return directory


def write_tiny_resnet(directory: Path) -> Path:
    """A convolutional network without a head."""
    torch.manual_seed(7)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    ResNetModel(config).save_pretrained(directory)
    ViTImageProcessorPil(size={"height": EDGE, "width": EDGE}).save_pretrained(directory)
    return directory


def write_tiny_clip(directory: Path) -> Path:
    """Two towers."""
    torch.manual_seed(7)
    tokenizer = byte_tokenizer(chat_template=None)
    tokenizer.model_max_length = 64
    save_clip(directory, tokenizer, edge=EDGE, patch=PATCH, width=16, shape=SHAPE)
    return directory


def write_tiny_wav2vec2(directory: Path) -> Path:
    """A listener with an alphabet of three letters and 100 frames a second."""
    torch.manual_seed(7)
    save_wav2vec2(directory, letters="ABC", channels=16, shape=SHAPE, mask_time_length=2)
    return directory


def write_tiny_yolos(directory: Path) -> Path:
    """A detector of at most four things."""
    torch.manual_seed(7)
    save_yolos(directory, edge=32, patch=8, things=4, shape=SHAPE, num_labels=2)
    return directory


def coloured_images(folder: Path, count: int) -> list[dict[str, Any]]:
    """Plain pictures in three colours, each with its label and a sentence."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        label = list(COLOURS)[number % 3]
        shade = tuple(max(0, part - 3 * number) for part in COLOURS[label])
        Image.new("RGB", (20, 24), shade).save(folder / f"{number}.png")
        rows.append({"image": f"{folder.name}/{number}.png", "label": label, "text": f"it is {label}"})
    return rows


def scenes(folder: Path, count: int) -> list[dict[str, Any]]:
    """A red or a blue square on black, with its box."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        label = ["red", "blue"][number % 2]
        left, top = 4 + 3 * (number % 4), 4 + 4 * (number % 3)
        picture = Image.new("RGB", (32, 32))
        ImageDraw.Draw(picture).rectangle((left, top, left + 11, top + 11), fill=COLOURS[label])
        picture.save(folder / f"{number}.png")
        objects = {"bbox": [[left, top, 12, 12]], "category": [label]}
        rows.append({"image": f"{folder.name}/{number}.png", "objects": objects})
    return rows


def tones(folder: Path, count: int) -> list[dict[str, Any]]:
    """Words of one or two letters, each letter a tone of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        letters = "ABC"[number % 3] + ("ABC"[(number + 1) % 3] if number % 2 else "")
        samples = [value for letter in letters for value in _tone(400 + 700 * "ABC".index(letter))]
        write_wav(folder / f"{number}.wav", samples)
        rows.append({"audio": f"{folder.name}/{number}.wav", "text": letters.lower()})
    return rows


def _tone(frequency: int) -> list[float]:
    return [0.5 * math.sin(2 * math.pi * frequency * place / RATE) for place in range(RATE // 20)]


def write_wav(path: Path, samples: Sequence[float], *, rate: int = RATE, channels: int = 1) -> Path:
    """16-bit PCM; every channel has the same samples."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        whole = [round(32767 * sample) for sample in samples for _ in range(channels)]
        file.writeframes(struct.pack(f"<{len(whole)}h", *whole))
    return path


def write_media_files(root: Path) -> Path:
    """Models in `models/`, rows of each split in `data/`."""
    for name, write in (
        ("vit", write_tiny_vit),
        ("resnet", write_tiny_resnet),
        ("clip", write_tiny_clip),
        ("wav2vec2", write_tiny_wav2vec2),
        ("yolos", write_tiny_yolos),
    ):
        write(root / "models" / name)
    for name, rows in (("images", coloured_images), ("scenes", scenes), ("tones", tones)):
        for split, count in (("train", 12), ("validation", 6), ("test", 6)):
            found = rows(root / "data" / f"{split}-{name}", count)
            write_jsonl(root / "data" / f"{split}-{name}.jsonl", found)
    return root
