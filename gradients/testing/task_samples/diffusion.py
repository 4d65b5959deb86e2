"""Discs and squares in a few colours, drawn as the base never saw them: dark paper, bright shapes."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image, ImageDraw
from pydantic import JsonValue

from gradients.bases.bases import SHIPPED
from gradients.testing.task_samples import SourceRow, TaskSample

PIXELS = 32
_COLOURS = ("red", "lime", "cyan", "yellow", "magenta", "orange", "white", "pink")


def _drawing(number: int) -> Image.Image:
    """A shape whose colour, size and place follow from the number."""
    image = Image.new("RGB", (PIXELS, PIXELS), "midnightblue")
    size, left, top = 10 + number % 5 * 2, 2 + number % 7 * 2, 2 + number % 6 * 2
    draw = ImageDraw.Draw(image)
    shape = draw.ellipse if number % 2 else draw.rectangle
    shape((left, top, left + size, top + size), fill=_COLOURS[number % 8])
    return image


def _row(number: int, *, spot: bool = False) -> SourceRow:
    """A drawing with its caption; a spot is one pixel that differs."""
    image, file = _drawing(number), io.BytesIO()
    if spot:
        image.putpixel((0, 0), (255, 255, 255))
    image.save(file, format="PNG")
    kind = "disc" if number % 2 else "square"
    return {"image": base64.b64encode(file.getvalue()).decode(), "caption": f"{_COLOURS[number % 8]} {kind}"}


def _parameters(_: Path) -> dict[str, JsonValue]:
    return {"resolution": PIXELS, "strengths": [0.5, 0.9], "seeds": 1, "steps": 6, "guidance": 1.0}


SAMPLE = TaskSample(
    rows=[_row(number) for number in range(20)],
    wrong_type={"image": ["a"], "caption": "a list"},
    huge={"image": "A" * 30_000_000, "caption": "thirty million characters"},
    empty={"image": "", "caption": "nothing"},
    near=_row(0, spot=True),
    plan={"method": "lora", "learning_rate": 3e-3, "max_epochs": 20.0, "batch_rows": 8, "lora_rank": 8},
    parameters=_parameters,
    write_base=lambda _: SHIPPED / "nano-image",
)
