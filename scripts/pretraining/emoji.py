"""Captioned emoji in two drawing styles, rasterised from packages of vector icons."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from scripts.pretraining.sources import Package

Pixels = npt.NDArray[np.uint8]  # [images, pixels, pixels, 3]

BASE_STYLE = Package("@iconify-json/noto", "npm", "Apache-2.0")
OTHER_STYLE = Package("@iconify-json/fluent-emoji-flat", "npm", "MIT")
_LEFT_OUT = re.compile(r"skin-tone|^flag-")  # the same drawing in other colours; flags, which are not drawings


@dataclass(frozen=True, slots=True)
class Emoji:
    """One icon: what it shows, and its drawing as SVG."""

    key: str
    svg: str

    @property
    def caption(self) -> str:
        return self.key.replace("-", " ")


def read_icons(folder: Path) -> dict[str, Emoji]:
    """The icons of an unpacked `@iconify-json` package by their keys, in the order of the keys."""
    package = json.loads((folder / "package/icons.json").read_text(encoding="utf-8"))
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    emoji = {}
    for key, icon in sorted(package["icons"].items()):
        if not _LEFT_OUT.search(key):
            width, height = (icon.get(side, package.get(side, 16)) for side in ("width", "height"))
            emoji[key] = Emoji(key, f'<svg {spaces} viewBox="0 0 {width} {height}">{icon["body"]}</svg>')
    return emoji


def read_categories(folder: Path) -> dict[str, str]:
    """Which category each icon of the package belongs to."""
    metadata = json.loads((folder / "package/metadata.json").read_text(encoding="utf-8"))
    return {key: category for category, keys in metadata["categories"].items() for key in keys}


def draw(svg: str, *, pixels: int) -> Image.Image:
    """The drawing on white, square. Drawn four times as large and then reduced, so that thin lines keep their colour."""
    import resvg_py  # the extra `pretrain`; reading icons does without it

    png = resvg_py.svg_to_bytes(svg_string=svg, width=4 * pixels, height=4 * pixels, skip_system_fonts=True)
    drawn = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    paper = Image.new("RGBA", drawn.size, "white")
    return Image.alpha_composite(paper, drawn).convert("RGB").resize((pixels, pixels), Image.Resampling.BOX)


def draw_all(svgs: Iterable[str], *, pixels: int) -> Pixels:
    """The drawings as one array."""
    return np.stack([np.asarray(draw(svg, pixels=pixels)) for svg in svgs])


def png_bytes(image: Image.Image) -> bytes:
    """The image as a PNG file."""
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    return file.getvalue()


def spread_choice(keys: Sequence[str], count: int) -> list[str]:
    """`count` of `keys` at even distances, so that a choice of few shows all kinds."""
    return [keys[round(place * (len(keys) - 1) / max(count - 1, 1))] for place in range(count)]
