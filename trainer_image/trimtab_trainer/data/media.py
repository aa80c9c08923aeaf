"""Images and recordings: where their bytes are, and the rows that name them."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from trimtab_trainer.data.files import RowError, type_name
from trimtab_trainer.data.values import label_of, list_of, object_of, text_of


@dataclass(frozen=True)
class Media:
    """An image or a recording: a file, or bytes that a row brought. Read when they are needed."""

    path: Path | None = None
    content: bytes = b""

    def read(self) -> bytes:
        """The bytes of the file."""
        return self.content if self.path is None else self.path.read_bytes()

    @cached_property
    def sha256(self) -> str:
        """Of the bytes: the same picture under another name is the same picture."""
        return hashlib.sha256(self.read()).hexdigest()


@dataclass(frozen=True)
class LabelledImage:
    """An image and its label."""

    image: Media
    label: str
    is_empty = False


@dataclass(frozen=True)
class ImageText:
    """An image and a text that belongs to it."""

    image: Media
    text: str
    label: str = ""
    """Its class, for zero-shot evaluation; "" where rows have none."""

    @property
    def is_empty(self) -> bool:
        """Nothing to read."""
        return not self.text.strip()


@dataclass(frozen=True)
class Transcribed:
    """A recording and what is said in it."""

    audio: Media
    text: str

    @property
    def is_empty(self) -> bool:
        """Nothing is said."""
        return not self.text.strip()


@dataclass(frozen=True)
class AnnotatedImage:
    """An image and the things in it."""

    image: Media
    boxes: tuple[tuple[float, float, float, float], ...]
    """`(x, y, width, height)` in pixels from the top left, as COCO has them."""
    categories: tuple[str, ...]
    is_empty = False


def media_of(value: Any, column: str, directory: Path) -> Media:
    """A path relative to the data file, bytes, or `{"bytes": ..., "path": ...}` as Hugging Face's data sets have it."""
    if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
        value = value["bytes"]
    elif isinstance(value, dict):
        value = value.get("path")
    if isinstance(value, bytes):
        return Media(content=value)
    name = text_of(value, column)
    relative = PurePosixPath(name)
    if not name or relative.is_absolute() or ".." in relative.parts or "\0" in name:
        raise RowError(f"column '{column}' must be a path below the data file's folder; got {name!r}")
    if not (directory / relative).is_file():
        raise RowError(
            f"the file {name!r} of column '{column}' is not beside the data. "
            "Name the folder that holds both as `uri`, with a `/` at its end, or put the bytes into Parquet."
        )
    return Media(path=directory / relative)


def read_labelled_image(cells: Mapping[str, Any], columns: Mapping[str, str], directory: Path) -> LabelledImage:
    """`{"image": "cats/1.png", "label": ...}`."""
    image = media_of(cells["image"], columns["image"], directory)
    return LabelledImage(image, label_of(cells["label"], columns["label"]))


def read_image_text(cells: Mapping[str, Any], columns: Mapping[str, str], directory: Path) -> ImageText:
    """`{"image": "1.png", "text": ..., "label": ...}`; the label may be absent."""
    image = media_of(cells["image"], columns["image"], directory)
    label = cells.get("label")
    return ImageText(
        image, text_of(cells["text"], columns["text"]), "" if label is None else label_of(label, columns["label"])
    )


def read_transcribed(cells: Mapping[str, Any], columns: Mapping[str, str], directory: Path) -> Transcribed:
    """`{"audio": "1.wav", "text": ...}`."""
    return Transcribed(media_of(cells["audio"], columns["audio"], directory), text_of(cells["text"], columns["text"]))


def read_annotated_image(cells: Mapping[str, Any], columns: Mapping[str, str], directory: Path) -> AnnotatedImage:
    """`{"image": "1.png", "objects": {"bbox": [[x, y, width, height], ...], "category": [...]}}`."""
    column = columns["objects"]
    objects = object_of(cells["objects"], column)
    boxes = [_box(box, column) for box in list_of(objects.get("bbox"), f"{column}.bbox")]
    categories = [label_of(name, column) for name in list_of(objects.get("category"), f"{column}.category")]
    if len(boxes) != len(categories):
        raise RowError(f"'{column}' has {len(boxes)} boxes and {len(categories)} categories")
    return AnnotatedImage(media_of(cells["image"], columns["image"], directory), tuple(boxes), tuple(categories))


def _box(value: Any, column: str) -> tuple[float, float, float, float]:
    is_numbers = isinstance(value, list) and all(isinstance(edge, int | float) for edge in value)
    if not is_numbers or len(value) != 4:  # noqa: PLR2004 - x, y, width, height
        raise RowError(f"'{column}.bbox' must hold lists of x, y, width and height; got {type_name(value)}")
    x, y, width, height = map(float, value)
    if not (all(map(math.isfinite, (x, y))) and 0 < width < math.inf and 0 < height < math.inf):
        raise RowError(f"'{column}.bbox' has a box without area: {value}")
    return x, y, width, height
