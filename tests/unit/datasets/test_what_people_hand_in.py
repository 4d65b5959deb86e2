"""Files as people and their tools really write them: read as they are meant, or refused with what to do."""

from __future__ import annotations

import base64
import datetime as dt
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gradients.datasets.images import decoded
from gradients.datasets.reading import read_rows
from gradients.datasets.rows import Row
from gradients.datasets.sources import DatasetLimits, FileSource
from gradients.errors import DatasetInvalid

ROWS: list[Row] = [{"q": f"What is {i}?", "a": f"it; is, {i}"} for i in range(5)]
FAR = pa.array([2**62, None, 0], pa.timestamp("us"))  # the year 148,108


def _read(path: Path, *wanted: str, most: int = 1_000_000) -> Sequence[Row]:
    return read_rows(
        FileSource(path=path), wanted=wanted or None, limits=DatasetLimits(row_characters=most, bytes=10**9)
    )


def _refusal(path: Path, *wanted: str, most: int = 1_000_000) -> DatasetInvalid:
    with pytest.raises(DatasetInvalid) as refused:
        _read(path, *wanted, most=most)
    assert refused.value.fix
    return refused.value


def _written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _table(separator: str, *, cells: str = "{q}{s}{a}") -> str:
    lines = [cells.format(q=row["q"], a=f'"{row["a"]}"', s=separator) for row in ROWS]
    return "\n".join([cells.format(q="q", a="a", s=separator), *lines]) + "\n"


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_a_table_is_parted_by_the_sign_that_parts_its_header(tmp_path: Path, separator: str) -> None:
    assert _read(_written(tmp_path / "d.csv", _table(separator)), "q", "a") == ROWS
    assert _read(_written(tmp_path / "d.tsv", _table(separator))) == ROWS


def test_a_header_with_a_comma_in_a_name_is_still_parted_by_the_sign_that_gives_the_wanted_columns(
    tmp_path: Path,
) -> None:
    table = "q;a;first, last, only\nx;y;z\n"
    assert _read(_written(tmp_path / "d.csv", table), "q", "a") == [{"q": "x", "a": "y", "first, last, only": ""}]


def test_a_column_of_a_table_without_name_and_cells_is_not_one(tmp_path: Path) -> None:
    assert _read(_written(tmp_path / "d.csv", "q,,a,,\nx,,y,,\n,,,,\n")) == [{"q": "x", "a": "y"}, {"q": "", "a": ""}]
    error = _refusal(_written(tmp_path / "e.csv", "q,,a\nx,,y\nx,lost,y\n"))
    assert error.rows == (2,)
    assert "a column without a name" in error.message
    assert "two columns called 'q'" in _refusal(_written(tmp_path / "f.csv", "q,,q,\nx,,y,\n")).message


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(map(json.dumps, ROWS)),
        "\ufeff" + "\r\n\r\n".join(map(json.dumps, ROWS)) + "\r\n",
        json.dumps(ROWS, indent=2),
        json.dumps({"version": [1, {"data": 2}], "data": ROWS, "more": None}),
        "\ufeff  " + json.dumps({"data": ROWS}, indent=1),
    ],
    ids=["lines", "lines with a mark", "a list", "an object", "an object over many lines"],
)
def test_rows_of_json_are_read_whatever_the_file_is_called(tmp_path: Path, text: str) -> None:
    assert _read(_written(tmp_path / "d.json", text)) == ROWS
    if text.lstrip("\ufeff ").startswith("[") or "\n{" in text:
        assert _read(_written(tmp_path / "d.jsonl", text)) == ROWS


def test_a_list_of_rows_is_read_in_pieces_and_a_row_may_stand_across_two(tmp_path: Path) -> None:
    rows: list[Row] = [{"q": "é" * (60_000 + i), "n": 12_345} for i in range(8)]
    assert _read(_written(tmp_path / "d.json", json.dumps(rows, ensure_ascii=False))) == rows


@pytest.mark.parametrize(
    ("text", "rows"),
    [('[{"q": 1} {"q": 2}]', (1,)), ('[{"q": 1}, {"q": }]', (2,)), ('[{"q": 1}', (1,)), ('{"data": [{}', (1,))],
)
def test_a_broken_list_is_refused_with_the_row(tmp_path: Path, text: str, rows: tuple[int, ...]) -> None:
    assert _refusal(_written(tmp_path / "d.json", text)).rows == rows


def test_not_a_number_is_an_empty_cell_as_tables_mean_it(tmp_path: Path) -> None:
    assert _read(_written(tmp_path / "d.jsonl", '{"q": "x", "a": NaN}\n{"q": [NaN], "a": 0}')) == [
        {"q": "x", "a": None},
        {"q": [None], "a": 0},
    ]


def test_a_key_that_stands_twice_is_named_at_any_depth(tmp_path: Path) -> None:
    assert "'q'" in _refusal(_written(tmp_path / "d.jsonl", '{"q": 1, "a": 2, "q": 3}')).message
    assert "'from'" in _refusal(_written(tmp_path / "e.jsonl", '{"q": [{"from": 1, "from": 2}]}')).message
    assert "'q'" in _refusal(_written(tmp_path / "f.json", '[{"q": 1, "q": 2}]')).message


def test_what_is_not_mapped_is_not_converted(tmp_path: Path) -> None:
    twins = pa.StructArray.from_arrays([pa.array([1, 2, 3]), pa.array([1, 2, 3])], names=["x", "x"])
    table = pa.table({"q": ["a", "b", "c"], "when": FAR, "twins": twins})
    pq.write_table(table, tmp_path / "d.parquet")
    assert _read(tmp_path / "d.parquet", "q", "else") == [{"q": q, "when": None, "twins": None} for q in "abc"]
    error = _refusal(tmp_path / "d.parquet", "when", "q")
    assert error.rows == (1,)
    assert "Column 'when'" in error.message
    assert "Column 'twins'" in _refusal(tmp_path / "d.parquet", "twins").message


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([0.1, 3.0, None], pa.float32(), [0.1, 3.0, None]),
        ([np.float16(0.1), np.float16(65504)], pa.float16(), [0.1, 65500.0]),
        ([[0.1, 0.2], None], pa.list_(pa.float32()), [[0.1, 0.2], None]),
        ([{"n": 0.3, "t": "x"}], pa.struct([("n", pa.float32()), ("t", pa.string())]), [{"n": 0.3, "t": "x"}]),
        ([0.1, 1 / 3], pa.float64(), [0.1, 1 / 3]),
    ],
)
def test_numbers_are_written_as_short_as_they_were(
    tmp_path: Path, values: list[object], kind: pa.DataType, expected: list[object]
) -> None:
    pq.write_table(pa.table({"n": pa.array(values, kind)}), tmp_path / "d.parquet")
    assert [row["n"] for row in _read(tmp_path / "d.parquet")] == expected


def test_a_folder_of_shards_is_one_data_set_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name, rows in (("part-1", ROWS[3:]), ("part-0", ROWS[:3])):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{name}.parquet")
    _written(tmp_path / "README.md", "# a card")
    assert _read(tmp_path) == ROWS
    _written(tmp_path / "more.csv", "q,a\nx,y\n")
    assert "files of one format" in _refusal(tmp_path).message


def test_a_date_beyond_python_in_a_day_column_is_named_by_its_row(tmp_path: Path) -> None:
    days = pa.array([dt.date(2020, 1, 1).toordinal(), 2**30], pa.int32()).view(pa.date32())
    pq.write_table(pa.table({"day": days}), tmp_path / "d.parquet")
    assert _refusal(tmp_path / "d.parquet", "day").rows == (2,)


# ---- images


def _image(mode: str = "RGB", *, kind: str = "PNG", size: int = 32) -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((size, size)).convert(mode).save(file, format=kind)
    return file.getvalue()


def _zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def _captions(rows: Sequence[Row]) -> dict[str, str]:
    return {str(row["file_name"]): str(row.get("caption", "")) for row in rows}


@pytest.mark.parametrize("ending", [".txt", ".caption"])
def test_captions_stand_beside_images_as_either_tool_writes_them(tmp_path: Path, ending: str) -> None:
    path = _zip(tmp_path / "d.zip", {"a.png": b"A", f"a{ending}": "\ufeffa boat".encode(), "b.gif": b"B"})
    assert _captions(_read(path)) == {"a.png": "a boat", "b.gif": ""}


def test_images_without_any_caption_are_refused_with_the_files_that_would_help(tmp_path: Path) -> None:
    error = _refusal(_zip(tmp_path / "d.zip", {"a.png": b"A", "a.cap": b"words"}))
    assert "None of the 1 images" in error.message
    assert "a.png needs a.txt or .caption beside it" in str(error)


@pytest.mark.parametrize("name", ["e.tiff", "e.HEIC", "x/e.avif"])
def test_an_image_that_cannot_be_read_is_not_passed_over(tmp_path: Path, name: str) -> None:
    error = _refusal(_zip(tmp_path / "d.zip", {"a.png": b"A", "a.txt": b"a", name: b"E"}))
    assert name in error.message


def test_every_folder_has_its_own_metadata_and_what_none_names_is_not_lost(tmp_path: Path) -> None:
    line = json.dumps({"file_name": "a.png", "caption": "from a line"})
    members = {
        "one/metadata.jsonl": b"\xef\xbb\xbf" + line.encode(),
        "one/a.png": b"1",
        "two/metadata.csv": b'file_name,caption\na.png,"from, a table"\n',
        "two/a.png": b"2",
        "two/forgotten.png": b"3",
    }
    assert _captions(_read(_zip(tmp_path / "d.zip", members))) == {
        "one/a.png": "from a line",
        "two/a.png": "from, a table",
        "two/forgotten.png": "",
    }


def test_an_archive_without_images_says_what_to_do_with_what_it_holds(tmp_path: Path) -> None:
    for name in ("d.csv", "deep/rows.parquet", "e.jsonl"):
        assert f"Unpack {name}" in str(_refusal(_zip(tmp_path / "d.zip", {name: b"x", "read.me": b"y"})))


def test_names_of_windows_lead_nowhere_else(tmp_path: Path) -> None:
    assert _captions(_read(_zip(tmp_path / "d.zip", {"x\\a.png": b"A", "x\\a.txt": b"a"}))) == {"x/a.png": "a"}
    for name in ("x\\..\\..\\a.png", "\\\\server\\a.png", "C:\\a.png"):
        assert "outside of itself" in _refusal(_zip(tmp_path / "e.zip", {name: b"A"})).message


def test_of_two_members_with_one_name_none_is_lost_in_silence(tmp_path: Path) -> None:
    path = _zip(tmp_path / "d.zip", {"a.png": b"A", "a.txt": b"a", "./a.png": b"B"})
    assert "two members called 'a.png'" in _refusal(path).message


def _grey(values: np.ndarray, kind: str = "PNG") -> list[int]:
    file = io.BytesIO()
    Image.fromarray(values).save(file, format=kind)
    shown = decoded(base64.b64encode(file.getvalue()).decode())
    return [shown.getpixel((x, 0))[0] for x in range(0, 32, 8)]  # type: ignore[index]  # pixels of three numbers


def test_greys_of_sixteen_bits_are_the_greys_of_eight() -> None:
    eight = np.repeat(np.tile(np.arange(0, 256, 8, dtype=np.uint8), (32, 1)), 1, axis=0)
    assert _grey(eight) == [0, 64, 128, 192]
    assert _grey(eight.astype(np.uint16) * 257) == [0, 64, 128, 192]


@pytest.mark.parametrize(
    ("mode", "kind"), [("RGB", "BMP"), ("L", "GIF"), ("P", "PNG"), ("LA", "PNG"), ("CMYK", "JPEG")]
)
def test_images_of_every_mode_are_shown_as_they_look(mode: str, kind: str) -> None:
    shown = decoded(base64.b64encode(_image(mode, kind=kind)).decode())
    levels = [pixel[0] for pixel in (shown.getpixel((0, y)) for y in (2, 16, 30))]  # type: ignore[index]  # as above
    assert levels == pytest.approx([16, 132, 248], abs=16)


def test_base64_may_be_broken_into_lines() -> None:
    content = _image()
    for text in (
        base64.encodebytes(content).decode(),
        "data:image/png;base64,\r\n" + base64.b64encode(content).decode(),
    ):
        assert decoded(text).size == (32, 32)


def test_a_large_image_comes_out_small_and_with_its_shape() -> None:
    file = io.BytesIO()
    Image.new("L", (6000, 3000), 77).save(file, format="PNG")
    shown = decoded(base64.b64encode(file.getvalue()).decode())
    assert shown.width == pytest.approx(2 * shown.height, abs=2)
    assert 3_000_000 < shown.width * shown.height <= 4_100_000
    assert shown.getpixel((5, 5)) == (77, 77, 77)
