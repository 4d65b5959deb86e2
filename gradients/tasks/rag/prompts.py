"""From questions and a corpus to prompts with passages: the one that holds the answer among distractors, or distractors alone.

Distractors are what the retriever likes best of all that does not hold the answer, so a model has to read: neither the number nor the
order of the passages says whether the answer is among them. Everything random comes from the task's salt and the row's own text.
"""

from __future__ import annotations

import hashlib
import hmac
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from gradients.datasets.columns import filled
from gradients.datasets.normal_texts import normalised
from gradients.datasets.rows import Cleaned, Numbered, ReadSource, Row, numbered_rows, numbers
from gradients.datasets.spool import Picked
from gradients.errors import DatasetInvalid
from gradients.tasks.rag.corpus import Corpus, Passage, read_corpus
from gradients.tasks.rag.parameters import RagParameters
from gradients.tasks.rag.retrieval import best_first, bm25_scores, embedding_scores, shipped_encoder

if TYPE_CHECKING:
    from gradients.tasks.rag.retrieval import Scores

MOST_COMPARED = 2_000_000_000  # questions times passages; about ten minutes on a core
SEARCHED = 100  # best passages among which an answer is looked for when the row does not say where it stands

Retriever = Callable[
    [Sequence[str], Sequence[str]], Iterator["Scores"]
]  # passages, questions -> scores of each question


class Retrieved(NamedTuple):
    """What was found for one row."""

    gold: int  # position of the passage that holds the answer
    distractors: Sequence[int]  # best first, none of which holds it


def with_passages(rows: Sequence[Numbered], parameters: RagParameters, *, salt: bytes, read: ReadSource) -> Cleaned:
    """Rows as {"system", "prompt", "completion", "question", "answer", "answerable"}.

    Rows whose answer is found in no passage are left out and counted. Raises DatasetInvalid for a corpus that cannot be used, and for
    rows that name passages that it does not have.
    """
    corpus = read_corpus(read(parameters.corpus.model_dump(mode="json")), parameters)
    passages = len(corpus.passages)
    if len(rows) * passages > MOST_COMPARED:  # each question is compared with every passage
        raise DatasetInvalid(
            f"{len(rows):,} rows and {passages:,} passages are too many together: {MOST_COMPARED:,} pairs of them can be compared",
            code="too_many_rows",
            fix=f"Give at most {MOST_COMPARED // passages:,} rows with this corpus, a part of it, or longer passages",
        )
    lost = [row.number for row in rows if row.row["passage"] and str(row.row["passage"]) not in corpus.by_id]
    if lost:
        raise DatasetInvalid(
            f"Rows {numbers(lost)} name passages that the corpus does not have",
            rows=lost,
            code="passage_missing",
            fix="Check columns.passage and corpus_columns.id",
        )
    found = _retrieved(rows, corpus, parameters, salt=salt)
    kept = Picked(rows, list(found))
    # exactly the share is to abstain, whatever the order of the rows
    drawn = sorted((_seed(salt, "abstain", row.row), row.number) for row in kept)
    abstaining = {number for _, number in drawn[: round(parameters.unanswerable * len(kept))]}
    made = numbered_rows()
    for row, (gold, distractors) in zip(kept, found.values(), strict=True):
        answerable = row.number not in abstaining
        positions = [gold, *distractors[: parameters.passages - 1]] if answerable else list(distractors)
        random.Random(_seed(salt, "order", row.row)).shuffle(positions)
        shown = [corpus.passages[position] for position in positions]
        made.append(Numbered(row.number, _normal_form(row.row, shown, parameters, answerable=answerable)))
    return Cleaned(made, {"answer in no passage": len(rows) - len(made)})


def retriever_of(parameters: RagParameters) -> Retriever:
    """The retriever that was asked for. Raises SetupError when it is not installed."""
    if parameters.retriever == "bm25":
        return bm25_scores
    encoder = shipped_encoder()
    return lambda passages, questions: embedding_scores(passages, questions, encoder=encoder)


def _retrieved(
    rows: Sequence[Numbered], corpus: Corpus, parameters: RagParameters, *, salt: bytes
) -> dict[int, Retrieved]:
    """What was found, by position of the row; rows without a passage for the answer are not there."""
    texts = [f"{passage.title} {passage.text}".strip() for passage in corpus.passages]
    questions = [str(row.row["question"]) for row in rows]
    scores = retriever_of(parameters)(texts, questions)
    found = {}
    for position, (row, of_row) in enumerate(zip(rows, scores, strict=True)):
        ranked = _Ranked(row.row, corpus, of_row, seed=_seed(salt, "ties", row.row))
        if (gold := ranked.gold()) is not None:
            found[position] = Retrieved(gold, ranked.distractors(parameters.passages))
    return found


class _Ranked:
    """The corpus as one row sees it."""

    def __init__(self, row: Row, corpus: Corpus, scores: Scores, *, seed: int) -> None:
        self._corpus, self._scores, self._seed = corpus, scores, seed
        self._answer = normalised(str(row["answer"]))
        self._named = corpus.by_id[str(row["passage"])] if row["passage"] else ()

    def gold(self) -> int | None:
        """The best passage that holds the answer; of a passage that the row names, the best part where none holds it word for word."""
        if self._named:
            holding = [position for position in self._named if self._corpus.holds(position, self._answer)]
            return max(holding or self._named, key=lambda position: self._scores[position])
        searched = islice(best_first(self._scores, seed=self._seed), SEARCHED)
        return next((position for position in searched if self._corpus.holds(position, self._answer)), None)

    def distractors(self, most: int) -> list[int]:
        """The best passages, each text once, that neither hold the answer nor belong to the passage that the row names."""
        named, seen, chosen = set(self._named), set[str](), list[int]()
        for position in best_first(self._scores, seed=self._seed):
            words = self._corpus.words[position]
            if position in named or words in seen or self._corpus.holds(position, self._answer):
                continue
            seen.add(words)
            chosen.append(position)
            if len(chosen) == most:
                break
        return chosen


def _normal_form(row: Row, shown: Sequence[Passage], parameters: RagParameters, *, answerable: bool) -> Row:
    passages = [
        filled(parameters.passage_format, {"number": str(number), "title": passage.title, "text": passage.text})
        for number, passage in enumerate(shown, start=1)
    ]
    question = str(row["question"])
    return {
        "system": parameters.system_prompt,
        "prompt": filled(parameters.format, {"passages": "\n".join(passages), "question": question}).strip(),
        "completion": row["answer"] if answerable else parameters.abstention,
        "question": row["question"],
        "answer": row["answer"],
        "answerable": answerable,
    }


def _seed(salt: bytes, purpose: str, row: Row) -> int:
    """A number that only the salt, the purpose and the row's own text decide."""
    content = "\x00".join((purpose, str(row["question"]), str(row["answer"])))
    return int.from_bytes(hmac.new(salt, content.encode(), hashlib.sha256).digest())
