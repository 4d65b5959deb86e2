"""Several data sets as one task's: which rows are taken, under which names, and what is told of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from gradients.datasets.merging import chosen, shares
from gradients.datasets.sources import (
    DatasetLimits,
    FileSource,
    HubSource,
    Part,
    name_of,
    parse_source,
    parts_of,
    sources_from,
    with_parts,
)
from gradients.domain.json import Json
from gradients.domain.task import SourceCount, TaskRequest
from gradients.errors import DatasetInvalid, TaskInvalid
from gradients.tasks.instruct.spec import INSTRUCT
from gradients.tasks.preparation import PreparedData, fetch_sources, prepare, prepare_fetched
from gradients.tasks.registry import validate_request, with_sources

SALT = bytes(range(32))
SPEC: dict[str, Json] = {"type": "instruct", "base": "nano-lm", "hours": 1}
Write = Callable[[str, Sequence[Mapping[str, Json]]], str]


def lines(numbers: range, *, question: str = "q", answer: str = "a", source: str = "first") -> list[Mapping[str, Json]]:
    """Rows that say different things, but for those of the same number and source."""
    return [
        {question: f"What does page {i * i} of the {source} book say?", answer: f"{source} {i} {i**3}"} for i in numbers
    ]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(name: str, rows: Sequence[Mapping[str, Json]]) -> str:
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        return str(tmp_path / name)

    return written


def request_of(*parts: Json) -> TaskRequest:
    columns = {"instruction": "q", "output": "a"}
    return validate_request(
        {
            "type": "instruct",
            "base": "nano-lm",
            "dataset": list(parts),
            "hours": 1,
            "parameters": {"columns": columns},
        }
    )


def prepared(request: TaskRequest, folder: Path) -> PreparedData:
    return prepare(INSTRUCT, request, salt=SALT, folder=folder)


def prompts(made: PreparedData) -> list[str]:
    files = (made.train_file, made.held_out_file)
    return [json.loads(line)["prompt"] for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def test_rows_of_all_are_taken_each_under_its_own_names_and_counted(write: Write, tmp_path: Path) -> None:
    """60 rows, and 50 of which 10 say what the first set says: 100 distinct ones, of which 16 are held out."""
    first = write("first.jsonl", lines(range(60)))
    mixed = [*lines(range(10)), *lines(range(40), source="second")]
    second = write("second.jsonl", [{"frage": row["q"], "antwort": row["a"], "q": "not this"} for row in mixed])
    made = prepared(
        request_of(first, {"dataset": second, "columns": {"q": "frage", "a": "antwort"}}), tmp_path / "prepared"
    )
    assert len(prompts(made)) == len(set(prompts(made))) == 100
    assert "not this" not in prompts(made)
    one, other = made.sources
    assert (one.rows, one.taken, one.usable, one.repeated) == (60, 60, 60, 0)
    assert (other.rows, other.taken, other.usable, other.repeated) == (50, 50, 50, 10)
    assert (one.train_rows or 0) + (other.train_rows or 0) == made.train_rows == 84
    assert (one.held_out_rows or 0) + (other.held_out_rows or 0) == made.held_out_rows == 16
    assert (one.train_rows or 0) + (one.held_out_rows or 0) == 60  # of equal rows the first stays
    assert dict(made.removed)["repeated"] == 10


def test_the_same_sets_give_the_same_files(write: Write, tmp_path: Path) -> None:
    request = request_of(
        {"dataset": write("first.jsonl", lines(range(90))), "limit": 70},
        {"dataset": write("second.jsonl", lines(range(90), source="second")), "limit": 40},
    )
    one, other = (prepared(request, tmp_path / name) for name in ("one", "other"))
    assert (one.train, one.held_out) == (other.train, other.held_out)
    assert [count.taken for count in one.sources] == [70, 40]


def test_one_alone_has_no_counts_of_its_own_and_a_list_of_one_has(write: Write, tmp_path: Path) -> None:
    file = write("rows.jsonl", lines(range(80)))
    alone = validate_request({**SPEC, "dataset": file, "parameters": {"columns": {"instruction": "q", "output": "a"}}})
    assert prepared(alone, tmp_path / "alone").sources == ()
    [count] = prepared(request_of(file), tmp_path / "listed").sources
    assert count == SourceCount(80, 80, 80, 0, 64, 16)


def test_a_set_without_the_columns_is_refused_by_number_and_name(write: Write, tmp_path: Path) -> None:
    first = write("first.jsonl", lines(range(80)))
    other = write("other.jsonl", lines(range(80), question="frage", source="second"))
    with pytest.raises(DatasetInvalid, match=r"^Data set 2 \(other.jsonl\): The data set has no column 'q'") as caught:
        prepared(request_of(first, other), tmp_path / "prepared")
    assert caught.value.code == "column_missing"
    with pytest.raises(DatasetInvalid, match=r"^Data set 1 \(other.jsonl\): It has no column 'question'") as caught:
        prepared(request_of({"dataset": other, "columns": {"q": "question"}}, first), tmp_path / "prepared")
    assert "It has: a, frage" in str(caught.value)


def test_rows_that_cannot_be_read_are_named_by_their_own_number(write: Write, tmp_path: Path) -> None:
    first = write("first.jsonl", lines(range(80)))
    other = write("other.jsonl", [*lines(range(3), source="second"), {"q": {"not": "text"}, "a": "b"}])
    with pytest.raises(DatasetInvalid, match=r"Data set 2 \(other.jsonl\): Column 'q' is not text in rows 4") as caught:
        prepared(request_of(first, other), tmp_path / "prepared")
    assert caught.value.rows == (4,)


def test_a_set_without_a_usable_row_is_refused(write: Write, tmp_path: Path) -> None:
    first, empty = write("first.jsonl", lines(range(80))), write("empty.jsonl", [{"q": "", "a": ""}] * 3)
    with pytest.raises(DatasetInvalid, match=r"^Data set 2 \(empty.jsonl\)"):
        prepared(request_of(first, empty), tmp_path / "prepared")


def test_limits_hold_for_all_sets_together(write: Write, tmp_path: Path) -> None:
    files = [write(f"{name}.jsonl", lines(range(60), source=name)) for name in ("one", "two")]
    request = request_of(*files)
    fetched = fetch_sources(INSTRUCT, request, tmp_path / "fetched")
    half_of_two = Path(files[0]).stat().st_size * 3 // 2
    for limits in (DatasetLimits(rows=119), DatasetLimits(bytes=half_of_two)):
        with pytest.raises(DatasetInvalid, match=r"^Data set 2 \(two.jsonl\)"):
            prepare_fetched(INSTRUCT, request, fetched, salt=SALT, folder=tmp_path / "rows", limits=limits)
    whole = prepare_fetched(
        INSTRUCT, request, fetched, salt=SALT, folder=tmp_path / "rows", limits=DatasetLimits(rows=120)
    )
    assert [count.rows for count in whole.sources] == [60, 60]


def test_weights_keep_their_proportion_with_as_many_rows_as_there_are() -> None:
    """3 to 1 of 90 and 50 rows: the first has 30 for each unit, so 90 and 30; a limit of 60 makes that 60 and 20."""

    def part(**asked: object) -> Part:
        return Part.model_validate({"dataset": "rows.jsonl", **asked})

    assert shares([part(weight=3), part(weight=1)], [90, 50]) == [90, 30]
    assert shares([part(weight=3, limit=60), part(weight=1)], [90, 50]) == [60, 20]
    assert shares([part(weight=1000), part(weight=1)], [90, 50]) == [90, 1]
    assert shares([part(limit=7), part()], [90, 50]) == [7, 50]


@given(rows=st.integers(1, 300), count=st.integers(1, 300), place=st.integers(0, 15))
def test_rows_are_chosen_once_each_in_order_and_always_the_same(rows: int, count: int, place: int) -> None:
    positions = chosen(rows, count, part=place)
    assert positions == sorted(set(positions)) == chosen(rows, count, part=place)
    assert len(positions) == min(rows, count)
    assert all(0 <= position < rows for position in positions)


def test_chosen_rows_come_from_everywhere() -> None:
    assert [len([p for p in chosen(1000, 100, part=0) if p // 250 == quarter]) > 10 for quarter in range(4)] == [
        True
    ] * 4


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        ([], "dataset.sources"),
        ([{"dataset": "a.jsonl", "weight": 1}, "b.jsonl"], "give every one of the data sets a weight, or none of them"),
        ([{"dataset": ["a.jsonl"]}], "dataset.sources.0.dataset"),
        ([{"dataset": {"kind": "merged", "sources": ["a.jsonl"]}}], "dataset.sources.0.dataset"),
        ([{"dataset": "a.jsonl", "limit": 0}], "dataset.sources.0.limit"),
        ([{"dataset": "a.jsonl", "rows": 3}], "dataset.sources.0.rows"),
        ([{"dataset": "a.jsonl", "weight": -1}], "dataset.sources.0.weight"),
        (["a.jsonl"] * 17, "dataset.sources"),
        ({"kind": "merged"}, "dataset.sources"),
    ],
)
def test_what_cannot_be_merged_is_refused_with_its_place(dataset: Json, said: str) -> None:
    with pytest.raises(TaskInvalid) as caught:
        validate_request({**SPEC, "dataset": dataset})
    assert said in caught.value.message


def test_a_list_and_its_normal_form_are_the_same_request() -> None:
    listed = validate_request({**SPEC, "dataset": ["hub:org/rows", {"dataset": "a.jsonl", "limit": 5}]})
    assert validate_request({**SPEC, "dataset": listed.dataset}) == listed
    assert parts_of(cast(JsonValue, listed.dataset)) == [HubSource(repo="org/rows"), FileSource(path=Path("a.jsonl"))]
    assert parts_of("a.jsonl") == [parse_source("a.jsonl")]


def test_an_upload_is_named_by_the_beginning_of_its_digest() -> None:
    assert name_of(FileSource(path=Path("/uploads") / f"{'ab' * 32}.jsonl")) == "abababababab….jsonl"
    assert name_of(FileSource(path=Path("/data/rows.csv"))) == "rows.csv"


def test_every_source_of_a_list_is_looked_at() -> None:
    """Uploads are resolved, and paths of a validator's machine refused, one by one."""
    listed: Json = ["a", {"dataset": "b", "limit": 3}]
    assert with_parts(listed, lambda source: f"<{source}>") == ["<a>", {"dataset": "<b>", "limit": 3}]
    merged: Json = {"kind": "merged", "sources": [{"dataset": "b"}, {"path": "c"}, 7]}
    seen = list[Json]()

    def look(source: Json) -> Json:
        seen.append(source)
        return source

    with_sources({**SPEC, "dataset": merged}, look)
    assert seen == ["b", {"path": "c"}, 7]


def test_people_name_one_source_a_text() -> None:
    assert sources_from(["a.jsonl"]) == "a.jsonl"
    assert sources_from(['{"kind": "hub", "repo": "org/rows"}']) == {"kind": "hub", "repo": "org/rows"}
    assert sources_from(["a.jsonl", " ", '{"dataset": "b.jsonl", "limit": 5}']) == [
        "a.jsonl",
        {"dataset": "b.jsonl", "limit": 5},
    ]
    assert sources_from(['{"dataset": "b.jsonl"}']) == [{"dataset": "b.jsonl"}]
    with pytest.raises(TaskInvalid, match="is not JSON"):
        sources_from(['{"dataset": '])
