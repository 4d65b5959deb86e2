"""Version 2, many tasks: what each pays whom, from rows alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradients.domain.task import Hotkey
from gradients.errors import Blame
from gradients.scoring.account import BLOCKS_PER_DAY, AccountRules
from gradients.scoring.contest import SCHEDULED, Result
from gradients.scoring.rules import CHANCE, shares_of
from tests.unit.scoring.fields import result

NOW = 1_000_000
RULES = AccountRules()


def _shares(results: Sequence[Result]) -> dict[str, float]:
    found = shares_of(CHANCE.account(results, now=0.0, declared_shares={"song": 0.5}))
    return {str(hotkey): share for hotkey, share in found.items()}


def _many(kinds: str, *, tasks: int = 40, winner: str = "") -> list[Result]:
    """Enough tasks of a type that it has its whole share."""
    return [result(winner or kinds, 1.0, task=f"{kinds}-{i}", kind=kinds) for i in range(tasks)]


ROWS = st.lists(
    st.builds(
        lambda task, miner, points, days, kind, customer: result(
            f"m{miner}",
            points,
            task=f"t{task}",
            block=NOW - int(days[task % 10] * BLOCKS_PER_DAY),
            kind=("instruct", "dpo", "grpo")[task % 3],
            customer=(SCHEDULED, SCHEDULED, "acme", "other")[task % 4],
        ),
        st.integers(0, 11),
        st.integers(0, 5),
        st.sampled_from([1.0, 0.5, 0.0]),
        st.lists(st.floats(0, 25), min_size=10, max_size=10),
        st.none(),
        st.none(),
    ),
    max_size=40,
    unique_by=lambda row: (row.task_id, row.hotkey),
)


def _consistent(rows: Sequence[Result]) -> list[Result]:
    """Rows of one task agree on its deadline, and its chances sum to 1 or 0."""
    tasks: dict[str, list[Result]] = {}
    for row in rows:
        tasks.setdefault(row.task_id, []).append(row)
    found = []
    for group in tasks.values():
        whole = sum(row.points for row in group) or 1.0
        found += [replace(row, points=row.points / whole, deadline_block=group[0].deadline_block) for row in group]
    return found


@given(ROWS)
def test_shares_sum_to_one_or_there_are_none(rows: list[Result]) -> None:
    shares = _shares(_consistent(rows))
    assert not shares or sum(shares.values()) == pytest.approx(1.0)
    assert all(share > 0 for share in shares.values())


@given(ROWS)
def test_all_parts_sum_to_one_and_name_their_task(rows: list[Result]) -> None:
    parts = CHANCE.account(_consistent(rows), now=0.0, declared_shares={})
    assert not parts or sum(part.share for part in parts) == pytest.approx(1.0)
    assert {part.task_id for part in parts} <= {row.task_id for row in rows}


@given(ROWS, st.integers(0, 99))
def test_the_order_of_rows_changes_nothing(rows: list[Result], shuffle: int) -> None:
    rows = _consistent(rows)
    assert _shares(rows) == pytest.approx(_shares(random.Random(shuffle).sample(rows, len(rows))))


@given(ROWS, st.integers(0, 99))
def test_splitting_a_hotkeys_tasks_over_two_changes_nothing(rows: list[Result], split: int) -> None:
    rows, rng = _consistent(rows), random.Random(split)
    halves = [replace(row, hotkey=Hotkey(f"m0{rng.choice('ab')}")) if row.hotkey == "m0" else row for row in rows]
    before, after = _shares(rows), _shares(halves)
    together = after.pop("m0a", 0.0) + after.pop("m0b", 0.0)
    assert together == pytest.approx(before.pop("m0", 0.0))
    assert after == pytest.approx(before)


@given(ROWS, st.sampled_from([Blame.OUTSIDE, Blame.MINER, Blame.CUSTOMER]))
def test_rows_that_earned_nothing_move_nobody(rows: list[Result], blame: Blame) -> None:
    rows = _consistent(rows)
    silent = [
        result(
            "idle",
            0.0,
            task=row.task_id,
            kind=row.task_type,
            customer=row.customer,
            block=row.deadline_block,
            fault=blame,
        )
        for row in rows
    ]
    assert _shares([*rows, *silent]) == _shares(rows)


@given(ROWS)
def test_a_win_never_lowers_ones_share(rows: list[Result]) -> None:
    rows = [replace(row, customer=SCHEDULED, task_type="instruct") for row in _consistent(rows)]
    newest = max((row.deadline_block for row in rows), default=NOW)
    before = _shares(rows).get("m0", 0.0)
    after = _shares([*rows, result("m0", 1.0, task="new", block=newest)])["m0"]
    assert after >= before - 1e-12


def test_a_task_that_nobody_won_pays_nobody_and_costs_nobody() -> None:
    rows = [result("a", 1.0, task="one"), result("b", 0.0, task="two"), result("a", 0.0, task="two")]
    assert _shares(rows) == {"a": 1.0}
    assert _shares(rows[1:]) == {}


def test_a_failure_of_the_validators_leaves_pay_as_it_is() -> None:
    """Alice and Bob win a task each; in a third one the validator fails on Alice's model and Bob wins."""
    both = [
        *(result("alice", 1.0, task="one"), result("bob", 0.0, task="one")),
        *(result("alice", 0.0, task="two"), result("bob", 1.0, task="two")),
    ]
    third = [result("alice", 0.0, task="three", fault=Blame.OPERATOR), result("bob", 1.0, task="three")]
    assert _shares(both) == pytest.approx({"alice": 0.5, "bob": 0.5})
    assert _shares([*both, *third]) == pytest.approx({"alice": 0.5, "bob": 0.5})
    alone = [result("alice", 0.0, task="three", fault=Blame.OPERATOR)]
    assert _shares([*both, *alone]) == pytest.approx({"alice": 0.5, "bob": 0.5})


def test_nobody_lives_on_a_validator_that_breaks() -> None:
    """One real win, and then the validator fails on Alice in every task: these count for no more than the one that she entered."""
    rows = [result("alice", 1.0, task="one")]
    for i in range(20):
        rows += [result("alice", 0.0, task=f"t{i}", fault=Blame.OPERATOR), result("bob", 1.0, task=f"t{i}")]
    assert _shares(rows)["alice"] == pytest.approx(2 / 21)
    never = [result("carol", 0.0, task="t0", fault=Blame.OPERATOR), result("bob", 1.0, task="t0")]
    assert _shares(never) == {"bob": 1.0}


def test_tasks_that_a_miner_stayed_away_from_are_not_what_it_entered() -> None:
    """Alice won one of three measured tasks and stayed away from two; four are owed. They count as one: 1/3 · 1/4 of each."""
    rows = [result("alice", 1.0, task="won"), result("bob", 1.0, task="b"), result("carol", 1.0, task="c")]
    for i in range(4):
        rows += [result("alice", 0.0, task=f"t{i}", fault=Blame.OPERATOR), result("bob", 1.0, task=f"t{i}")]
    assert _shares(rows)["alice"] == pytest.approx(1 / 7 + 4 / 7 / 12)


def test_only_the_validators_failures_are_made_good() -> None:
    rows = [result("alice", 1.0, task="one"), result("bob", 1.0, task="two")]
    for blame in (Blame.MINER, Blame.OUTSIDE, Blame.CUSTOMER):
        assert _shares([*rows, result("alice", 0.0, task="two", fault=blame)]) == pytest.approx(
            {"alice": 0.5, "bob": 0.5}
        )


def test_tasks_weigh_by_size_and_by_age_in_blocks() -> None:
    rows = [result("large", 1.0, task="one", factor=3.0), result("small", 1.0, task="two")]
    assert _shares(rows) == pytest.approx({"large": 0.75, "small": 0.25})


@pytest.mark.parametrize(("days", "share"), [(0, 1 / 2), (2, 1 / 2), (5.5, 1 / 3), (7.25, 1 / 5), (9, 0), (10, 0)])
def test_a_task_counts_in_full_for_two_days_and_then_evenly_less_until_the_ninth(days: float, share: float) -> None:
    """Half way from two to nine days it weighs a half: one part in three beside a new one."""
    rows = [
        result("old", 1.0, task="one", block=NOW - int(days * BLOCKS_PER_DAY)),
        result("new", 1.0, task="two", block=NOW),
    ]
    assert _shares(rows).get("old", 0.0) == pytest.approx(share)


def test_time_without_tasks_changes_nothing() -> None:
    """Ages are counted from the newest deadline, so weights fade by what came after and never by waiting."""
    rows = [result("a", 1.0, task="one", block=NOW - 5000), result("b", 1.0, task="two", block=NOW)]
    later = [replace(row, deadline_block=row.deadline_block + 10**7) for row in rows]
    assert _shares(rows) == _shares(later)


def test_types_share_by_the_table_once_they_have_enough_tasks() -> None:
    shares = CHANCE.type_shares
    paid = _shares([*_many("instruct"), *_many("dpo"), *_many("grpo")])
    whole = shares["instruct"] + shares["dpo"] + shares["grpo"]
    assert paid == pytest.approx({name: shares[name] / whole for name in ("instruct", "dpo", "grpo")})


def test_a_type_with_few_tasks_shrinks_smoothly() -> None:
    """One fresh task of a type that wants eight has an eighth of the type's share."""
    shares = CHANCE.type_shares
    paid = _shares([*_many("instruct"), result("diffusion", 1.0, task="d", kind="diffusion")])
    part = shares["diffusion"] / 8
    assert paid["diffusion"] == pytest.approx(part / (part + shares["instruct"]))


def test_a_type_that_the_rules_do_not_name_is_paid_as_it_declares() -> None:
    paid = _shares([*_many("instruct"), *_many("song")])
    assert paid["song"] == pytest.approx(0.5 / (0.5 + CHANCE.type_shares["instruct"]))
    assert _shares([*_many("gone"), *_many("instruct")]) == {"instruct": 1.0}
    assert _shares(_many("gone")) == {}


def test_a_customers_tasks_are_capped_each_and_together() -> None:
    scheduled = _many("instruct", winner="honest")
    one = [result("friend", 1.0, task=f"deal-{i}", kind="grpo", customer="acme", factor=10.0) for i in range(10)]
    assert _shares([*scheduled, *one])["friend"] == pytest.approx(RULES.customer_share)
    many = [result("friend", 1.0, task=f"deal-{i}", customer=f"c{i}", factor=50.0) for i in range(40)]
    assert _shares([*scheduled, *many])["friend"] == pytest.approx(RULES.customers_share)


def test_a_customers_task_below_the_cap_pays_like_any_other() -> None:
    """One of 101 tasks of one size."""
    paid = _shares(
        [*_many("instruct", tasks=100, winner="honest"), result("friend", 1.0, task="deal", customer="acme")]
    )
    assert paid["friend"] == pytest.approx(1 / 101)


def test_without_a_schedule_customers_tasks_are_all_there_is() -> None:
    rows = [result("a", 1.0, task="one", customer="acme"), result("b", 1.0, task="two", customer="other")]
    assert _shares(rows) == pytest.approx({"a": 0.5, "b": 0.5})


def test_rows_of_another_version_do_not_count() -> None:
    others = [result("old", 3.0, task="one", version=1), result("newer", 3.0, task="three", version=3)]
    assert _shares([*others, result("new", 1.0, task="two")]) == {"new": 1.0}


def test_every_part_says_where_it_comes_from() -> None:
    rows = [
        *(result("alice", 1.0, task="one"), result("bob", 0.0, task="one")),
        *(
            result("alice", 0.0, task="two", customer="acme", fault=Blame.OPERATOR),
            result("bob", 1.0, task="two", customer="acme"),
        ),
    ]
    parts = CHANCE.account(rows, now=0.0, declared_shares={})
    told = {(part.task_id, str(part.hotkey)): part.why for part in parts}
    assert told["one", "alice"] == "98.00% of all pay goes to this instruct task; best with a chance of 100.0%"
    assert (
        "task of a customer; the validator failed to measure: paid as much as in all other tasks"
        in told["two", "alice"]
    )
    assert set(told) == {("one", "alice"), ("two", "alice")}  # Alice has won all that she was measured on
