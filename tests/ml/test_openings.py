"""Rows that begin alike have the losses that they have when each is read whole."""

from __future__ import annotations

import pytest

from gradients.ml.base_model import LoadedBase
from gradients.ml.device import Device
from gradients.ml.losses import measure_rows
from gradients.ml.openings import measure_behind, shared_opening
from gradients.ml.reading import reads_once
from gradients.ml.text import Example, answered

CPU = Device("cpu")
SYSTEM = [3, 5, 9, 14, 2, 8, 21, 40, 11, 6]


def test_what_all_rows_begin_with_is_shared_as_far_as_nothing_counts() -> None:
    assert shared_opening([answered([1, 2, 3, 4], [7]), answered([1, 2, 3, 5], [7])]) == [1, 2, 3]
    assert shared_opening([answered([1, 2, 3], [7, 8]), answered([1, 2, 3], [7, 9])]) == [1, 2]
    assert shared_opening([answered([1, 2, 3], [7]), answered([2, 2, 3], [7])]) == []
    assert shared_opening([answered([1], [7, 8]), answered([1], [7, 9])]) == []


def test_what_is_shared_has_to_be_worth_it() -> None:
    rows = [answered([1, 2, *range(3 + number, 60 + number)], [7]) for number in range(4)]
    assert shared_opening(rows) == []


@pytest.mark.parametrize("several", [False, True])
def test_losses_behind_an_opening_are_those_of_whole_rows(
    base: LoadedBase, examples: list[Example], *, several: bool
) -> None:
    """Several spans in a row are the answers of a conversation."""
    behind = [
        Example(
            SYSTEM + example.tokens, tuple(range(s.start + len(SYSTEM), s.stop + len(SYSTEM)) for s in example.spans)
        )
        for example in examples
    ]
    if several:
        behind = [Example(e.tokens, (range(len(SYSTEM) + 2, len(SYSTEM) + 3), *e.spans)) for e in behind]
    opening = shared_opening(behind)
    assert opening[: len(SYSTEM)] == SYSTEM
    assert reads_once(base.model, CPU)
    whole = measure_rows(base.model, behind, device=CPU, max_tokens=512)
    told: list[int] = []
    ours = measure_behind(base.model, behind, opening, device=CPU, max_tokens=512, progress=told.append)
    assert [row.tokens for row in ours] == [row.tokens for row in whole]
    assert [row.mean for row in ours] == pytest.approx([row.mean for row in whole], abs=1e-5)
    assert told[-1] == len(behind)
