"""Every number that led to a weight, from the ledger alone: the tasks that a decision names, added up again by the rules in force then.

A decision that repeats an earlier one is explained by that one. Sums that differ from what was decided are told, not hidden.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import cast

from gradients.domain.json import JsonObject
from gradients.domain.task import Hotkey
from gradients.errors import SetupError
from gradients.scoring.contest import Part, Result
from gradients.scoring.rules import rules_at, shares_of
from gradients.tasks.registry import declared_shares
from validator.ledger import Ledger
from validator.ledger.outbox import Outgoing

SAME = 1e-9  # sums of the same numbers in the same order are equal; the ledger keeps them as JSON


@dataclass(frozen=True, slots=True)
class CountedTask:
    """A task in the window, and what it pays."""

    id: str
    type: str
    customer: str
    deadline_block: int
    age_blocks: int  # before the newest deadline
    factor: float  # of its size
    weight: float  # of all tasks' 1; 0 for one that nobody won
    chances: Mapping[Hotkey, float]  # of everybody who took part
    parts: Mapping[Hotkey, float]  # of everybody's weight


@dataclass(frozen=True, slots=True)
class Verdict:
    """How weights were decided."""

    rules_version: int
    block: int  # whose rules these are
    tasks: tuple[CountedTask, ...]  # the newest deadline first
    parts: tuple[Part, ...]
    shares: Mapping[Hotkey, float]  # the parts added up
    call: Outgoing | None  # the newest decision, whether it was sent or not
    decided: Outgoing | None  # the one that it repeats, or itself

    @property
    def as_decided(self) -> bool:
        """Whether adding up again gives what was decided; True as well where nothing was."""
        return self.decided is None or _alike(self.shares, decided_shares(self.decided))


def last_verdict(ledger: Ledger) -> Verdict:
    """The newest decision, or where there is none what would be decided now."""
    results = ledger.placings.results(window_blocks=None)
    calls = ledger.outbox.all()
    same = list(takewhile(lambda call: call.payload == calls[0].payload, calls))
    decided = same[-1] if same else None
    if decided is not None:
        counted = cast(list[str], decided.payload["tasks"])
        results = [result for result in results if result.task_id in counted]
    block = decided.decided_at_block if decided else max((result.deadline_block for result in results), default=0)
    rules = rules_at(block)
    now = max((result.scored_at for result in results), default=0.0)
    parts = rules.account(results, now=now, declared_shares=declared_shares())
    mine = [result for result in results if result.rules_version == rules.version]
    tasks = _counted(mine, parts, window_blocks=rules.window_blocks)
    call = calls[0] if calls else None
    return Verdict(rules.version, block, tuple(tasks), tuple(parts), shares_of(parts), call, decided)


def decided_shares(call: Outgoing) -> dict[Hotkey, float]:
    """hotkey -> share, as a decision has them."""
    shares = cast(Mapping[str, float], call.payload["shares"])
    return {Hotkey(hotkey): share for hotkey, share in shares.items()}


def in_full(verdict: Verdict) -> JsonObject:
    """Everything about a verdict as JSON."""
    return {
        **_decision(verdict),
        "decided": _call_json(verdict.decided),
        "tasks": [
            {**_about(task), "chances": _plain(task.chances), "parts": _plain(task.parts)} for task in verdict.tasks
        ],
        "shares": _plain(verdict.shares),
    }


@dataclass(frozen=True, slots=True)
class Entered:
    """One of a miner's tasks."""

    task: CountedTask
    chance: float
    part: float  # of the miner's weight
    result: str  # what the score said
    why: str  # where the part comes from; empty without one


@dataclass(frozen=True, slots=True)
class SentValue:
    """A uid's place in the newest row that went to the chain."""

    uid: int  # that the miner had at its newest task
    value: int  # u16; 0 where the row has none
    part: float  # of the row's sum


@dataclass(frozen=True, slots=True)
class MinersWeight:
    """All that led to one miner's weight."""

    hotkey: Hotkey
    verdict: Verdict
    tasks: tuple[Entered, ...]  # the newest deadline first
    sent: SentValue | None

    @property
    def share(self) -> float:
        """Of everybody's 1."""
        return self.verdict.shares.get(self.hotkey, 0.0)

    def in_full(self) -> JsonObject:
        """All of it as JSON."""
        decided = self.verdict.decided
        return {
            "hotkey": self.hotkey,
            **_decision(self.verdict),
            "tasks": [
                {**_about(each.task), "chance": each.chance, "part": each.part, "result": each.result, "why": each.why}
                for each in self.tasks
            ],
            "share": self.share,
            "decided_share": decided_shares(decided).get(self.hotkey, 0.0) if decided else None,
            "sent_value": asdict(self.sent) if self.sent else None,
        }


def of_miner(verdict: Verdict, ledger: Ledger, hotkey: Hotkey) -> MinersWeight:
    """Everything that led to one miner's weight. Raises SetupError for one that was in no task of the window."""
    entered = [task for task in verdict.tasks if hotkey in task.chances]
    if not entered:
        raise SetupError(
            f"{hotkey} has no result in the {len(verdict.tasks)} tasks that count",
            fix="`gradients weights show` lists them",
        )
    why: dict[str, list[str]] = defaultdict(list)
    for part in verdict.parts:
        if part.hotkey == hotkey:
            why[part.task_id].append(part.why)
    reasons = {task.id: {p.hotkey: p.reason for p in ledger.placings.of_task(task.id)} for task in entered}
    uids = {submission.hotkey: submission.uid for submission in ledger.submissions.of_task(entered[0].id)}
    return MinersWeight(
        hotkey,
        verdict,
        tuple(
            Entered(
                task,
                task.chances[hotkey],
                task.parts.get(hotkey, 0.0),
                reasons[task.id][hotkey],
                "; ".join(why[task.id]),
            )
            for task in entered
        ),
        _sent_to(verdict.call, uids.get(hotkey)),
    )


def _counted(results: Sequence[Result], parts: Sequence[Part], *, window_blocks: int | None) -> list[CountedTask]:
    """The tasks that are looked at, the newest deadline first."""
    newest = max((result.deadline_block for result in results), default=0)
    rows: dict[str, list[Result]] = defaultdict(list)
    paid: dict[str, dict[Hotkey, float]] = defaultdict(dict)
    for result in results:
        if window_blocks is None or newest - result.deadline_block <= window_blocks:
            rows[result.task_id].append(result)
    for part in parts:
        paid[part.task_id][part.hotkey] = paid[part.task_id].get(part.hotkey, 0.0) + part.share
    tasks = [
        CountedTask(
            id=task_id,
            type=each[0].task_type,
            customer=each[0].customer,
            deadline_block=each[0].deadline_block,
            age_blocks=newest - each[0].deadline_block,
            factor=each[0].factor,
            weight=math.fsum(paid[task_id].values()),
            chances={result.hotkey: result.points for result in each},
            parts=paid[task_id],
        )
        for task_id, each in rows.items()
    ]
    return sorted(tasks, key=lambda task: (task.age_blocks, task.id))


def _decision(verdict: Verdict) -> JsonObject:
    return {
        "rules_version": verdict.rules_version,
        "block": verdict.block,
        "as_decided": verdict.as_decided,
        "call": _call_json(verdict.call),
    }


def _about(task: CountedTask) -> JsonObject:
    return {
        "task": task.id,
        "type": task.type,
        "customer": task.customer,
        "deadline_block": task.deadline_block,
        "age_blocks": task.age_blocks,
        "factor": task.factor,
        "weight": task.weight,
    }


def _call_json(call: Outgoing | None) -> JsonObject | None:
    if call is None:
        return None
    return {
        "key": call.key,
        "state": call.state.value,
        "decided_at_block": call.decided_at_block,
        "sent_at_block": call.sent_at_block,
        "problem": call.problem,
        "shares": _plain(decided_shares(call)),
        "sent": call.sent,
        "receipt": call.receipt,
    }


def _sent_to(call: Outgoing | None, uid: int | None) -> SentValue | None:
    sent = call.sent if call else None
    if sent is None or uid is None:
        return None
    uids, values = cast(list[int], sent["uids"]), cast(list[int], sent["values"])
    value = dict(zip(uids, values, strict=True)).get(uid, 0)
    return SentValue(uid, value, value / sum(values))


def _alike(ours: Mapping[Hotkey, float], theirs: Mapping[Hotkey, float]) -> bool:
    return all(abs(ours.get(hotkey, 0.0) - theirs.get(hotkey, 0.0)) <= SAME for hotkey in {*ours, *theirs})


def _plain(shares: Mapping[Hotkey, float]) -> JsonObject:
    return {str(hotkey): share for hotkey, share in shares.items()}
