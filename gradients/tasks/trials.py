"""Which of a task's rows are tried with its base before it is offered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from gradients.files.whole import write_text

LONGEST_ROWS, SPREAD_ROWS = 64, 960  # what is tried: the longest rows, and others from one end to the other


def tried_rows(lengths: Sequence[int]) -> list[int]:
    """Positions of the rows that are tried: all of a small set."""
    if len(lengths) <= LONGEST_ROWS + SPREAD_ROWS:
        return list(range(len(lengths)))
    longest = sorted(range(len(lengths)), key=lambda position: -lengths[position])[:LONGEST_ROWS]
    spread = (number * len(lengths) // SPREAD_ROWS for number in range(SPREAD_ROWS))
    return sorted({*longest, *spread})


def write_tried(rows: Callable[[], Iterable[str]], file: Path) -> list[int]:
    """Positions of the rows that are in the file now.

    Args:
        rows: all rows as JSON lines; asked for twice.
    """
    chosen = tried_rows([len(line) for line in rows()])
    wanted = set(chosen)
    write_text(file, "".join(line.rstrip("\n") + "\n" for position, line in enumerate(rows()) if position in wanted))
    return chosen
