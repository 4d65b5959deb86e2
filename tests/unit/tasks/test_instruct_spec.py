"""What a customer may say about an instruct task, and what its rows become."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue, ValidationError

from gradients.datasets.columns import LONGEST_CELL, LONGEST_FORMAT
from gradients.datasets.rows import Row
from gradients.errors import DatasetInvalid
from gradients.tasks.instruct.spec import INSTRUCT, InstructParameters, clean, text


def _parameters(**given_parameters: JsonValue) -> InstructParameters:
    return InstructParameters.model_validate(given_parameters)


def _cleaned(*rows: Row, **parameters: JsonValue) -> list[Row]:
    return [numbered.row for numbered in clean(rows, _parameters(**parameters)).rows]


def _row(instruction: JsonValue, output: JsonValue = "yes", **more: JsonValue) -> Row:
    return {"instruction": instruction, "output": output, **more}


FORMATS = st.text().map(lambda text: text.replace("{", "").replace("}", "") + "{instruction}")


@given(
    st.builds(
        InstructParameters,
        format=FORMATS,
        no_input_format=FORMATS,
        system_prompt=st.none() | st.text(),
        max_tokens=st.integers(16, 131_072),
    )
)
def test_parameters_survive_their_json_form(parameters: InstructParameters) -> None:
    assert InstructParameters.model_validate_json(parameters.model_dump_json()) == parameters


@pytest.mark.parametrize(
    "parameters",
    [
        {"colums": {}},
        {"columns": {"answer": "a"}},
        {"columns": {"instruction": ""}},
        {"format": "{input}"},
        {"format": "{instruction} {instruction}"},
        {"format": "{instruction}" + "x" * LONGEST_FORMAT},
        {"no_input_format": "{instruction}" + "x" * LONGEST_FORMAT},
        {"format": "{instruction} {0}"},
        {"format": "{instruction.__class__}"},
        {"no_input_format": "{instruction} {input}"},
        {"max_tokens": 15},
        {"max_tokens": 131_073},
        {"max_tokens": "many"},
        {"system_prompt": "x" * (LONGEST_FORMAT + 1)},
    ],
)
def test_parameters_that_break_the_schema_are_refused(parameters: dict[str, JsonValue]) -> None:
    with pytest.raises(ValidationError):
        _parameters(**parameters)


def test_a_row_becomes_a_prompt_and_a_completion() -> None:
    assert _cleaned(_row("Add", "3")) == [{"system": None, "prompt": "Add", "completion": "3"}]


def test_the_format_depends_on_whether_the_row_has_an_input() -> None:
    parameters: dict[str, JsonValue] = {
        "columns": {"input": "more"},
        "format": "{instruction}: {input}!",
        "no_input_format": "Only {instruction}",
    }
    rows = _cleaned(_row("Add", more="1 and 2"), _row("Sing", more="  "), _row("Rest"), **parameters)
    assert [row["prompt"] for row in rows] == ["Add: 1 and 2!", "Only Sing", "Only Rest"]


def test_what_a_cell_holds_is_never_taken_for_a_format() -> None:
    [row] = _cleaned(_row("{input} {0} {instruction}", more="{output}"), columns={"input": "more"})
    assert row["prompt"] == "{input} {0} {instruction} {output}"


def test_a_rows_own_system_message_goes_before_the_tasks() -> None:
    rows = _cleaned(_row("a", who="a poet"), _row("b", who=""), columns={"system": "who"}, system_prompt="a clerk")
    assert [row["system"] for row in rows] == ["a poet", "a clerk"]


def test_rows_without_instruction_or_answer_are_counted_and_the_others_keep_their_numbers() -> None:
    cleaned = clean(
        [_row("a"), _row(" "), _row("b"), _row("c", None), _row("d", math.nan), {"output": "e"}, _row("f")],
        _parameters(),
    )
    assert [numbered.number for numbered in cleaned.rows] == [1, 3, 7]
    assert cleaned.removed == {"empty": 4}


@pytest.mark.parametrize(("cell", "completion"), [(0, "0"), (0.0, "0.0"), (False, "False"), (12, "12")])
def test_a_zero_is_an_answer(cell: JsonValue, completion: str) -> None:
    """Labels are often numbers, and the first of them is 0."""
    assert [row["completion"] for row in _cleaned(_row("Which class?", cell))] == [completion]


def test_a_mapping_to_a_column_that_is_not_there_is_explained() -> None:
    with pytest.raises(DatasetInvalid) as caught:
        _cleaned({"prompt": "a", "answer": "b"}, columns={"instruction": "promt", "output": "answer"})
    assert caught.value.code == "column_missing"
    assert "no column 'promt'" in caught.value.message
    assert "Did you mean 'prompt'? It has: answer, prompt" in str(caught.value)


def test_cells_that_are_no_text_are_named_by_row() -> None:
    with pytest.raises(DatasetInvalid, match="Column 'output' is not text in rows 2, 4") as caught:
        _cleaned(_row("a"), _row("b", ["x"]), _row("c"), _row("d", {"x": 1}))
    assert (caught.value.code, caught.value.rows) == ("wrong_type", (2, 4))
    assert caught.value.fix


def test_a_huge_cell_is_named_by_row() -> None:
    assert len(_cleaned(_row("x" * LONGEST_CELL))) == 1
    with pytest.raises(DatasetInvalid, match="'instruction' has more than 200,000 characters in rows 1") as caught:
        _cleaned(_row("x" * (LONGEST_CELL + 1)))
    assert caught.value.rows == (1,)


def test_a_data_set_that_is_nearly_empty_is_a_wrong_mapping() -> None:
    four_of_five = [_row("a")] + [_row("", "b")] * 4
    assert len(_cleaned(*four_of_five)) == 1
    with pytest.raises(DatasetInvalid, match="5 of 6 rows have no instruction or no answer"):
        _cleaned(*four_of_five, _row(""))


def test_rows_are_compared_by_prompt_and_completion() -> None:
    assert text({"system": "s", "prompt": "p", "completion": "c"}) == "p c"


def test_the_metric_names_its_version() -> None:
    assert (INSTRUCT.metric.name, INSTRUCT.metric.version, INSTRUCT.metric.better) == (
        "completion cross-entropy",
        2,
        "lower",
    )
