"""Which rules are in force, and how parts add up."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from types import MappingProxyType

import pytest

from gradients.domain.task import Hotkey
from gradients.scoring.contest import REMEMBERED_WINNERS, Part
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


def _numbers(rules: object) -> object:
    """Every constant of a version, by name."""
    if is_dataclass(rules):
        return {each.name: _numbers(getattr(rules, each.name)) for each in fields(rules)}
    return dict(rules) if isinstance(rules, MappingProxyType) else rules


def test_the_numbers_of_a_version_never_change() -> None:
    """Whoever wants others makes a new version: rows and records of the old ones are recomputed by auditors."""
    assert _numbers(PAPER) == {
        "version": 1,
        "window_blocks": None,
        "first_points": 3.0,
        "last_points": -1.0,
        "large_field": 8,
        "size_floor_billions": 1.0,
        "size_cap_billions": 40.0,
        "windows": ((1.0, 0.3), (3.0, 0.3), (7.0, 0.4)),
        "type_shares": {"instruct": 0.20, "chat": 0.10, "rag": 0.05, "dpo": 0.10, "grpo": 0.20, "diffusion": 0.35},
        "sigmoid_steepness": 9.0,
        "sigmoid_centre": 0.5,
        "sigmoid_power": 0.75,
        "sigmoid_share": 0.7,
        "linear_share": 0.05,
        "newcomer_chance": 2.0,
        "favourite_factor": 3.0,
    }
    assert _numbers(CHANCE) == {
        "version": 2,
        "base_z": 2.326,
        "base_share": 0.005,
        "luck": 0.01,
        "near": 0.35,
        "resamples": 1000,
        "size_floor_billions": 0.0,
        "size_cap_billions": 40.0,
        "most_factor": 20.0,
        "copies": {
            "row_ratio": 0.03,
            "output_cosine": 0.9,
            "mixture_cosine": 0.99,
            "mixture_part": 0.05,
            "likeness": {"update": 0.97, "outputs": 0.999},
        },
        "race": {"moved": 0.002, "error": 0.01, "first_rows": 48, "growth": 2.0, "copy_slack": 2.0},
        "accounts": {
            "full_blocks": 14_400,
            "window_blocks": 64_800,
            "full_type": 8.0,
            "customers_share": 0.2,
            "customer_share": 0.02,
        },
        "lots": {
            "rated_share": 0.75,
            "memory": 0.85,
            "reliable_memory": 0.97,
            "grace": 0.1,
            "newcomer_lots": 3.0,
            "least_lots": 0.001,
        },
        "type_shares": {"instruct": 0.28, "chat": 0.28, "dpo": 0.17, "diffusion": 0.15, "rag": 0.08, "grpo": 0.04},
    }
    assert REMEMBERED_WINNERS == 200
