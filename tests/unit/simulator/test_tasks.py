"""What simulated miners hand in."""

from __future__ import annotations

import numpy as np
import pytest

from gradients.errors import Blame
from gradients.scoring.contest import Contest, Entry
from gradients.simulator.market import Market, Operator, market_of
from gradients.simulator.tasks import ROWS, Asked, Asking, outcome
from gradients.tasks.registry import all_types


def _asked(seed: int = 1) -> Asked:
    return Asking(seed).scheduled(360)


def _outcome(market: Market, seed: int = 1) -> tuple[Contest, dict[str, Entry]]:
    contest = outcome(_asked(seed), market, [miner.hotkey for miner in market.miners])
    return contest, {entry.hotkey: entry for entry in contest.entries}


def test_the_types_of_tasks_keep_to_the_schedules_mix() -> None:
    asking = Asking(0)
    kinds = [asking.scheduled(0).task_type for _ in range(100)]
    for kind in all_types():
        assert kinds.count(kind.name) == pytest.approx(100 * kind.schedule_share, abs=1)


def test_models_gain_by_skill_and_silence_is_not_the_miners_fault() -> None:
    contest, entries = _outcome(market_of("mixed"))
    base = float(np.mean(contest.base))
    best, lazy = base - entries["honest00"].value, base - entries["lazy0"].value
    assert best > 2 * lazy > 0
    idle = entries["idle0"].failure
    assert idle is not None
    assert idle.blame is Blame.OUTSIDE


def test_a_leaked_copy_follows_its_source_row_by_row_and_commits_later() -> None:
    _, entries = _outcome(market_of("leak"))
    source = min((e for h, e in entries.items() if h.startswith("honest")), key=lambda entry: entry.value)
    copy = entries["copycats0"]
    assert float(np.std(np.subtract(copy.rows, source.rows))) < 0.001
    assert copy.order > source.order


def test_check_points_of_one_run_are_kin_and_no_copies() -> None:
    contest, entries = _outcome(market_of("checkpoints", Operator(2, different=True)))
    one, other, stranger = (np.subtract(entries[h].rows, contest.base) for h in ("sybil0", "sybil1", "honest01"))
    assert np.corrcoef(one, other)[0, 1] > np.corrcoef(one, stranger)[0, 1]
    assert float(np.std(one - other)) > 0.1 * float(np.std(one))


def test_memorisers_know_three_rows_in_ten_of_a_public_task() -> None:
    found = []
    for seed in range(20):
        contest, entries = _outcome(market_of("memorisers"), seed)
        halved = np.array(entries["memorisers0"].rows) < 0.7 * np.array(contest.base)
        found.append(halved[: int(0.3 * ROWS)].mean() > 0.5 > halved[int(0.3 * ROWS) :].mean())
    assert 0 < sum(found) < 20


def test_another_miner_at_the_end_changes_nothing_for_the_others() -> None:
    _, one = _outcome(market_of("honest", Operator(1)))
    _, four = _outcome(market_of("honest", Operator(4)))
    assert all(four[hotkey] == entry for hotkey, entry in one.items())
