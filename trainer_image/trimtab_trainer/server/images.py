"""Images of requests: bytes in base64, looked at before anything decodes them."""

import base64
import binascii
import io
import struct

from PIL import Image, UnidentifiedImageError

from trimtab_trainer.data.media import Media
from trimtab_trainer.server.openai_api import ApiError
from trimtab_trainer.tasks.pictures import FORMATS, open_image

MAX_BODY_BYTES = 32 << 20
MAX_PIXELS = 16_000_000
MAX_RATIO = 16
"""Of the edges: models scale the shorter one to their own size, and the longer one with it."""

_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    TypeError,
    IndexError,
    struct.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
"""What Pillow raises for files that are broken or lie."""


def image_of(text: str, field: str) -> tuple[Media, tuple[int, int]]:
    """The image, and its width and height.

    Raises:
        ApiError: 400 for what is no image, or one of too many pixels.
    """
    if text.startswith(("http://", "https://")):
        raise ApiError(400, f"`{field}` must be the image's bytes in base64; addresses are not fetched.", param=field)
    head, comma, rest = text.partition(",")
    encoded = rest if comma and head.startswith("data:") else text
    try:
        media = Media(content=base64.b64decode(encoded, validate=True))
    except binascii.Error as error:
        raise ApiError(400, f"`{field}` must be the image's bytes in base64: {error}.", param=field) from error
    size = _checked_size(media, field)
    try:
        # Now, and not beside the pictures of others: some formats show only then that their end is missing.
        open_image(media).close()
    except _UNREADABLE as error:
        raise ApiError(400, f"`{field}` is an image that cannot be read: {error}.", param=field) from error
    return media, size


def _checked_size(media: Media, field: str) -> tuple[int, int]:
    try:
        with Image.open(io.BytesIO(media.content), formats=FORMATS) as image:
            width, height = image.size
    except UnidentifiedImageError as error:
        raise ApiError(
            400, f"`{field}` must be an image in one of the formats {', '.join(FORMATS)}.", param=field
        ) from error
    except _UNREADABLE as error:
        raise ApiError(400, f"`{field}` is an image that cannot be read: {error}.", param=field) from error
    if width * height > MAX_PIXELS:
        raise ApiError(
            400,
            f"`{field}` has {width} x {height} pixels; send at most {MAX_PIXELS}: models read far fewer.",
            param=field,
        )
    if max(width, height) > MAX_RATIO * min(width, height):
        raise ApiError(
            400,
            f"`{field}` has {width} x {height} pixels; one edge must not be more than {MAX_RATIO} times the other.",
            param=field,
        )
    return width, height
