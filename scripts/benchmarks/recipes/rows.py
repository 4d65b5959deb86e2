"""Rows of the benchmark's tasks, and the one way in which they are divided."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import NamedTuple

from gradients.errors import SetupError

LONGEST_TEXT = 320  # characters of a prompt or an answer: both together fit into the 512 tokens of the smallest base


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt and the answer to learn."""

    prompt: str
    completion: str

    @property
    def texts(self) -> tuple[str, ...]:
        """Everything that is said."""
        return (self.prompt, self.completion)

    def as_row(self) -> dict[str, str]:
        """As the task type's trainer reads it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Preference:
    """A prompt with a better and a worse answer."""

    prompt: str
    chosen: str
    rejected: str

    @property
    def completion(self) -> str:
        """The answer to learn."""
        return self.chosen

    @property
    def texts(self) -> tuple[str, ...]:
        """Everything that is said."""
        return (self.prompt, self.chosen, self.rejected)

    def as_row(self) -> dict[str, str]:
        """As the task type's trainer reads it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture and what it shows."""

    prompt: str  # the caption
    image: str  # a square PNG in base64
    completion: str  # digest of its pixels, which tells it from others whoever packed them

    @property
    def texts(self) -> tuple[str, ...]:
        """What tells it from others."""
        return (self.prompt, self.completion)

    def as_row(self) -> dict[str, str]:
        """As the task type's trainer reads it."""
        return {"image": self.image, "caption": self.prompt}


Row = Pair | Preference | Picture


class Sizes(NamedTuple):
    """How many rows of each part."""

    train: int
    selection: int  # what a market picks its winner by
    test: int  # what is reported

    @property
    def all(self) -> int:
        """Rows of one task."""
        return self.train + self.selection + self.test


class Parts(NamedTuple):
    """A task's rows; no prompt is in two parts, and no answer either where answers are open."""

    train: tuple[Row, ...]
    selection: tuple[Row, ...]
    test: tuple[Row, ...]

    @property
    def digest(self) -> str:
        """What tells this data from other data."""
        return hashlib.sha256(
            "\0".join(text for part in self for row in part for text in row.texts).encode()
        ).hexdigest()[:16]


def divide(rows: Iterable[Row], sizes: Sizes, *, name: str, answers_repeat: bool) -> Parts:
    """The first distinct rows, in the order of their prompts' hashes: test, then selection, then train.

    The hash, not the source's order, decides where a row goes, since neighbours in a source are alike.

    Args:
        answers_repeat: whether different prompts share answers, as labels do; if not, a second row with an answer is left out.
    """
    found: dict[str, Row] = {}
    answers = set[str]()
    for row in rows:
        answer = " ".join(row.completion.casefold().split())
        fits = all(0 < len(text) <= LONGEST_TEXT for text in row.texts)
        if fits and row.prompt not in found and (answers_repeat or answer not in answers):
            found[row.prompt] = row
            answers.add(answer)
    if len(found) < sizes.all:
        raise SetupError(f"The task {name} has {len(found)} rows, and {sizes.all} are asked for", fix="Ask for fewer")
    ordered = [found[prompt] for prompt in sorted(found, key=lambda text: hashlib.sha256(text.encode()).digest())]
    held = sizes.test + sizes.selection
    return Parts(
        train=tuple(ordered[held : sizes.all]),
        selection=tuple(ordered[sizes.test : held]),
        test=tuple(ordered[: sizes.test]),
    )
