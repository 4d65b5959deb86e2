"""Images as customers give them, and as rows hold them: small square PNGs in base64.

Covers: size in bytes and pixels before anything is decoded, five formats, the first frame only, no metadata in what comes out; large
images are made smaller before anything else is done to them. Does not cover: what the images show. Needs the extra `image`; imported
only where images are prepared.
"""

from __future__ import annotations

import base64
import binascii
import io

from PIL import Image, ImageOps, UnidentifiedImageError

from gradients.datasets.sources import MOST_IMAGE_BYTES

MOST_PIXELS = 50_000_000
LARGE_PIXELS = 4_000_000  # beyond this an image is halved, and halved again, while it is decoded
FEWEST_PIXELS_A_SIDE = 16
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # greys of 16 bits
_THUMBNAIL = 8  # pixels a side of what images are compared by


class NotAnImage(ValueError):
    """Why the bytes cannot be used as an image."""


def decoded(text: str) -> Image.Image:
    """The image that base64 `text` is, upright and on white, without metadata. Raises NotAnImage."""
    if len(text) > 4 * MOST_IMAGE_BYTES // 3 + 4:
        raise NotAnImage(f"it has more than {MOST_IMAGE_BYTES:,} bytes")
    head, comma, rest = text.partition(",")
    encoded = rest if comma and head.startswith("data:image/") else text
    try:
        content = base64.b64decode("".join(encoded.split()), validate=True)  # many tools write it in lines
    except (binascii.Error, ValueError) as error:
        raise NotAnImage("it is not base64") from error
    return opened(content)


def opened(content: bytes) -> Image.Image:
    """The image in these bytes, upright and on white, without metadata. Raises NotAnImage."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:  # reads the header only
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise NotAnImage(f"it has more than {MOST_PIXELS:,} pixels")
            if min(width, height) < FEWEST_PIXELS_A_SIDE:
                raise NotAnImage(f"it has {width} x {height} pixels; at least {FEWEST_PIXELS_A_SIDE} a side are needed")
            if width * height > LARGE_PIXELS:
                side = round(max(width, height) * (LARGE_PIXELS / (width * height)) ** 0.5)
                image.thumbnail((side, side), Image.Resampling.BOX)
            pixels = ImageOps.exif_transpose(_eight_bits(image)).convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", pixels.size, "white"), pixels).convert("RGB")
    except Image.DecompressionBombError as error:
        raise NotAnImage(f"it has more than {MOST_PIXELS:,} pixels") from error
    except UnidentifiedImageError as error:
        raise NotAnImage(f"it is not one of {', '.join(FORMATS)}") from error
    except (NotAnImage, MemoryError):
        raise
    except Exception as error:  # PIL's readers raise whatever comes first in a broken file, struct.error for EXIF
        raise NotAnImage(f"it is broken: {error}") from error


def _eight_bits(image: Image.Image) -> Image.Image:
    """An image of 16-bit greys in 8 bits: PIL's own conversion would cut everything above 255 to white."""
    return image.convert("I").point(lambda grey: grey * (1 / 257)).convert("L") if image.mode in _DEEP else image


def square(image: Image.Image, *, pixels: int) -> Image.Image:
    """The middle of the image, `pixels` wide and high."""
    return ImageOps.fit(image, (pixels, pixels), Image.Resampling.LANCZOS)


def as_row(image: Image.Image) -> str:
    """The image as a PNG in base64."""
    file = io.BytesIO()
    image.save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def distance(one: Image.Image, other: Image.Image) -> float:
    """How far apart two images are at a glance, 0 to 255: between their thumbnails, mirrored or not."""
    ours, theirs = _thumbnail(one), _thumbnail(other)
    return min(_deviation(ours, theirs), _deviation(ours, ImageOps.mirror(theirs)))


def _thumbnail(image: Image.Image) -> Image.Image:
    return image.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX)


def _deviation(one: Image.Image, other: Image.Image) -> float:
    """Root of the mean squared difference."""
    pairs = zip(one.tobytes(), other.tobytes(), strict=True)
    return float((sum((a - b) ** 2 for a, b in pairs) / (3 * _THUMBNAIL**2)) ** 0.5)
