"""Rows come in from every format, and whatever cannot be read is a customer's error that names the row and says what to do."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradients.datasets.columns import check_cells
from gradients.datasets.reading import read_rows
from gradients.datasets.rows import Row, numbers
from gradients.datasets.sources import DatasetLimits, FileSource, HubSource, parse_source
from gradients.errors import Blame, DatasetInvalid, TaskInvalid

ROWS: list[Row] = [{"instruction": f"Wie heißt {i}?", "output": f"„{i}“, 日本\n"} for i in range(40)]


def _read(path: Path, **limits: int) -> Sequence[Row]:
    return read_rows(FileSource(path=path), limits=DatasetLimits(**limits))


def _refused(path: Path, **limits: int) -> DatasetInvalid:
    """The error for a data set that cannot be read; it is the customer's and says what to do."""
    with pytest.raises(DatasetInvalid) as caught:
        _read(path, **limits)
    assert caught.value.blame is Blame.CUSTOMER
    assert caught.value.fix
    return caught.value


def _written(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _json_lines(folder: Path) -> Path:
    return _written(folder / "rows.jsonl", "\n\n".join(json.dumps(row) for row in ROWS))


def _json_list(folder: Path) -> Path:
    return _written(folder / "rows.json", json.dumps(ROWS, ensure_ascii=False))


def _json_in_data(folder: Path) -> Path:
    return _written(folder / "rows.json", json.dumps({"version": 1, "data": ROWS}))


def _with_byte_order_mark(folder: Path) -> Path:
    return _written(folder / "rows.jsonl", b"\xef\xbb\xbf" + "\r\n".join(json.dumps(row) for row in ROWS).encode())


def _csv(folder: Path) -> Path:
    with (folder / "ROWS.CSV").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["instruction", "output"])
        writer.writeheader()
        writer.writerows(ROWS)
    return folder / "ROWS.CSV"


def _parquet(folder: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "rows.parquet", row_group_size=7)
    return folder / "rows.parquet"


def _saved_by_datasets(folder: Path) -> Path:
    """What `Dataset.save_to_disk` leaves, in two shards, without importing that library."""
    (folder / "saved").mkdir()
    for number, part in enumerate((ROWS[:25], ROWS[25:])):
        table = pa.Table.from_pylist(part)
        path = str(folder / f"saved/data-0000{number}-of-00002.arrow")
        with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    _written(folder / "saved/state.json", "{}")
    return folder / "saved"


WRITERS = (_json_lines, _json_list, _json_in_data, _with_byte_order_mark, _csv, _parquet, _saved_by_datasets)


@pytest.mark.parametrize("write", WRITERS)
def test_every_format_gives_the_same_rows_in_order(write: object, tmp_path: Path) -> None:
    assert callable(write)
    assert _read(write(tmp_path)) == ROWS


def test_a_folder_that_datasets_saved_is_read(tmp_path: Path) -> None:
    from datasets import Dataset

    Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "saved"), num_shards=2)
    assert _read(tmp_path / "saved") == ROWS


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    assert "There is no data set" in _refused(tmp_path / "nowhere.csv").message


@pytest.mark.parametrize("name", ["rows.txt", "rows.jsonl.gz", "rows.pkl", "rows"])
def test_an_unknown_ending_lists_the_known_ones(name: str, tmp_path: Path) -> None:
    assert ".jsonl, .json, .csv, .parquet" in str(_refused(_written(tmp_path / name, "x")))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows.parquet"])
def test_an_empty_file_has_no_rows(name: str, tmp_path: Path) -> None:
    _refused(_written(tmp_path / name, b""))


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    assert "was not saved by `datasets`" in _refused(tmp_path).message


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"a": ', "not valid JSON"),
        ('{"a": -Infinity}', "-Infinity is not a JSON number"),
        ('{"a": ' + "9" * 5000 + "}", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('["a"]', "is not an object"),
        ('{"a": 1, "a": 2}', "a key stands twice"),
        ('{"a": "x\x00"}', "not valid JSON"),
    ],
)
def test_a_broken_line_is_named(line: str, reason: str, tmp_path: Path) -> None:
    error = _refused(_written(tmp_path / "rows.jsonl", '{"a": "fine"}\n' + line + "\n"))
    assert error.rows == (2,)
    assert "Row 2 of rows.jsonl" in error.message
    assert reason in error.message


def _lines_with_blanks(cells: list[str]) -> str:
    """JSON lines with two blank lines behind the third one."""
    lines = [cell if cell.startswith("{") else json.dumps({"a": json.loads(cell)}) for cell in cells]
    return "\n".join([*lines[:3], "", "  ", *lines[3:]])


def _table_with_blanks(cells: list[str]) -> str:
    """A CSV file with a cell of two lines in row 1 and two blank lines behind row 3."""
    lines = ["a,b", 'x,"of two\nlines"', *(f"{cell},y" for cell in cells[1:])]
    return "\n".join([*lines[:4], "", "", *lines[4:]]) + "\n"


@pytest.mark.parametrize(
    ("name", "spoilt", "line"),
    [
        ("rows.jsonl", _lines_with_blanks(['"x"'] * 8 + ['{"a": ']), 11),
        ("rows.csv", _table_with_blanks(["x"] * 8 + ["x,y"]), 13),
        ("rows.csv", _table_with_blanks(["x"] * 8 + ["\udcfc"]), 13),
        ("rows.json", "[" + '{"a": "x"}, ' * 8 + "17]", None),
    ],
)
def test_what_cannot_be_read_is_named_by_its_row_and_its_line(
    name: str, spoilt: str, line: int | None, tmp_path: Path
) -> None:
    """Blank lines are not rows; nor is a header, nor the second line of a cell."""
    error = _refused(_written(tmp_path / name, spoilt.encode(errors="surrogateescape")))
    assert error.rows == (9,)
    assert error.message.startswith(f"Row 9 of {name}" + (f" (line {line}) " if line else " is"))


def test_a_cell_of_the_wrong_type_is_named_by_the_same_number_as_a_line_that_cannot_be_read(tmp_path: Path) -> None:
    rows = _read(_written(tmp_path / "rows.jsonl", _lines_with_blanks(['"x"'] * 8 + ["[1]"])))
    with pytest.raises(DatasetInvalid, match="Column 'a' is not text in rows 9") as caught:
        check_cells(rows, ["a"])
    assert caught.value.rows == (9,)
    nul = _refused(_written(tmp_path / "rows.jsonl", _lines_with_blanks(['"x"'] * 8 + ['"x\\u0000"'])))
    assert nul.rows == (9,)


def test_of_two_columns_with_one_name_none_is_lost_in_silence(tmp_path: Path) -> None:
    pq.write_table(pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), tmp_path / "rows.parquet")
    assert "two columns called 'a'" in _refused(tmp_path / "rows.parquet").message
    twice = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], names=["x", "x"])
    pq.write_table(pa.table({"a": twice}), tmp_path / "inner.parquet")
    assert "duplicate field names" in _refused(tmp_path / "inner.parquet").message


@pytest.mark.parametrize("content", ["{", "[" * 100_000, '{"rows": []}', '"text"'])
def test_a_json_file_without_a_list_of_rows_is_refused(content: str, tmp_path: Path) -> None:
    _refused(_written(tmp_path / "rows.json", content))


def test_a_row_of_a_json_file_that_is_no_object_is_named(tmp_path: Path) -> None:
    assert _refused(_written(tmp_path / "rows.json", '[{"a": 1}, 2]')).rows == (2,)


def test_lines_in_another_encoding_are_named(tmp_path: Path) -> None:
    latin = "a,b\nx,y\nGrüße,z\n".encode("latin-1")
    in_table = _refused(_written(tmp_path / "rows.csv", latin))
    assert (in_table.rows, "Row 2 of rows.csv (line 3) is not UTF-8" in in_table.message) == ((2,), True)
    in_header = _refused(_written(tmp_path / "header.csv", "Grüße,b\nx,y\n".encode("latin-1")))
    assert (in_header.rows, in_header.message) == ((), "The header of header.csv is not UTF-8")
    assert _refused(_written(tmp_path / "rows.jsonl", '{"a": 1}\n{"a": "Grüße"}'.encode("latin-1"))).rows == (2,)
    assert _read(_written(tmp_path / "wide.csv", "a\tb\nx\tGrüße\n".encode("utf-16"))) == [{"a": "x", "b": "Grüße"}]
    assert "UTF-16" in str(_refused(_written(tmp_path / "half.csv", "a,b\nx,y\n".encode("utf-16")[:-1])))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\n1,2\n3\n", "Row 2 of rows.csv (line 3) has another number of columns"),
        ("a,b\n1,2,3\n", "Row 1 of rows.csv (line 2) has another number of columns"),
        ('a,b\n1,2\n"3,4\n', "Row 2 of rows.csv (from line 3 on) is not valid CSV"),
        ("a,a\n1,2\n", "two columns called 'a'"),
        ("a,b\n" + "x" * 200_000 + ",y\n", "Row 1 of rows.csv (from line 2 on) is not valid CSV: field larger"),
        ("x" * 200_000 + ",b\n1,2\n", "The header of rows.csv (from line 1 on) is not valid CSV"),
    ],
)
def test_a_broken_table_says_where(content: str, said: str, tmp_path: Path) -> None:
    assert said in _refused(_written(tmp_path / "rows.csv", content)).message


@pytest.mark.parametrize("text", ["cut \ud83d", "nul \x00"])
def test_text_that_no_file_may_hold_is_named_by_row(text: str, tmp_path: Path) -> None:
    """A lone surrogate and NUL come through JSON's escapes; the first cannot be written as UTF-8 at all."""
    rows: list[Row] = [{"a": "fine"}, {"a": text}, {"a": [{"value": text}]}, {text: "a"}]
    error = _refused(_written(tmp_path / "rows.jsonl", "\n".join(map(json.dumps, rows))))
    assert error.rows == (2, 3, 4)


def test_a_nul_in_a_table_is_named_by_row(tmp_path: Path) -> None:
    assert _refused(_written(tmp_path / "rows.csv", b"a,b\nx,y\nx\x00,y\n")).rows == (2,)


@pytest.mark.parametrize("kept_bytes", [3, 60, -1, -20])
def test_a_truncated_parquet_file_is_the_customers_fault(kept_bytes: int, tmp_path: Path) -> None:
    whole = _parquet(tmp_path)
    _written(whole, whole.read_bytes()[:kept_bytes])
    assert "not a valid Parquet file" in _refused(whole).message


def test_a_damaged_parquet_file_is_the_customers_fault(tmp_path: Path) -> None:
    whole = _parquet(tmp_path)
    content = whole.read_bytes()
    assert "not a valid Parquet file" in _refused(_written(whole, content[:20] + b"\xff" * 40 + content[60:])).message


def test_a_parquet_text_that_is_not_utf8_is_the_customers_fault(tmp_path: Path) -> None:
    offsets = pa.array([0, 1], pa.int32()).buffers()[1]
    column = pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(b"\xff")])
    pq.write_table(pa.table({"a": column}), tmp_path / "rows.parquet")
    assert "utf-8" in _refused(tmp_path / "rows.parquet").message


@pytest.mark.parametrize("kept_bytes", [2, 300, -600])
def test_a_truncated_arrow_stream_is_the_customers_fault(kept_bytes: int, tmp_path: Path) -> None:
    first = _saved_by_datasets(tmp_path) / "data-00000-of-00002.arrow"
    _written(first, first.read_bytes()[:kept_bytes])
    assert "not a valid Arrow stream" in _refused(tmp_path / "saved").message


def test_huge_rows_are_named(tmp_path: Path) -> None:
    rows: list[Row] = [{"a": "x" * (101 if number in (2, 5) else 100)} for number in range(1, 7)]
    error = _refused(_written(tmp_path / "rows.jsonl", "\n".join(map(json.dumps, rows))), row_characters=100)
    assert error.rows == (2, 5)
    assert "Rows 2, 5 of rows.jsonl" in error.message


def test_one_row_too_many_is_refused(tmp_path: Path) -> None:
    assert len(_read(_json_lines(tmp_path), rows=40)) == 40
    assert "more than 39 rows" in _refused(_json_lines(tmp_path), rows=39).message


def test_a_file_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with _written(tmp_path / "rows.jsonl", '{"a": 1}\n').open("r+b") as sparse:
        sparse.truncate(10_000_000_000)
    assert "10,000,000,000 bytes" in _refused(tmp_path / "rows.jsonl").message


def test_a_small_file_of_rows_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    """Parquet writes a repeated text once: 100 MB of rows in a few kilobytes."""
    pq.write_table(pa.table({"a": ["x" * 10_000] * 10_000}), tmp_path / "rows.parquet")
    assert (tmp_path / "rows.parquet").stat().st_size < 50_000
    assert "1,000,000 characters" in _refused(tmp_path / "rows.parquet", bytes=1_000_000).message


TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))


@given(st.lists(st.dictionaries(TEXT, st.none() | st.booleans() | st.integers() | TEXT | st.lists(TEXT)), min_size=1))
def test_any_json_rows_are_read_as_they_were_written(tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> None:
    path = tmp_path_factory.mktemp("any") / "rows.jsonl"
    assert _read(_written(path, "\n".join(map(json.dumps, rows)))) == rows


def test_a_source_is_a_path_or_a_hub_name() -> None:
    assert parse_source("rows.jsonl") == FileSource(path=Path("rows.jsonl"))
    assert parse_source("hub:acme/rows") == HubSource(repo="acme/rows", revision="main", split="train")
    assert parse_source("hub:acme/rows@v1#test") == HubSource(repo="acme/rows", revision="v1", split="test")


@given(st.builds(HubSource, repo=st.just("a/b"), revision=st.from_regex(r"[a-z0-9][a-z0-9./-]{0,20}", fullmatch=True)))
def test_a_source_survives_its_json_form(source: HubSource) -> None:
    assert parse_source(source.model_dump(mode="json")) == source


@pytest.mark.parametrize(
    "given_source",
    [
        "hub:rows",
        "hub:../uploads",
        "hub:./uploads",
        "hub:acme/..",
        "hub:acme/rows@../x",
        "hub:acme/rows#",
        {"kind": "hub", "repo": "acme/rows", "token": "secret"},
        {"kind": "ftp", "path": "x"},
        17,
    ],
)
def test_a_source_that_names_nothing_is_refused(given_source: str) -> None:
    with pytest.raises(TaskInvalid, match="hub:org/name@revision#split"):
        parse_source(given_source)


def test_a_message_shows_the_first_five_rows() -> None:
    assert numbers([1, 2, 3, 4, 5]) == "1, 2, 3, 4, 5"
    assert numbers(range(1, 9)) == "1, 2, 3, 4, 5 and 3 more"
