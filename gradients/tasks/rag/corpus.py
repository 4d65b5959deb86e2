"""The passages that are searched: rows of the corpus, in parts that fit into a prompt."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from pydantic import JsonValue

from gradients.datasets.columns import cell, check_cells, check_columns, check_enough
from gradients.datasets.normal_texts import normalised
from gradients.datasets.rows import Row, numbers
from gradients.errors import DatasetInvalid
from gradients.tasks.rag.parameters import RagParameters

MOST_PASSAGES = 200_000  # each question is compared with every one
_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])|\n+")  # noqa: RUF001 (ends of sentences in Chinese and Japanese)


class Passage(NamedTuple):
    """A row of the corpus, or a part of it."""

    id: str  # of the row; its parts share it
    title: str
    text: str


@dataclass(frozen=True)
class Corpus:
    """All passages, in the order of the source."""

    passages: Sequence[Passage]

    @cached_property
    def words(self) -> Sequence[str]:
        """Each passage as it is compared with answers, between spaces."""
        return [f" {normalised(passage.text)} " for passage in self.passages]

    @cached_property
    def by_id(self) -> Mapping[str, Sequence[int]]:
        """Positions of a row's parts."""
        found: dict[str, list[int]] = {}
        for position, passage in enumerate(self.passages):
            found.setdefault(passage.id, []).append(position)
        return found

    def holds(self, position: int, answer: str) -> bool:
        """Whether the passage has `answer` (normalised) in it, word for word."""
        return f" {answer} " in self.words[position]


def passage_id(value: JsonValue) -> str:
    """How a passage is named: a whole number is the same whether a table with gaps has written it as 12 or as 12.0."""
    return re.sub(r"^(-?\d+)\.0+$", r"\1", cell(value))


def read_corpus(rows: Sequence[Row], parameters: RagParameters) -> Corpus:
    """The passages of these rows; empty ones are left out. Raises DatasetInvalid with the corpus's own row numbers."""
    columns = parameters.corpus_columns
    named = parameters.columns.passage is not None
    used = {
        role: column for role, column in columns.model_dump().items() if column is not None and (named or role != "id")
    }
    try:
        check_columns(rows, used, parameter="corpus_columns")
        check_cells(rows, used.values())
        first: dict[str, int] = {}
        twice = [
            n
            for n, row in enumerate(rows, start=1)
            if named and first.setdefault(passage_id(row.get(columns.id)), n) != n
        ]
        if twice:  # an id that two passages have says of neither that it holds an answer
            raise DatasetInvalid(
                f"Rows {numbers(twice)} have an id that an earlier row has",
                rows=twice,
                fix=f"Make '{columns.id}' unique",
            )
        parts = (
            Passage(
                passage_id(row.get(columns.id)) if named else "",
                cell(row.get(columns.title)) if columns.title else "",
                text,
            )
            for row in rows
            for text in sentences(cell(row.get(columns.text)), most=parameters.passage_characters)
        )
        # a passage that stands there for each of its questions, as in SQuAD, is found once; with an id, no row is another's copy
        passages = list(parts if named else dict.fromkeys(parts))
        filled = [n for n, row in enumerate(rows, start=1) if cell(row.get(columns.text))]
        check_enough(filled, len(rows), missing="no text")
    except DatasetInvalid as error:
        raise DatasetInvalid(f"Corpus: {error.message}", rows=error.rows, code=error.code, fix=error.fix) from error
    if not 2 <= len(passages) <= MOST_PASSAGES:
        raise DatasetInvalid(
            f"Corpus: {len(passages):,} passages; 2 to {MOST_PASSAGES:,} can be searched",
            fix="Give a part of it, or longer passages",
        )
    return Corpus(passages)


def sentences(text: str, *, most: int) -> Iterator[str]:
    """The text in parts of whole sentences, each of at most `most` characters; a longer sentence is parted between words."""
    part = ""
    for piece in (piece for sentence in _SENTENCE_END.split(text) for piece in _short(sentence.strip(), most)):
        if part and len(part) + 1 + len(piece) > most:
            yield part
            part = piece
        else:
            part = f"{part} {piece}" if part else piece
    if part:
        yield part


def _short(sentence: str, most: int) -> Iterator[str]:
    while len(sentence) > most:
        at = sentence.rfind(" ", 1, most + 1)
        at = at if at > 0 else most
        yield sentence[:at].rstrip()
        sentence = sentence[at:].lstrip()
    if sentence:
        yield sentence
