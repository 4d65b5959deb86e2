"""How version 2 adds up: what each scored task pays whom, from the record alone.

A task weighs by its size and its age, in blocks before the newest deadline: in full for two days, then evenly less, nothing from the
ninth day on. Scheduled tasks share by their types, each type's share shrinking smoothly while it has few tasks; a customer's tasks
count as more of the same, up to a limit for each customer and one for all. Nothing else comes in, so pay is a sum over tasks: splitting
a hotkey, or merging two, changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gradients.domain.task import Hotkey
from gradients.errors import Blame
from gradients.scoring.contest import SCHEDULED, Part, Result

BLOCKS_PER_DAY = 7_200  # of 12 seconds


@dataclass(frozen=True, slots=True)
class AccountRules:
    """How tasks weigh against each other."""

    full_blocks: int = 2 * BLOCKS_PER_DAY  # so long a task weighs its size …
    window_blocks: int = 9 * BLOCKS_PER_DAY  # … and from there on evenly less, down to nothing
    full_type: float = 8.0  # a type has its whole share once its tasks, each shrunk with age, add up to so many
    customers_share: float = 0.2  # of all pay, at most
    customer_share: float = 0.02  # of all pay, for the tasks of one customer at most


@dataclass(slots=True)
class _Verdict:
    """One task's rows, read together."""

    task_type: str
    customer: str
    size: float  # W·freshness
    freshness: float  # 1 for a new task, 0 for one that no longer counts
    prizes: dict[Hotkey, float] = field(default_factory=dict)  # hotkey -> chance, for chances above 0
    entered: set[Hotkey] = field(default_factory=set)
    owed: set[Hotkey] = field(default_factory=set)  # who failed by the validator's fault
    weight: float = 0.0  # of all tasks' 1


def account(results: Sequence[Result], rules: AccountRules, *, shares: Mapping[str, float]) -> list[Part]:
    """What each task pays whom, summing to 1; empty when nobody has won anything.

    Args:
        results: rows of any version; those of version 2 count.
        shares: task type -> part of the pay of scheduled tasks.
    """
    verdicts = _verdicts(results, rules)
    won = {task_id: verdict for task_id, verdict in verdicts.items() if verdict.prizes}
    _weigh(won.values(), rules, shares)
    standing = {hotkey: _standing(hotkey, won.values()) for v in won.values() for hotkey in v.owed}
    parts = []
    for task_id, verdict in sorted(won.items()):
        owed = {hotkey: standing[hotkey] for hotkey in sorted(verdict.owed)}
        rest = max(0.0, 1.0 - sum(owed.values()))
        whose = "" if verdict.customer == SCHEDULED else " of a customer"
        of_all = f"{verdict.weight:.2%} of all pay goes to this {verdict.task_type} task{whose}"
        for hotkey, chance in sorted(verdict.prizes.items()):
            why = f"{of_all}; best with a chance of {chance:.1%}"
            parts.append(Part(hotkey, verdict.weight * chance * rest, task_id, why))
        for hotkey, share in owed.items():
            why = f"{of_all}; the validator failed to measure: paid as much as in all other tasks ({share:.2%})"
            parts.append(Part(hotkey, verdict.weight * share, task_id, why))
    return [part for part in parts if part.share > 0]


def _verdicts(results: Iterable[Result], rules: AccountRules) -> dict[str, _Verdict]:
    """Task id -> its rows, for the tasks of the window."""
    mine = [result for result in results if result.rules_version == 2]
    newest = max((result.deadline_block for result in mine), default=0)
    verdicts = dict[str, _Verdict]()
    for result in mine:
        age_blocks = newest - result.deadline_block
        if age_blocks >= rules.window_blocks:
            continue
        freshness = min(1.0, (rules.window_blocks - age_blocks) / (rules.window_blocks - rules.full_blocks))
        verdict = verdicts.setdefault(
            result.task_id, _Verdict(result.task_type, result.customer, result.factor * freshness, freshness)
        )
        if result.fault is Blame.OPERATOR:
            verdict.owed.add(result.hotkey)
        elif result.fault is not Blame.OUTSIDE:
            verdict.entered.add(result.hotkey)
        if result.points > 0:
            verdict.prizes[result.hotkey] = result.points
    return verdicts


def _weigh(verdicts: Iterable[_Verdict], rules: AccountRules, shares: Mapping[str, float]) -> None:
    """Give every task its weight; together 1, unless no type has a share."""
    verdicts = list(verdicts)
    scheduled = [verdict for verdict in verdicts if verdict.customer == SCHEDULED]
    counted = scheduled or verdicts  # without a schedule nothing but customers' tasks is left to pay by
    of_type: dict[str, list[_Verdict]] = defaultdict(list)
    for verdict in counted:
        of_type[verdict.task_type].append(verdict)
    parts = {
        name: shares.get(name, 0.0) * min(1.0, sum(verdict.freshness for verdict in group) / rules.full_type)
        for name, group in of_type.items()
    }
    whole = sum(parts.values())
    if not whole:
        return
    customers = _customers(verdicts, rules) if scheduled else {}
    for name, group in of_type.items():
        size = sum(verdict.size for verdict in group)
        for verdict in group:
            verdict.weight = parts[name] / whole * verdict.size / size * (1.0 - sum(customers.values()))
    for customer, part in customers.items():
        group = [verdict for verdict in verdicts if verdict.customer == customer]
        size = sum(verdict.size for verdict in group)
        for verdict in group:
            verdict.weight = part * verdict.size / size


def _customers(verdicts: Sequence[_Verdict], rules: AccountRules) -> dict[str, float]:
    """Customer -> its tasks' part of all pay: what their size would be worth among all tasks, within the limits."""
    sizes: dict[str, float] = defaultdict(float)
    for verdict in verdicts:
        sizes[verdict.customer] += verdict.size
    whole = sum(sizes.values())
    parts = {name: min(size / whole, rules.customer_share) for name, size in sizes.items() if name != SCHEDULED}
    together = sum(parts.values())
    shrink = rules.customers_share / max(together, rules.customers_share)
    return {name: part * shrink for name, part in parts.items()}


def _standing(hotkey: Hotkey, verdicts: Iterable[_Verdict]) -> float:
    """The share that a miner has without the tasks that failed by the validator's fault.

    Paid in those, too, it leaves the miner's weight as it is. They count for no more than the tasks that it has really entered, so that
    nobody can live on a validator that breaks.
    """
    won = entered = missed = rest = 0.0
    for verdict in verdicts:
        if hotkey in verdict.owed:
            missed += verdict.weight
            continue
        rest += verdict.weight
        won += verdict.weight * verdict.prizes.get(hotkey, 0.0)
        entered += verdict.weight if hotkey in verdict.entered else 0.0
    return won / rest * min(1.0, entered / missed) if rest > 0 and missed > 0 else 0.0
