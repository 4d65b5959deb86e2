"""How the pretraining texts are cleaned, cut and put in the chat format."""

import json
import random
from pathlib import Path

from scripts.pretraining.chat import exchange
from scripts.pretraining.corpus import split_documents
from scripts.pretraining.dialogues import TOPICS, dialogue_rows, read_exchanges
from scripts.pretraining.prose import Block, read_prose
from scripts.pretraining.texts import (
    CHUNK_CHARACTERS,
    Document,
    chunks,
    fortune_documents,
    speech_documents,
    wordnet_documents,
)
from scripts.pretraining.wordnet import Synset

PAGE = """<html><body><p>A navigation bar that is long enough to be a paragraph.</p><div role="main"><h1>Sets<a>¶</a></h1>
<p>A set is an unordered collection of
<code>hashable</code> objects.</p><pre>s = {1, 2}</pre><p>Short.</p></div></body></html>"""


def test_pieces_hold_every_sentence_once_and_in_order() -> None:
    sentences = [f"Sentence number {number} of the speech." for number in range(200)]

    pieces = chunks(sentences, joint=" ")

    assert " ".join(pieces) == " ".join(sentences)
    assert len(pieces) > 1
    assert max(map(len, pieces)) <= CHUNK_CHARACTERS + 1


def test_a_page_gives_headings_and_long_paragraphs_of_its_main_part(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(PAGE, encoding="utf-8")

    assert read_prose(page) == [
        Block("Sets", True),
        Block("A set is an unordered collection of hashable objects.", False),
    ]


def test_names_are_no_dictionary_entries() -> None:
    paris = Synset("noun:1", "noun", ("Paris",), frozenset({"Paris"}), "the capital of France", ())
    frame = Synset("noun:2", "noun", ("abacus", "frame"), frozenset(), "a frame with beads", ("count on it",))

    documents = list(wordnet_documents([paris, frame], random.Random(1)))

    assert documents[0] == Document("wordnet", 'abacus, frame (noun): a frame with beads. "count on it"')
    assert not any("Paris" in document.text for document in documents)


def test_a_fortune_with_control_characters_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "food").write_text("Eat\tmore  cheese.\n%\nBold\x08old text.\n%\n", encoding="utf-8")

    documents = list(fortune_documents(tmp_path, ["food"], random.Random(0)))

    assert len(documents) == 1
    assert "Eat more cheese." in documents[0].text


def test_a_speech_gives_its_opening_as_an_answer(tmp_path: Path) -> None:
    speech = {"year": 1790, "name": "George Washington", "text": "Fellow-Citizens: I feel much satisfaction."}
    (tmp_path / "1790.json").write_text(json.dumps(speech), encoding="utf-8")

    opening = next(speech_documents(tmp_path, random.Random(0)))

    assert opening.text == (
        "<|im_start|>system\nYou are a small language model.<|im_end|>\n"
        "<|im_start|>user\nOpen a State of the Union speech as George Washington in 1790.<|im_end|>\n"
        "<|im_start|>assistant\nFellow-Citizens: I feel much satisfaction.<|im_end|>\n"
    )


def test_a_held_out_document_is_held_out_in_every_order() -> None:
    documents = [Document("texts", f"text {number}") for number in range(400)]

    forwards = split_documents(documents, one_in=4, held_out_characters=10**6)
    backwards = split_documents(reversed(documents), one_in=4, held_out_characters=10**6)

    assert set(forwards.held_out) == set(backwards.held_out)
    assert set(forwards.held_out) | set(forwards.train) == set(documents)
    assert 60 < len(forwards.held_out) < 140  # a quarter of 400, give or take four standard deviations


def test_documents_over_the_measured_size_are_not_trained_on_either() -> None:
    documents = [Document("texts", f"text {number:03}") for number in range(400)]

    split = split_documents(documents, one_in=4, held_out_characters=80)

    assert len(split.held_out) == 10  # of 8 characters each
    assert len(split.train) < 350


def test_a_dialogue_keeps_to_one_topic_and_alternates(tmp_path: Path) -> None:
    for topic in TOPICS:
        pairs = "".join(f"- - {topic} question {number}\n  - {topic} answer {number}\n" for number in range(5))
        (tmp_path / f"{topic}.yml").write_text(f"conversations:\n{pairs}", encoding="utf-8")

    rows = dialogue_rows(tmp_path, seed=0)

    turns = [turn for row in rows for turn in row["conversations"]]  # type: ignore[attr-defined]
    assert len(turns) == len(TOPICS) * 5 * 2
    for row in rows:
        speakers = [turn["from"] for turn in row["conversations"]]  # type: ignore[attr-defined]
        assert speakers == ["human", "assistant"] * (len(speakers) // 2)
        assert all(turn["value"].startswith(str(row["topic"])) for turn in row["conversations"])  # type: ignore[attr-defined]


def test_lists_of_alternative_answers_are_no_dialogue(tmp_path: Path) -> None:
    path = tmp_path / "ai.yml"
    path.write_text("conversations:\n- - Hello\n  - Hi\n  - Hey\n- - Who are you?\n  - A model.\n", encoding="utf-8")

    assert read_exchanges(path) == [("Who are you?", "A model.")]


def test_an_exchange_without_a_system_turn_has_two_turns() -> None:
    assert exchange("Hi", "Ho") == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo<|im_end|>\n"
