"""Diffusion tasks: a style or a person to learn from few captioned images."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gradients.datasets.columns import cell, check_columns, check_enough
from gradients.datasets.image_folders import FILE_NAME
from gradients.datasets.rows import Cleaned, Numbered, Row, SplitSizes, numbers
from gradients.domain.evaluation import Metric
from gradients.errors import DatasetInvalid, SetupError
from gradients.tasks.base import SHIPPED_DATA, Demonstration, TaskType, TrainingLoad
from gradients.tasks.hours import Effort
from gradients.tasks.jobs.training import TrainingPlan

if TYPE_CHECKING:
    from PIL import Image

MOST_ROWS = 50
MOST_LOOKED_AT = 200  # with repeated ones
LONGEST_CAPTION = 1000  # characters
MOST_WORK = 2500  # denoising steps of 512 pixels a side, to measure an image; four times the defaults at 1024
NEAR = 6.0  # of 255: thumbnails that differ less show the same image (README)

Strength = Annotated[float, Field(gt=0, le=1)]


class Columns(BaseModel):
    """Which column of the data set is which."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str = Field(default="image", min_length=1, description="a PNG, JPEG or WebP image in base64")
    caption: str = Field(default="caption", min_length=1, description="what the image shows")


class DiffusionParameters(BaseModel):
    """What a customer says about a diffusion task."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    subject: Literal["style", "person"] = Field(default="style", description="what is to be learnt")
    columns: Columns = Field(default=Columns(), description="which column of the data set is which")
    resolution: int = Field(
        default=512, ge=16, le=1536, multiple_of=8, description="pixels a side: the base model's own"
    )
    strengths: tuple[Strength, ...] = Field(
        default=(0.3, 0.6, 0.9), min_length=1, max_length=9, description="how much noise images are redrawn from"
    )
    seeds: int = Field(default=2, ge=1, le=10, description="how often each image is redrawn at each strength")
    steps: int = Field(default=20, ge=1, le=100, description="denoising steps from pure noise")
    guidance: float | None = Field(
        default=None, ge=0, le=30, description="how strongly captions steer; empty: as is usual for the base's family"
    )

    @model_validator(mode="after")
    def _a_step_at_every_strength(self) -> Self:
        if self.steps * min(self.strengths) < 1:
            raise ValueError("the weakest strength needs at least one step: raise steps, or the strength")
        return self

    @model_validator(mode="after")
    def _can_be_measured(self) -> Self:
        """All entrants' images are redrawn while the market waits."""
        steps = 2 * self.seeds * sum(max(1, int(self.steps * strength)) for strength in self.strengths)
        work = steps * (self.resolution / 512) ** 2
        if work > MOST_WORK:
            raise ValueError(
                f"measuring one image would take {work:,.0f} denoising steps of 512 pixels a side, and {MOST_WORK:,} are the most: "
                "turn down resolution, steps, seeds, or the number of strengths"
            )
        return self


def clean(rows: Sequence[Row], parameters: BaseModel) -> Cleaned:
    """Rows as {"image", "caption"}, each image a square PNG; rows without either are left out and counted.

    Raises DatasetInvalid with row numbers, and SetupError where the library for images is not installed.
    """
    asked = cast(DiffusionParameters, parameters)
    columns = (asked.columns.image, asked.columns.caption)
    check_columns(rows, columns)
    for column in columns:
        _refuse(
            [n for n, row in enumerate(rows, start=1) if not isinstance(row.get(column), str | None)],
            f"Column '{column}' is not text",
            fix="Write images in base64, and captions as text",
        )
    _refuse(
        [n for n, row in enumerate(rows, start=1) if len(_cells(row, asked.columns)[1]) > LONGEST_CAPTION],
        f"Captions have more than {LONGEST_CAPTION:,} characters",
        fix="Shorten them; text encoders read a few dozen words",
    )
    filled = {n: row for n, row in enumerate(rows, start=1) if all(_cells(row, asked.columns))}
    removed = Counter({"empty": len(rows) - len(filled)})
    check_enough(filled, len(rows), missing="no image or no caption")
    _check_number(len(filled), most=MOST_LOOKED_AT)
    images = _decoded(filled, asked)
    from gradients.datasets.images import as_row, distance  # pillow, which _decoded found

    distinct: list[int] = []  # the rows whose images look like none before them
    for number, image in images.items():
        if all(distance(image, images[other]) >= NEAR for other in distinct):
            distinct.append(number)
    removed["nearly repeated"] = len(images) - len(distinct)
    _check_number(len(distinct), most=MOST_ROWS)
    captions = {n: _cells(filled[n], asked.columns)[1] for n in distinct}
    kept = [Numbered(n, {"image": as_row(images[n]), "caption": captions[n]}) for n in distinct]
    return Cleaned(rows=tuple(kept), removed=removed)


def text(row: Row) -> str:
    """What rows are compared by: the image's digest as one word, since captions may well be alike. `clean` finds what looks alike."""
    return hashlib.sha256(str(row["image"]).encode()).hexdigest()


def load(asked: DiffusionParameters | None, plan: TrainingPlan) -> TrainingLoad:
    """One picture at the least."""
    return TrainingLoad(1, pixels=asked.resolution if asked else None)


def _cells(row: Row, columns: Columns) -> tuple[str, str]:
    return cell(row.get(columns.image)), cell(row.get(columns.caption))


def _check_number(images: int, *, most: int) -> None:
    if images > most:
        raise DatasetInvalid(f"There are {images} images; at most {MOST_ROWS} are used", fix="Give the best ones")


def _decoded(rows: dict[int, Row], asked: DiffusionParameters) -> dict[int, Image.Image]:
    """The images by row number, in the task's resolution."""
    try:
        from gradients.datasets.images import NotAnImage, decoded, square
    except ImportError as error:
        raise SetupError("Images need the package pillow", fix="Install the extra 'image'") from error
    images, problems = {}, dict[int, str]()
    for number, row in rows.items():
        try:
            image = decoded(_cells(row, asked.columns)[0])
            images[number] = square(image, pixels=asked.resolution)
        except NotAnImage as problem:
            problems[number] = str(problem)
    if problems:
        number, first = next(iter(problems.items()))
        if file := rows[number].get(FILE_NAME):  # people look for it in their folder, not in a row
            more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
            said = f"{file} is not a usable image ({first}){more}"
            raise DatasetInvalid(said, rows=list(problems), code="wrong_type", fix="Mend or remove them")
        _refuse(
            list(problems), f"Column '{asked.columns.image}' is not a usable image ({first})", fix="Mend or remove them"
        )
    return images


def _refuse(rows: Sequence[int], problem: str, *, fix: str) -> None:
    if rows:
        raise DatasetInvalid(f"{problem} in rows {numbers(rows)}", rows=rows, code="wrong_type", fix=fix)


DIFFUSION = TaskType(
    name="diffusion",
    title="Image style or person",
    schema=DiffusionParameters,
    clean=clean,
    text=text,
    metric=Metric("image-to-image error", "squared difference, 0..1", 1, "lower"),
    measure="gradients.tasks.diffusion.metric:measure",
    finish="gradients.tasks.diffusion.metric:finish",
    train="gradients.tasks.diffusion.trainer:train",
    generate="gradients.tasks.diffusion.drawing:generate",
    schedule_share=0.15,
    demonstrations=tuple(
        Demonstration(
            SHIPPED_DATA / folder / "rows.jsonl",
            {"resolution": 32, "seeds": 2, "steps": 10, "guidance": 1.0, "subject": subject},
            base="nano-image",
        )
        for folder, subject in (("ada-portraits", "person"), ("fluent-emoji", "style"))
    ),
    effort=Effort(fixed_hours=((math.inf, 1.0),)),  # 0.5 to 1 h in the subnet's code
    load=load,
    base_family="image",
    split_sizes=SplitSizes(fewest_rows=10, fewest_train=6, fewest_held_out=3, most_held_out=10, held_out_share=0.2),
    row_characters=24 * 1024**2,
)
