"""What a customer may ask of a diffusion task, and how pictures become rows."""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from PIL import Image
from pydantic import JsonValue, ValidationError

from gradients.datasets.images import decoded
from gradients.datasets.rows import Cleaned
from gradients.errors import DatasetInvalid
from gradients.tasks.diffusion.spec import DIFFUSION, DiffusionParameters, clean, text

SIZE = 32
ASSETS = Path(__file__).parents[3] / "gradients/assets/data"


def encoded(image: Image.Image, *, format: str = "PNG", **settings: object) -> str:  # noqa: A002 (PIL's own name)
    file = io.BytesIO()
    image.save(file, format=format, **settings)
    return base64.b64encode(file.getvalue()).decode()


def spotted(number: int, *, size: tuple[int, int] = (SIZE, SIZE)) -> Image.Image:
    """A picture whose bright left quarter, at the top for 0 and 1, tells it from three others."""
    image = Image.new("RGB", size, (20 * (number // 4), 90, 120))
    width, height = size[0] // 2, size[1] // 2
    image.paste((250, 240, 10 + 60 * number), (0, number // 2 % 2 * height, width, (number // 2 % 2 + 1) * height))
    return image


def row(image: str, caption: str = "a spot") -> dict[str, JsonValue]:
    return {"image": image, "caption": caption}


def cleaned(rows: Sequence[Mapping[str, JsonValue]], **parameters: object) -> Cleaned:
    return clean(rows, DiffusionParameters.model_validate({"resolution": SIZE} | parameters))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_pictures_come_out_square_in_the_tasks_resolution_whatever_their_format(format: str) -> None:  # noqa: A002
    given = row(encoded(spotted(1, size=(64, 48)), format=format))
    (kept,) = cleaned([given], resolution=24).rows
    with Image.open(io.BytesIO(base64.b64decode(str(kept.row["image"])))) as image:
        assert (image.format, image.size, image.mode) == ("PNG", (24, 24), "RGB")


def test_broken_notes_of_a_camera_are_named_by_row() -> None:
    """Text where a number belongs: what turns the picture raises struct.error."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x0131] = "maker"
    content = base64.b64decode(encoded(spotted(0), format="JPEG", exif=exif))
    content = content.replace(b"\x01\x31\x00\x02", b"\x01\x07\x00\x02")  # the maker's tag as one of a number
    broken = base64.b64encode(content).decode()
    with pytest.raises(DatasetInvalid, match="it is broken") as refused:
        cleaned([row(encoded(spotted(1))), row(broken)])
    assert refused.value.rows == (2,)


def test_what_a_camera_notes_does_not_come_out_but_turns_the_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    exif[0x010F] = "a camera"
    given = row(encoded(spotted(0), format="JPEG", exif=exif, quality=95))
    (kept,) = cleaned([given]).rows
    content = base64.b64decode(str(kept.row["image"]))
    assert b"a camera" not in content
    with Image.open(io.BytesIO(content)) as image:
        bright = image.convert("L").point(lambda level: 255 * (level > 200))
    assert bright.getbbox() == (SIZE // 2, SIZE // 2, SIZE, SIZE)  # it was at the top left


def test_what_is_see_through_is_white() -> None:
    assert decoded(encoded(Image.new("RGBA", (SIZE, SIZE), (255, 0, 0, 0)))).getpixel((0, 0)) == (255, 255, 255)


def test_an_image_is_taken_as_a_data_url_too() -> None:
    (kept,) = cleaned([row("data:image/png;base64," + encoded(spotted(2)))]).rows
    assert kept.row == cleaned([row(encoded(spotted(2)))]).rows[0].row


BROKEN = {
    "no base64": "not an image!",
    "text": base64.b64encode(b"hello").decode(),
    "half a file": base64.b64encode(base64.b64decode(encoded(spotted(1)))[:-40]).decode(),
    "another format": encoded(spotted(1), format="TIFF"),
    "too small": encoded(Image.new("RGB", (8, 200))),
    "too many pixels": encoded(Image.new("1", (8000, 8000))),
}


@pytest.mark.parametrize("problem", BROKEN)
def test_what_is_no_usable_picture_is_refused_by_its_row(problem: str) -> None:
    with pytest.raises(DatasetInvalid, match=r"not a usable image .* in rows 2\.") as refused:
        cleaned([row(encoded(spotted(1))), row(BROKEN[problem])])
    assert list(refused.value.rows) == [2]


def test_a_small_file_that_unpacks_to_very_many_pixels_is_not_unpacked() -> None:
    small = base64.b64decode(encoded(Image.new("1", (8, 8))))
    header = b"IHDR" + (60_000).to_bytes(4) * 2 + small[24:29]  # what a PNG says of itself: its size comes first
    bomb = small[:12] + header + zlib.crc32(header).to_bytes(4) + small[33:]
    with pytest.raises(DatasetInvalid, match="more than 50,000,000 pixels"):
        cleaned([row(base64.b64encode(bomb).decode())])


@pytest.mark.parametrize("copy", ["as it is", "mirrored", "compressed"])
def test_the_same_picture_is_kept_once(copy: str) -> None:
    again = {
        "as it is": encoded(spotted(1)),
        "mirrored": encoded(spotted(1).transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
        "compressed": encoded(spotted(1), format="JPEG", quality=60),
    }[copy]
    found = cleaned([row(encoded(spotted(1)), "one"), row(encoded(spotted(2)), "two"), row(again, "three")])
    assert [numbered.row["caption"] for numbered in found.rows] == ["one", "two"]
    assert found.removed["nearly repeated"] == 1


@pytest.mark.parametrize("name", ["fluent-emoji", "ada-portraits"])
def test_no_picture_that_ships_is_taken_for_another(name: str) -> None:
    rows = [json.loads(line) for line in (ASSETS / name / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(cleaned(rows).rows) == len(rows)


def test_rows_without_an_image_or_a_caption_are_counted() -> None:
    found = cleaned([row(encoded(spotted(1))), row(""), row(encoded(spotted(2)), "  ")])
    assert (len(found.rows), found.removed["empty"]) == (1, 2)


def test_more_pictures_than_the_market_takes_are_refused() -> None:
    shades = [Image.new("RGB", (SIZE, SIZE), (40 * (n % 7), 40 * (n // 7 % 7), 40 * (n // 49))) for n in range(51)]
    with pytest.raises(DatasetInvalid, match="at most 50"):
        cleaned([row(encoded(shade)) for shade in shades])


def test_far_too_many_pictures_are_refused_before_any_is_looked_at() -> None:
    with pytest.raises(DatasetInvalid, match="201 images; at most 50"):
        cleaned([row("no image")] * 201)


def test_captions_may_be_alike_since_rows_are_told_apart_by_their_pictures() -> None:
    found = cleaned([row(encoded(spotted(number))) for number in (1, 2)])
    assert len({text(numbered.row) for numbered in found.rows}) == 2


@pytest.mark.parametrize(
    "wrong",
    [{"strengths": []}, {"strengths": [0.0]}, {"strengths": [1.1]}, {"resolution": 500}, {"steps": 2}, {"seed": 1}],
)
def test_parameters_that_cannot_be_measured_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DIFFUSION.schema.model_validate(wrong)


@pytest.mark.parametrize(
    "much",
    [
        {"resolution": 1536, "seeds": 4},
        {"seeds": 10, "steps": 100},
        {"strengths": [number / 10 for number in range(1, 10)], "seeds": 10, "steps": 50},
    ],
)
def test_more_work_than_can_be_done_for_every_entrant_is_refused_with_what_to_turn_down(
    much: dict[str, object],
) -> None:
    with pytest.raises(ValidationError, match="turn down resolution, steps, seeds, or the number of strengths"):
        DIFFUSION.schema.model_validate(much)


@pytest.mark.parametrize("usual", [{}, {"resolution": 1024}, {"resolution": 1536}, {"seeds": 10, "steps": 50}])
def test_the_usual_work_is_taken_at_every_resolution(usual: dict[str, object]) -> None:
    assert DIFFUSION.schema.model_validate(usual)


def test_of_ten_pictures_three_are_held_out_and_of_fifty_ten() -> None:
    assert [DIFFUSION.split_sizes.held_out(rows) for rows in (10, 20, 50)] == [3, 4, 10]
