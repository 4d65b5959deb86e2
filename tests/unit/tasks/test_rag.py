"""What a customer may say about a RAG task, how its passages are found, and what its rows become."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue, ValidationError

from gradients.datasets.columns import LONGEST_FORMAT
from gradients.datasets.rows import Numbered, ReadSource, Row
from gradients.domain.json import Json, JsonObject
from gradients.errors import DatasetInvalid, TaskInvalid
from gradients.tasks.rag.answers import exact_match, f1
from gradients.tasks.rag.corpus import read_corpus, sentences
from gradients.tasks.rag.parameters import RagParameters
from gradients.tasks.rag.prompts import with_passages
from gradients.tasks.rag.retrieval import best_first, bm25_scores
from gradients.tasks.rag.spec import RAG, clean, text
from gradients.tasks.registry import public_parameters, validate_request, with_sources

SALT = b"salt"
SPEC: JsonObject = {"type": "rag", "base": "nano-lm", "dataset": "rows.jsonl", "hours": 1}
COLOURS = ("red", "blue", "green", "grey", "white", "brown", "black", "golden")
THINGS = ("anvil", "ferry", "lantern", "meadow", "orchard", "quarry", "saddle", "turret")


def _parameters(**given_parameters: JsonValue) -> RagParameters:
    return RagParameters.model_validate({"corpus": "passages.jsonl", **given_parameters})


def _register() -> list[Row]:
    """64 passages, each with a name of its own and an answer of its own."""
    return [
        {"id": f"p{number}", "text": f"Keeper{number} looks after the {COLOURS[number // 8]} {THINGS[number % 8]}."}
        for number in range(64)
    ]


def _questions(*, named: bool = True) -> list[Row]:
    return [
        {
            "question": f"What does keeper{number} look after?",
            "answer": f"the {COLOURS[number // 8]} {THINGS[number % 8]}",
            **({"passage": f"p{number}"} if named else {}),
        }
        for number in range(64)
    ]


def _reads(rows: Sequence[Row]) -> ReadSource:
    return lambda _: list(rows)


def _prompted(
    rows: Sequence[Row], corpus: Sequence[Row], *, salt: bytes = SALT, **given_parameters: JsonValue
) -> list[Numbered]:
    named: JsonValue = {"passage": "passage"} if "passage" in rows[0] else {}
    parameters = _parameters(columns=named, **given_parameters)
    return list(with_passages(clean(rows, parameters).rows, parameters, salt=salt, read=_reads(corpus)).rows)


def _lines(row: Numbered) -> list[str]:
    return str(row.row["prompt"]).split("\n\n")[0].split("\n")


@given(
    st.builds(
        dict,
        passages=st.integers(1, 8),
        passage_characters=st.integers(40, 300),
        unanswerable=st.floats(0, 0.9),
        abstention=st.text(min_size=1, max_size=40).filter(lambda words: bool(words.strip())),
        retriever=st.sampled_from(["bm25", "embedding"]),
        corpus=st.sampled_from(["a.jsonl", "hub:org/name#train", {"kind": "file", "path": "b.csv"}]),
    )
)
def test_parameters_survive_their_json_form(given_parameters: dict[str, JsonValue]) -> None:
    parameters = RagParameters.model_validate(given_parameters)
    assert RagParameters.model_validate_json(parameters.model_dump_json()) == parameters


@pytest.mark.parametrize(
    "given_parameters",
    [
        {"corpus": {"kind": "file", "path": "a", "mode": "w"}},
        {"columns": {"passage_id": "p"}},
        {"retriever": "dense"},
        {"passages": 0},
        {"unanswerable": 1.0},
        {"abstention": "  "},
        {"format": "{question}"},
        {"format": "{passages} {question} {answer}"},
        {"format": "{passages} {passages} {question}"},
        {"format": "{passages} {question}" + "x" * LONGEST_FORMAT},
        {"passage_format": "{text} {text}"},
        {"passage_format": "{text}" + "x" * 1000},
        {"passage_format": "{number}"},
        {"passage_format": "{title}: {text}"},
        {"passages": 32, "passage_characters": 1000},
    ],
)
def test_parameters_that_make_no_task_are_refused(given_parameters: dict[str, JsonValue]) -> None:
    with pytest.raises(ValidationError):
        _parameters(**given_parameters)


def test_a_task_needs_a_corpus() -> None:
    with pytest.raises(TaskInvalid, match=r"parameters\.corpus"):
        validate_request(SPEC)


def test_more_questions_and_passages_than_can_be_compared_are_refused() -> None:
    """100,001 times 20,000 is more than 2 thousand million."""
    corpus: list[Row] = [{"text": f"passage {number}"} for number in range(20_000)]
    rows = [Numbered(1, {"question": "Which?", "answer": "passage 1", "passage": ""})] * 100_001
    with pytest.raises(DatasetInvalid, match="too many together") as refused:
        with_passages(rows, _parameters(), salt=SALT, read=_reads(corpus))
    assert "at most 100,000 rows" in str(refused.value)


@given(st.text(alphabet="ab. !?\n", max_size=300), st.integers(5, 60))
def test_parts_hold_every_word_in_order_and_none_is_too_long(whole: str, most: int) -> None:
    parts = list(sentences(whole, most=most))
    assert all(0 < len(part) <= most for part in parts)
    assert "".join("".join(parts).split()) == "".join(whole.split())


def test_a_long_passage_is_parted_between_sentences() -> None:
    whole = "The mill stands by the sea. It grinds corn. Nobody lives there, except for a very old cat."
    assert list(sentences(whole, most=44)) == [
        "The mill stands by the sea. It grinds corn.",
        "Nobody lives there, except for a very old",
        "cat.",
    ]


def test_parts_of_a_passage_share_its_id() -> None:
    rows: list[Row] = [{"id": 7, "text": "One is here and stays. " * 4}, {"id": 8, "text": "Two."}]
    corpus = read_corpus(rows, _parameters(columns={"passage": "p"}, passage_characters=60))
    assert {name: len(parts) for name, parts in corpus.by_id.items()} == {"7": 2, "8": 1}


@pytest.mark.parametrize(
    ("rows", "problem", "wrong"),
    [
        ([{"id": 1, "body": "x"}], "no column 'text'", ()),
        ([{"id": 1, "text": "x"}, {"id": 2, "text": ["y"]}], "not text in rows 2", (2,)),
        ([{"id": 1, "text": "x"}, {"id": 1, "text": "y"}], "Rows 2 have an id", (2,)),
        ([{"id": 1, "text": "x"}], "1 passages", ()),
        ([{"id": n, "text": ""} for n in range(9)] + [{"id": 10, "text": "x"}], "9 of 10", range(1, 10)),
    ],
)
def test_a_corpus_that_cannot_be_searched_is_refused_by_name_and_row(
    rows: list[Row], problem: str, wrong: Sequence[int]
) -> None:
    with pytest.raises(DatasetInvalid, match=f"Corpus: .*{problem}") as refused:
        read_corpus(rows, _parameters(columns={"passage": "p"}))
    assert refused.value.rows == tuple(wrong)


def test_a_row_that_names_no_passage_of_the_corpus_is_refused_by_number() -> None:
    rows = [*_questions(), {"question": "Who?", "answer": "me", "passage": "p64"}]
    with pytest.raises(DatasetInvalid, match="Rows 65 name passages") as refused:
        _prompted(rows, _register())
    assert refused.value.rows == (65,)


def test_bm25_agrees_with_its_formula() -> None:
    """Lucene's form: idf = ln(1 + (n - df + 0.5) / (df + 0.5)), tf / (tf + k1 (1 - b + b length / mean length))."""
    passages = ["red ferry", "red red anvil by night", "lantern"]
    [scores] = bm25_scores(passages, ["red lantern"])
    mean = (2 + 5 + 1) / 3

    def term(df: int, tf: int, length: int) -> float:
        return float(np.log(1 + (3 - df + 0.5) / (df + 0.5)) * tf / (tf + 1.5 * (1 - 0.75 + 0.75 * length / mean)))

    assert scores.tolist() == pytest.approx([term(2, 1, 2), term(2, 2, 5), term(1, 1, 1)], rel=1e-5)


def test_words_of_most_questions_are_not_searched_for() -> None:
    passages = ["what is what is", "the ferry leaves at noon"]
    alone = list(bm25_scores(passages, ["what is a ferry"]))
    among_many = list(bm25_scores(passages, ["what is a ferry", *(f"what is a thing{n}" for n in range(200))]))
    assert alone[0].argmax() == 0
    assert among_many[0].argmax() == 1


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=200), st.integers(0, 2**256))
def test_the_best_come_first_and_each_once(values: list[float], seed: int) -> None:
    scores = np.array(values, dtype=np.float32)
    order = list(best_first(scores, seed=seed))
    assert sorted(order) == list(range(len(values)))
    assert [values[position] for position in order] == sorted(values, reverse=True)


@pytest.mark.parametrize("named", [True, False])
def test_the_answer_stands_in_the_passages_exactly_when_the_row_says_so(named: bool) -> None:
    for row in _prompted(_questions(named=named), _register(), passages=3):
        holding = [line for line in _lines(row) if str(row.row["answer"]) in line]
        assert len(_lines(row)) == 3
        assert len(holding) == (1 if row.row["answerable"] else 0)
        assert row.row["completion"] == (row.row["answer"] if row.row["answerable"] else _parameters().abstention)


@pytest.mark.parametrize(("share", "abstaining"), [(0.0, 0), (0.25, 16), (0.9, 58)])
def test_the_share_of_unanswerable_rows_is_the_one_asked_for(share: float, abstaining: int) -> None:
    rows = _prompted(_questions(), _register(), unanswerable=share)
    assert sum(not row.row["answerable"] for row in rows) == abstaining  # of 64


def test_a_rows_prompt_depends_on_the_salt_and_not_on_the_order_of_the_rows() -> None:
    rows = _questions()
    forwards = {str(row.row["question"]): row.row for row in _prompted(rows, _register())}
    backwards = {str(row.row["question"]): row.row for row in _prompted(rows[::-1], _register())}
    salted = {str(row.row["question"]): row.row for row in _prompted(rows, _register(), salt=b"other")}
    assert forwards == backwards
    assert [name for name, row in forwards.items() if not row["answerable"]] != [
        name for name, row in salted.items() if not row["answerable"]
    ]


def test_the_place_of_the_answer_says_nothing() -> None:
    rows = _prompted(_questions(), _register(), passages=3, unanswerable=0.0)
    places = [next(i for i, line in enumerate(_lines(row)) if str(row.row["answer"]) in line) for row in rows]
    assert set(places) == {0, 1, 2}
    assert max(places.count(place) for place in range(3)) < 40  # of 64


def test_a_row_whose_answer_is_found_nowhere_is_left_out_and_counted() -> None:
    rows = [*_questions(named=False), {"question": "What does keeper9 wear?", "answer": "a straw hat"}]
    parameters = _parameters()
    made = with_passages(clean(rows, parameters).rows, parameters, salt=SALT, read=_reads(_register()))
    assert made.removed == {"answer in no passage": 1}
    assert len(made.rows) == 64


def test_an_answer_in_other_words_is_taken_from_the_named_passage() -> None:
    rows = [*_questions(), {"question": "Is keeper3 at work?", "answer": "yes", "passage": "p3"}]
    last = _prompted(rows, _register(), unanswerable=0.0)[-1]
    assert any("Keeper3 " in line for line in _lines(last))


def test_every_part_of_a_named_passage_goes_when_the_row_is_to_abstain() -> None:
    """The answer is one word of one part; the other part must not hint at it either."""
    long = {"id": "long", "text": "Keeper99 is proud of many things and tells of them all day. Keeper99 minds a kite."}
    rows = [*_questions(), {"question": "What does keeper99 mind?", "answer": "a kite", "passage": "long"}]
    made = _prompted(rows, [*_register(), long], passage_characters=60, unanswerable=0.9)
    abstaining = [row for row in made if not row.row["answerable"]]
    assert abstaining
    assert not any("Keeper99" in line for row in abstaining for line in _lines(row) if row.number == 65)
    assert not any("a kite" in line for row in abstaining for line in _lines(row) if row.number == 65)


def test_formats_are_filled_once_and_never_formatted_by_python() -> None:
    corpus = [{**row, "name": f"{{text}} {row['id']}"} for row in _register()]
    rows = _prompted(
        _questions(),
        corpus,
        corpus_columns={"title": "name"},
        passage_format="<{number}|{title}|{text}>",
        format="Q: {question}\n\n{passages}",
        passages=1,
        unanswerable=0.0,
    )
    assert rows[0].row["prompt"] == (
        "Q: What does keeper0 look after?\n\n<1|{text} p0|Keeper0 looks after the red anvil.>"
    )


def test_rows_are_compared_by_question_and_answer_alone() -> None:
    [row] = _prompted(_questions()[:1], _register())
    assert text(row.row) == "What does keeper0 look after? the red anvil"


@pytest.mark.parametrize(
    ("answer", "right", "exact", "score"),
    [
        ("The Denver Broncos!", "Denver Broncos", True, 1.0),
        ("Broncos", "Denver Broncos", False, 2 / 3),
        ("a  an the", "", True, 0.0),  # an empty prediction has no word in common, as in the published script
        ("in 1999 in", "in in 1998", False, 2 / 3),
        ("north", "south", False, 0.0),
        ("U.S.", "us", True, 1.0),
        ("theatre", "atre", False, 0.0),
    ],
)
def test_answers_are_compared_as_squad_does(answer: str, right: str, exact: bool, score: float) -> None:
    assert exact_match(answer, right) is exact
    assert f1(answer, right) == pytest.approx(score)


@given(st.text(), st.text())
def test_comparing_answers_is_symmetric_and_bounded(one: str, other: str) -> None:
    assert exact_match(one, other) == exact_match(other, one)
    assert f1(one, other) == f1(other, one)
    assert 0 <= f1(one, other) <= 1
    assert exact_match(one, one)


def test_whatever_says_where_data_is_is_found_in_a_spec() -> None:
    spec: JsonObject = {"type": "rag", "dataset": "a", "parameters": {"corpus": "b", "abstention": "c"}}
    changed = with_sources(spec, lambda source: f"<{source}>")
    assert changed == {"type": "rag", "dataset": "<a>", "parameters": {"corpus": "<b>", "abstention": "c"}}


@pytest.mark.parametrize("kind", ["instruct", "poetry", None, ["rag"]])
def test_a_type_without_sources_of_its_own_keeps_its_parameters(kind: Json) -> None:
    spec: JsonObject = {"type": kind, "parameters": {"corpus": "b"}}
    assert with_sources(spec, lambda source: f"<{source}>") == spec


def test_miners_are_not_told_where_the_corpus_lies() -> None:
    request = validate_request({**SPEC, "parameters": {"corpus": "/srv/c.jsonl"}})
    told = public_parameters(request)
    assert "/srv" not in json.dumps(told)
    assert {**told, "corpus": None} == {**request.parameters, "corpus": None}
    assert RAG.schema.model_validate(told)  # a miner's worker can still read them


def test_a_corpus_in_no_form_that_a_source_has_is_refused() -> None:
    with pytest.raises(TaskInvalid, match=r"parameters\.corpus"):
        validate_request({**SPEC, "parameters": {"corpus": {"kind": "ftp"}}})
