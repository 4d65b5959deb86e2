"""The data sets that ship: valid rows, nothing twice, small, licensed."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

DATA = Path(__file__).parents[3] / "gradients/assets/data"
FOLDERS = sorted(path for path in DATA.iterdir() if path.is_dir())
MAX_BYTES = {"wordnet-definitions": 1_500_000}

Row = dict[str, str]


def rows(path: str) -> list[Row]:
    return [json.loads(line) for line in (DATA / path).read_text(encoding="utf-8").splitlines()]


def column(rows: Sequence[Row], name: str) -> list[str]:
    return [row[name] for row in rows]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_data_set_has_a_licence_and_a_readme_and_is_small(folder: Path) -> None:
    assert len((folder / "LICENSE").read_text(encoding="utf-8")) > 500
    assert folder.joinpath("README.md").read_text(encoding="utf-8").startswith("# ")
    assert sum(path.stat().st_size for path in folder.iterdir()) <= MAX_BYTES.get(folder.name, 1_000_000)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_readme_says_how_many_rows_there_are(folder: Path) -> None:
    assert f"{len(rows(f'{folder.name}/rows.jsonl')):,} " in (folder / "README.md").read_text(encoding="utf-8")


def test_definitions_are_a_few_thousand_rows_of_one_shape() -> None:
    definitions = rows("wordnet-definitions/rows.jsonl")

    assert 2_500 <= len(definitions) <= 4_000
    assert {tuple(row) for row in definitions} == {("word", "pos", "question", "definition", "synset")}
    assert all(row["question"] == f"Define the {row['pos']}: {row['word']}" for row in definitions)
    assert all(20 <= len(row["definition"]) <= 140 and row["definition"].isascii() for row in definitions)


@pytest.mark.parametrize("name", ["word", "question", "definition", "synset"])
def test_no_two_definitions_share_a_word_or_a_text(name: str) -> None:
    values = column(rows("wordnet-definitions/rows.jsonl"), name)

    assert len(set(values)) == len(values)


def test_a_definition_never_gives_its_word_away() -> None:
    assert not [row for row in rows("wordnet-definitions/rows.jsonl") if row["word"] in row["definition"].lower()]


def test_no_synset_is_in_two_data_sets() -> None:
    synsets = (
        *column(rows("wordnet-definitions/rows.jsonl"), "synset"),
        *column(rows("wordnet-preferences/rows.jsonl"), "synset"),
        *column(rows("wordnet-rag/passages.jsonl"), "id"),
    )

    assert len(set(synsets)) == len(synsets)


def test_a_preference_is_between_two_different_answers() -> None:
    preferences = rows("wordnet-preferences/rows.jsonl")

    assert {tuple(row) for row in preferences} == {("prompt", "chosen", "rejected", "synset")}
    assert all(row["chosen"] != row["rejected"] for row in preferences)
    assert len(set(column(preferences, "prompt"))) == len(preferences)


def test_a_rejected_answer_is_the_right_one_to_a_question_for_another_kind_of_word() -> None:
    preferences = rows("wordnet-preferences/rows.jsonl")
    kind = {row["chosen"]: row["synset"].split(":")[0] for row in preferences}

    assert not [row for row in preferences if kind[row["rejected"]] == kind[row["chosen"]]]


def test_an_answer_stands_in_its_passage() -> None:
    passages = {row["id"]: row["text"] for row in rows("wordnet-rag/passages.jsonl")}
    questions = rows("wordnet-rag/rows.jsonl")

    assert set(column(questions, "passage_id")) == set(passages)
    assert all(row["answer"] in passages[row["passage_id"]] for row in questions)


def test_a_dialogue_alternates_between_human_and_assistant() -> None:
    dialogues = [
        json.loads(line) for line in (DATA / "chatterbot-dialogues/rows.jsonl").read_text(encoding="utf-8").splitlines()
    ]

    assert len(dialogues) >= 200
    for dialogue in dialogues:
        turns = dialogue["conversations"]
        assert [turn["from"] for turn in turns] == ["human", "assistant"] * (len(turns) // 2)
        assert all(turn["value"].strip() for turn in turns)
