"""Images to tensors, by the model's own image processor (its Pillow form, which needs no torchvision)."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from transformers import AutoImageProcessor

from trimtab_trainer.contract.exit_codes import TrainerReason
from trimtab_trainer.data.media import Media
from trimtab_trainer.errors import TrainerError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
"""What is read, by Pillow's names; of the others some run programs."""
DEFAULT_PATCH = 32
"""Pixels along an edge that one position of a convolutional network's last map stands for."""


def load_image_processor(directory: Path) -> Any:
    """The model's image processor.

    Raises:
        TrainerError: ModelInvalid where there is none.
    """
    try:
        return AutoImageProcessor.from_pretrained(
            directory, backend="pil", local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise TrainerError(
            TrainerReason.MODEL_INVALID,
            f"The model's image processor (preprocessor_config.json) cannot be loaded: {error}",
        ) from error


def open_image(media: Media) -> Image.Image:
    """The picture in RGB."""
    return Image.open(io.BytesIO(media.read()), formats=FORMATS).convert("RGB")


def check_image(media: Media, place: str) -> tuple[int, int]:
    """Width and height of a picture that can be read.

    Raises:
        TrainerError: DatasetInvalid naming the row.
    """
    try:
        with Image.open(io.BytesIO(media.read()), formats=FORMATS) as image:
            image.verify()
            return int(image.width), int(image.height)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise TrainerError(TrainerReason.DATASET_INVALID, f"{place}: the image cannot be read ({error}).") from error


def pixels(processor: Any, images: Sequence[Media], device: torch.device) -> Tensor:
    """[images, channels, height, width]: resized and normalised."""
    found = processor(images=[open_image(image) for image in images], return_tensors="pt")["pixel_values"]
    return found.to(device)


def image_tokens(processor: Any, directory: Path) -> int:
    """How many positions of the model an image takes."""
    size = (getattr(processor, "do_center_crop", False) and processor.crop_size) or processor.size
    edges = dict(size)
    height = edges.get("height") or edges.get("shortest_edge") or next(iter(edges.values()))
    width = edges.get("width") or edges.get("longest_edge") or height
    patch = _patch_size(directory)
    return max(1, int(height) // patch) * max(1, int(width) // patch) + 1


def _patch_size(directory: Path) -> int:
    document = json.loads((directory / "config.json").read_text("utf-8"))
    for place in (document, document.get("vision_config") or {}):
        if isinstance(place.get("patch_size"), int):
            return int(place["patch_size"])
    return DEFAULT_PATCH


@dataclass(frozen=True)
class Augmentation:
    """Random changes of images while a model trains. They follow from torch's seed, which the loop sets for each step."""

    horizontal_flip: bool = False
    crop_padding: int = 0
    """Pixels: the image is padded by as many on every side, and a random part of the old size is cut out."""

    def apply(self, images: Tensor) -> Tensor:
        """[images, channels, height, width], each changed by itself."""
        if self.horizontal_flip:
            flips = torch.rand(len(images)) < 0.5  # noqa: PLR2004 - every second one
            images = torch.where(flips[:, None, None, None].to(images.device), images.flip(-1), images)
        if self.crop_padding:
            images = self._cropped(images)
        return images

    def _cropped(self, images: Tensor) -> Tensor:
        edge, (height, width) = self.crop_padding, images.shape[-2:]
        wider = torch.nn.functional.pad(images, (edge, edge, edge, edge))
        places = torch.randint(2 * edge + 1, (len(images), 2)).tolist()
        return torch.stack(
            [one[:, top : top + height, left : left + width] for one, (top, left) in zip(wider, places, strict=True)]
        )
