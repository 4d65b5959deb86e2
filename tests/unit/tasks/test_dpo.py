"""What a customer may say about a DPO task, and what its rows become."""

from __future__ import annotations

import itertools
import json

import pytest
from pydantic import JsonValue, ValidationError

from gradients.datasets.columns import LONGEST_FORMAT
from gradients.datasets.rows import Row
from gradients.datasets.splits import split
from gradients.errors import DatasetInvalid
from gradients.tasks.dpo.spec import DPO, DpoParameters, clean, group, text


def _parameters(**given: JsonValue) -> DpoParameters:
    return DpoParameters.model_validate(given)


def _cleaned(*rows: Row, **parameters: JsonValue) -> list[Row]:
    return [numbered.row for numbered in clean(rows, _parameters(**parameters)).rows]


def _row(prompt: JsonValue, chosen: JsonValue = "yes", rejected: JsonValue = "no", **more: JsonValue) -> Row:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **more}


@pytest.mark.parametrize(
    "parameters",
    [
        {"colums": {}},
        {"columns": {"answer": "a"}},
        {"columns": {"chosen": ""}},
        {"prompt_format": "Q:"},
        {"prompt_format": "{prompt} {chosen}"},
        {"chosen_format": "{prompt}"},
        {"chosen_format": "{chosen} {chosen}"},
        {"chosen_format": "{chosen}" + "x" * LONGEST_FORMAT},
        {"rejected_format": "{rejected}" + "x" * LONGEST_FORMAT},
        {"prompt_format": "{prompt}" + "x" * LONGEST_FORMAT},
        {"chosen_format": "{chosen} {rejected}"},
        {"rejected_format": "{chosen}"},
        {"rejected_format": "{rejected.__class__}"},
        {"beta": 0},
        {"beta": 10.5},
        {"max_tokens": 15},
    ],
)
def test_parameters_that_break_the_schema_are_refused(parameters: dict[str, JsonValue]) -> None:
    with pytest.raises(ValidationError):
        _parameters(**parameters)


def test_a_row_becomes_a_prompt_and_two_answers() -> None:
    assert _cleaned(_row("Is it?", 1, 0)) == [{"system": None, "prompt": "Is it?", "chosen": "1", "rejected": "0"}]


def test_formats_write_prompts_and_answers_and_never_read_what_cells_hold() -> None:
    formats: dict[str, JsonValue] = {
        "prompt_format": "Q: {prompt}",
        "chosen_format": "{chosen}.",
        "rejected_format": "{prompt} {rejected}",
    }
    [row] = _cleaned(_row("{chosen}?", "{prompt}", "{0}"), **formats)
    assert (row["prompt"], row["chosen"], row["rejected"]) == ("Q: {chosen}?", "{prompt}.", "{chosen}? {0}")


def test_a_rows_own_system_message_goes_before_the_tasks() -> None:
    rows = _cleaned(_row("a", who="a poet"), _row("b", who=""), columns={"system": "who"}, system_prompt="a clerk")
    assert [row["system"] for row in rows] == ["a poet", "a clerk"]


def test_rows_without_a_preference_are_counted_by_what_they_lack() -> None:
    rows = [_row("a"), _row(" "), _row("b", ""), _row("c", "x", None), _row("d", "x", " x "), _row("e")]
    cleaned = clean(rows, _parameters())
    assert [numbered.number for numbered in cleaned.rows] == [1, 6]
    assert cleaned.removed == {"empty": 3, "no preference": 1}


def test_answers_that_differ_in_their_formats_alone_are_no_preference_of_the_data() -> None:
    with pytest.raises(DatasetInvalid, match="1 of 1 rows have no prompt, or not two answers that differ"):
        _cleaned(_row("a", "x", "x"), chosen_format="{chosen}.")


def test_cells_that_are_no_text_are_named_by_row() -> None:
    with pytest.raises(DatasetInvalid, match="Column 'rejected' is not text in rows 2") as caught:
        _cleaned(_row("a"), _row("b", "x", ["y"]))
    assert (caught.value.code, caught.value.rows) == ("wrong_type", (2,))


def test_a_mapping_to_a_column_that_is_not_there_is_explained() -> None:
    with pytest.raises(DatasetInvalid, match="no column 'better'"):
        _cleaned(_row("a"), columns={"chosen": "better"})


def test_pairs_of_one_prompt_are_told_apart_by_either_answer_and_belong_together() -> None:
    pair = {"system": "s", "prompt": "p", "chosen": "c", "rejected": "r"}
    assert text(pair) != text({**pair, "rejected": "q"})
    assert group(pair) == group({**pair, "chosen": "r", "rejected": "q"}) != group({**pair, "prompt": "o"})
    assert group(pair) != group({**pair, "system": None})


def _ranked(prompts: int) -> list[Row]:
    """Four answers a prompt, each better than those behind it: six pairs."""
    answers = [[f"{prompt} {rank} fine" for rank in "abcd"] for prompt in range(prompts)]
    return [
        _row(f"Question number {prompt}?", better, worse)
        for prompt, ranked in enumerate(answers)
        for better, worse in itertools.combinations(ranked, 2)
    ]


def test_a_held_out_prompt_is_in_no_train_pair_and_no_pair_is_lost() -> None:
    """Of 60 prompts with six pairs each a tenth is held out: six whole prompts."""
    sides = split(clean(_ranked(60), _parameters()).rows, text=text, group=group, salt=b"s" * 32)
    train, held_out = ({str(row.row["prompt"]) for row in side} for side in (sides.train, sides.held_out))
    assert not train & held_out
    assert (len(held_out), len(sides.held_out), len(sides.train)) == (6, 36, 324)
    assert sum(sides.removed.values()) == 0


def test_the_metric_names_its_version() -> None:
    assert (DPO.metric.name, DPO.metric.version, DPO.metric.better) == ("DPO loss against the base", 2, "lower")


# Preferences in turns


def _said(role: str, text: JsonValue) -> dict[str, JsonValue]:
    return {"role": role, "content": text}


BEFORE: list[JsonValue] = [_said("user", "Hi"), _said("assistant", "Hello"), _said("user", "Who are you?")]
GOOD, BAD = _said("assistant", "A model."), _said("assistant", "A king.")
PAIR: Row = {"system": None, "prompt": "Who are you?", "chosen": "A model.", "rejected": "A king."}
LATER: Row = {**PAIR, "history": [{"prompt": "Hi", "completion": "Hello"}]}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "Who are you?", "chosen": [GOOD], "rejected": [BAD]}, PAIR),
        ({"prompt": [_said("user", "Who are you?")], "chosen": [GOOD], "rejected": [BAD]}, PAIR),
        ({"prompt": [_said("user", "Who are you?")], "chosen": "A model.", "rejected": "A king."}, PAIR),
        (
            {
                "prompt": "Who are you?",
                "chosen": [_said("user", "Who are you?"), GOOD],
                "rejected": [_said("user", "Who are you?"), BAD],
            },
            PAIR,
        ),
        ({"chosen": [_said("user", "Who are you?"), GOOD], "rejected": [_said("user", "Who are you?"), BAD]}, PAIR),
        ({"chosen": [*BEFORE, GOOD], "rejected": [*BEFORE, BAD]}, LATER),
        ({"prompt": "Hi", "chosen": [*BEFORE, GOOD], "rejected": [*BEFORE, BAD]}, LATER),
        ({"prompt": BEFORE, "chosen": [GOOD], "rejected": [BAD]}, LATER),
        ({"prompt": BEFORE, "chosen": [*BEFORE, GOOD], "rejected": [*BEFORE, BAD]}, LATER),
        (
            {
                "chosen": [_said("system", "Be brief."), _said("user", "Who are you?"), GOOD],
                "rejected": [_said("system", "Be brief."), _said("user", "Who are you?"), BAD],
            },
            {**PAIR, "system": "Be brief."},
        ),
        (
            {
                "prompt": [{"from": "human", "value": "Who are you?"}],
                "chosen": [{"from": "gpt", "value": "A model."}],
                "rejected": [{"from": "gpt", "value": "A king."}],
            },
            PAIR,
        ),
        (
            {
                "prompt": json.dumps([_said("user", "Who are you?")]),
                "chosen": json.dumps([GOOD]),
                "rejected": json.dumps([BAD]),
            },
            PAIR,
        ),
        (
            {
                "prompt": [_said("user", [{"type": "text", "text": "Who are you?"}])],
                "chosen": [GOOD],
                "rejected": [BAD],
            },
            PAIR,
        ),
    ],
)
def test_preferences_in_turns_are_read_as_those_in_text_are(row: Row, expected: Row) -> None:
    [read] = clean([row], DpoParameters()).rows
    assert read.row == expected


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"chosen": [*BEFORE, GOOD], "rejected": [BEFORE[0], BAD]}, "prompts_differ"),
        ({"prompt": "Something else", "chosen": [*BEFORE, GOOD], "rejected": [*BEFORE, BAD]}, "prompts_differ"),
        ({"prompt": "Hi", "chosen": BEFORE, "rejected": [*BEFORE, BAD]}, "no_answer"),
        ({"prompt": "Hi", "chosen": [{**GOOD, "tool_calls": [1]}], "rejected": [BAD]}, "tool_calls"),
        ({"prompt": "Hi", "chosen": [_said("judge", "x")], "rejected": [BAD]}, "role_unknown"),
        ({"prompt": "Hi", "chosen": [_said("assistant", [{"type": "image"}])], "rejected": [BAD]}, "part_not_text"),
    ],
)
def test_turns_that_say_no_preference_are_refused_by_row(row: Row, code: str) -> None:
    fine: Row = {"prompt": "Who are you?", "chosen": [GOOD], "rejected": [BAD]}
    with pytest.raises(DatasetInvalid) as caught:
        clean([fine, row, fine, row], DpoParameters())
    assert (caught.value.code, caught.value.rows) == (code, (2, 4))


def test_turns_without_an_answer_or_a_preference_are_left_out_and_counted() -> None:
    rows: list[Row] = [
        {"prompt": "Who are you?", "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": "Who are you?", "chosen": [GOOD], "rejected": [GOOD]},
        {"prompt": "Who are you?", "chosen": [GOOD], "rejected": [_said("assistant", None)]},
        {"prompt": None, "chosen": [GOOD], "rejected": [BAD]},
    ]
    cleaned = clean(rows, DpoParameters())
    assert [row.number for row in cleaned.rows] == [1]
    assert cleaned.removed == {"no preference": 1, "empty": 2}


def test_an_answer_that_happens_to_be_json_is_text() -> None:
    staff = json.dumps([{"role": "manager", "name": "Ann"}, {"role": "clerk", "name": "Bob"}])
    talk = json.dumps([{"role": "user"}])
    [read] = clean([{"prompt": "List the staff as JSON.", "chosen": staff, "rejected": talk}], DpoParameters()).rows
    assert (read.row["chosen"], read.row["rejected"]) == (staff, talk)
