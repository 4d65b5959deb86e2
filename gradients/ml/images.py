"""Image rows as tensors, tensors as pictures, and the sheet on which people compare them."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw
from pydantic import BaseModel, ConfigDict, ValidationError

from gradients.errors import DatasetInvalid
from gradients.files.whole import write_file

_CELL = 128  # pixels of a picture on the sheet, at least
_HEADING = 14
_GAP = 4


class ImageRow(BaseModel):
    """One row of a diffusion task in its normal form."""

    model_config = ConfigDict(frozen=True)

    image: str  # a square PNG in base64
    caption: str


class Captioned(NamedTuple):
    """Rows of a diffusion task."""

    images: torch.Tensor  # [rows, 3, pixels, pixels], 0 to 1
    captions: list[str]


def read_captioned(path: Path) -> Captioned:
    """The rows of a JSON lines file, in its order. Raises DatasetInvalid that names the first bad line, or when there is none at all."""
    images, captions = [], []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = ImageRow.model_validate_json(line)
                with Image.open(io.BytesIO(base64.b64decode(row.image, validate=True)), formats=("PNG",)) as image:
                    colours = torch.from_numpy(np.asarray(image.convert("RGB")).copy())
                images.append(colours.permute(2, 0, 1).float() / 255)
            except (ValidationError, ValueError, OSError) as error:
                raise DatasetInvalid(f"Line {number} of {path.name} is not a row: {error}", rows=(number,)) from error
            captions.append(row.caption)
    if not images:
        raise DatasetInvalid(f"{path.name} has no rows")
    return Captioned(torch.stack(images), captions)


def picture(image: torch.Tensor) -> Image.Image:
    """A tensor [3, height, width], 0 to 1, as a picture."""
    numbers = (image.detach().float().cpu().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    return Image.fromarray(numbers)


def write_picture(path: Path, shown: Image.Image) -> None:
    """Write a PNG, there as a whole or not at all."""
    write_file(path, lambda temporary: shown.save(temporary, format="PNG"))


def contact_sheet(columns: Mapping[str, Sequence[Image.Image]]) -> Image.Image:
    """Pictures in named columns, one row of the data set beside the other's, each at least 128 pixels wide."""
    rows = max(len(shown) for shown in columns.values())
    cell = max(_CELL, *(one.width for shown in columns.values() for one in shown))
    step = cell + _GAP
    sheet = Image.new("RGB", (len(columns) * step + _GAP, _HEADING + rows * step + _GAP), "white")
    for column, (name, shown) in enumerate(columns.items()):
        left = _GAP + column * step
        ImageDraw.Draw(sheet).text((left, 1), name[: cell // 6], fill="black")
        for row, one in enumerate(shown):
            sheet.paste(one.resize((cell, cell), Image.Resampling.NEAREST), (left, _HEADING + _GAP + row * step))
    return sheet
