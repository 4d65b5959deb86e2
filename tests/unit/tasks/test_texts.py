"""Texts that data sets write as something else, and columns that they call something else."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from pydantic import BaseModel, JsonValue

from gradients.datasets.rows import Cleaned, Row
from gradients.errors import DatasetInvalid
from gradients.tasks.grpo.spec import GrpoParameters
from gradients.tasks.grpo.spec import clean as grpo
from gradients.tasks.instruct.spec import InstructParameters
from gradients.tasks.instruct.spec import clean as instruct
from gradients.tasks.rag.corpus import read_corpus
from gradients.tasks.rag.parameters import RagParameters
from gradients.tasks.rag.spec import clean as rag
from gradients.tasks.texts import NotText, as_text

SQUAD: Row = {
    "context": "The harbour lies by the sea.",
    "question": "Where is the harbour?",
    "answers": {"text": ["by the sea", "the sea"], "answer_start": [17, 20]},
}
RAG: dict[str, JsonValue] = {"corpus": "hub:example/passages"}
JUDGED: dict[str, JsonValue] = {"rewards": [{"kind": "length", "at_least": 1, "at_most": 9}]}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        (5, 5),
        (None, None),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
        ([{"type": "input_text", "text": "a"}], "a"),
        ({"type": "text", "text": "a"}, "a"),
        ({"text": ["a", "b"], "answer_start": [0, 1]}, "a"),
        ({"text": [], "answer_start": []}, None),
        (["a"], ["a"]),
        ({"other": 1}, {"other": 1}),
    ],
)
def test_parts_and_right_answers_are_text(value: JsonValue, text: JsonValue) -> None:
    assert as_text(value) == text


def test_parts_that_are_not_text_are_refused_by_row() -> None:
    with pytest.raises(NotText, match="image_url"):
        as_text([{"type": "image_url", "image_url": {}}])
    image: JsonValue = [{"type": "text", "text": "a"}, {"type": "image", "image": "…"}]
    rows: list[Row] = [{"instruction": "a", "output": "b"}, {"instruction": image, "output": "b"}]
    with pytest.raises(DatasetInvalid, match="a part of type 'image'") as caught:
        instruct(rows, InstructParameters())
    assert (caught.value.code, caught.value.rows) == ("part_not_text", (2,))


def test_squad_is_read_as_instructions_and_as_questions() -> None:
    columns = {"instruction": "question", "input": "context", "output": "answers"}
    [row] = instruct([SQUAD], InstructParameters.model_validate({"columns": columns})).rows
    assert row.row == {
        "system": None,
        "prompt": "Where is the harbour? The harbour lies by the sea.",
        "completion": "by the sea",
    }
    [asked] = rag([SQUAD], RagParameters.model_validate({**RAG, "columns": {"answer": "answers"}})).rows
    assert asked.row == {"question": "Where is the harbour?", "answer": "by the sea", "passage": ""}


def test_squad_questions_without_an_answer_are_left_out_and_counted() -> None:
    none: Row = {**SQUAD, "answers": {"text": [], "answer_start": []}}
    cleaned = rag([SQUAD, none], RagParameters.model_validate({**RAG, "columns": {"answer": "answers"}}))
    assert (len(cleaned.rows), cleaned.removed) == (1, {"empty": 1})


@pytest.mark.parametrize(
    ("clean", "parameters", "row", "line"),
    [
        (rag, RagParameters.model_validate(RAG), SQUAD, "--set columns.answer=answers"),
        (instruct, InstructParameters(), SQUAD, "--set columns.instruction=question"),
        (instruct, InstructParameters(), {"prompt": "a", "output": "b"}, "--set columns.instruction=prompt"),
        (instruct, InstructParameters(), {"instruction": "a", "response": "b"}, "--set columns.output=response"),
        (grpo, GrpoParameters.model_validate(JUDGED), {"question": "a"}, "--set columns.prompt=question"),
    ],
)
def test_usual_names_of_columns_are_told_with_the_line_that_reads_them(
    clean: Callable[[Sequence[Row], BaseModel], Cleaned], parameters: BaseModel, row: Row, line: str
) -> None:
    with pytest.raises(DatasetInvalid) as caught:
        clean([row], parameters)
    assert caught.value.code == "column_missing"
    assert caught.value.fix
    assert caught.value.fix.endswith(line)


@pytest.mark.parametrize("name", ["messages", "conversations"])
def test_conversations_in_another_types_task_are_told_so(name: str) -> None:
    with pytest.raises(DatasetInvalid, match=f"'{name}' holds conversations"):
        instruct([{name: []}], InstructParameters())


def test_a_prompt_of_turns_is_read_with_its_system_message() -> None:
    turns: JsonValue = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    [row] = grpo([{"prompt": turns}], GrpoParameters.model_validate(JUDGED)).rows
    assert (row.row["system"], row.row["prompt"]) == ("Be brief.", "Hi")
    [row] = grpo(
        [{"prompt": turns, "who": "row"}], GrpoParameters.model_validate({**JUDGED, "columns": {"system": "who"}})
    ).rows
    assert row.row["system"] == "Be brief."


def test_a_prompt_with_answers_in_it_is_refused_by_row() -> None:
    turns: JsonValue = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Bye"},
    ]
    with pytest.raises(DatasetInvalid, match="with answers in it in rows 2") as caught:
        grpo([{"prompt": "a"}, {"prompt": turns}], GrpoParameters.model_validate(JUDGED))
    assert caught.value.rows == (2,)


def test_a_passage_that_stands_with_each_of_its_questions_is_searched_once() -> None:
    rows: list[Row] = [{**SQUAD, "question": f"What is {number}?"} for number in range(5)]
    rows.append({**SQUAD, "context": "The anvil stands in the smithy."})
    parameters = RagParameters.model_validate({**RAG, "corpus_columns": {"text": "context"}})
    assert [passage.text for passage in read_corpus(rows, parameters).passages] == [
        "The harbour lies by the sea.",
        "The anvil stands in the smithy.",
    ]
