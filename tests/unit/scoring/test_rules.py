"""Which rules are in force, and how parts add up."""

from __future__ import annotations

import pytest

from gradients.domain.task import Hotkey
from gradients.scoring.contest import Part
from gradients.scoring.rules import CHANCE, PAPER, SCHEDULE, Since, rules_at, rules_of, shares_of


def test_the_rules_in_force_are_found_by_block() -> None:
    schedule = (Since(0, PAPER), Since(100, CHANCE))
    assert [rules_at(block, schedule).version for block in (0, 99, 100, 10**9)] == [1, 1, 2, 2]


def test_every_block_has_rules_and_versions_only_grow() -> None:
    assert SCHEDULE[0].block == 0
    assert [since.block for since in SCHEDULE] == sorted({since.block for since in SCHEDULE})
    versions = [since.rules.version for since in SCHEDULE]
    assert versions == sorted(set(versions))


def test_a_version_is_found_by_its_number() -> None:
    assert (rules_of(1), rules_of(2)) == (PAPER, CHANCE)
    with pytest.raises(ValueError, match="Version 3 of the rules is not known here"):
        rules_of(3)


def test_parts_add_up_by_miner() -> None:
    parts = [Part(Hotkey("a"), 0.2, "one", ""), Part(Hotkey("b"), 0.1, "one", ""), Part(Hotkey("a"), 0.1, "two", "")]
    assert shares_of(parts) == pytest.approx({"a": 0.75, "b": 0.25})
    assert shares_of([]) == shares_of([Part(Hotkey("a"), 0.0, "one", "")]) == {}
