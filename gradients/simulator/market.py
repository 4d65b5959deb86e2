"""Who takes part in a simulated market: 64 hotkeys, honest ones of many skills and those that try to live on others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from gradients.domain.task import Hotkey

HOTKEYS = 64
GAP = 0.03  # in skill, between the best and the next
LEAST_SKILL = 0.7  # of honest miners
NEWCOMER_DAY = 21
OPERATOR_ROOM = (
    8  # hotkeys kept free for an operator of several, so that the others stay who they are whatever their number
)

Conduct = Literal["trains", "reuploads", "copies", "silent", "one_model", "one_run"]


@dataclass(frozen=True, slots=True)
class Miner:
    """A hotkey and what it does in every task."""

    hotkey: Hotkey
    group: str  # whose pay is added up
    conduct: Conduct = "trains"
    skill: float = 0.0  # the part of a task's best gain that its models reach on average
    own_failures: float = 0.0  # part of its tasks
    our_failures: float = 0.0  # part of its submissions that the validator breaks on
    first_day: int = 0
    commits_early: bool = False
    ring: bool = False  # knows the customers' rows, and works for them
    scheduled: bool = True  # takes part in the schedule's tasks
    memory: float = 0.0  # part of a public task's rows that it has seen before


@dataclass(frozen=True, slots=True)
class Market:
    """Miners, and what is particular about their tasks."""

    name: str
    miners: tuple[Miner, ...]
    customers: int = 0  # keys of one customer; each posts a task a day that a ring of miners knows
    leak: bool = False  # submissions can be read before the deadline
    step: float = 0.0  # in skill, from one check point of a run to the next
    public_share: float = 0.0  # of tasks: held-out rows that lie in public
    validators: int = 1  # that each post tasks of their own
    weight_copiers: int = 0  # validators that send the others' last weights


@dataclass(frozen=True, slots=True)
class Operator:
    """Several hotkeys of one owner."""

    hotkeys: int
    skill: float = 1.0
    different: bool = False  # check points of one run that differ, and not one model
    step: float = 0.03  # in skill, from one check point to the next


OPERATORS = {"checkpoints": Operator(4, different=True)}  # of markets that have one without being asked


def market_of(name: str, operator: Operator | None = None, *, room: int = OPERATOR_ROOM) -> Market:
    """A market by its name, with an operator of several hotkeys in it if one is given.

    Args:
        room: hotkeys that are kept free for the operator.

    Raises ValueError for a name that is not known.
    """
    if name not in MARKETS:
        raise ValueError(f"There is no market '{name}' (known: {', '.join(MARKETS)})")
    operator = operator or OPERATORS.get(name)
    if operator is None:
        return replace(MARKETS[name]([], HOTKEYS, 1.0), name=name)
    owned = _operators(operator)
    best = 1.0 if operator.skill < 1.0 else 1.0 - GAP
    made = MARKETS[name](owned, HOTKEYS - max(room, operator.hotkeys), best)
    return replace(made, name=name, step=operator.step)


def _operators(operator: Operator) -> list[Miner]:
    conduct: Conduct = "one_run" if operator.different else "one_model"
    return [Miner(Hotkey(f"sybil{i}"), "sybils", conduct, operator.skill) for i in range(operator.hotkeys)]


def _honest(count: int, best: float) -> list[Miner]:
    """One at the top, a gap, then evenly downwards."""
    second = 1.0 - GAP
    step = (second - LEAST_SKILL) / max(count - 2, 1)
    skills = [best, *(second - step * i for i in range(count - 1))][:count]
    return [Miner(Hotkey(f"honest{i:02}"), "honest", skill=skill) for i, skill in enumerate(skills)]


def _several(group: str, count: int, conduct: Conduct, skill: float = 0.0) -> list[Miner]:
    return [Miner(Hotkey(f"{group}{i}"), group, conduct, skill) for i in range(count)]


def _filled(others: list[Miner], owned: list[Miner], room: int, best: float) -> tuple[Miner, ...]:
    return (*_honest(room - len(others), best), *others, *owned)


Maker = Callable[[list[Miner], int, float], Market]


def _plain(owned: list[Miner], room: int, best: float) -> Market:
    return Market("", _filled([], owned, room, best))


def _mixed(owned: list[Miner], room: int, best: float) -> Market:
    """What a subnet looks like: a third of the hotkeys would rather not work."""
    others = [
        *_several("copycats", 4, "copies"),
        *_several("reuploaders", 4, "reuploads"),
        *(replace(miner, own_failures=0.4) for miner in _several("flaky", 4, "trains", 0.93)),
        *_several("lazy", 4, "trains", 0.3),
        *_several("idle", 4, "silent"),
        *(replace(miner, commits_early=True) for miner in _several("hasty", 2, "trains", 0.96)),
    ]
    if not owned:
        owned, room = _operators(Operator(8, 0.95)), room - 8
    return Market("", _filled(others, owned, room, best))


def _leak(owned: list[Miner], room: int, best: float) -> Market:
    return Market("", _filled(_several("copycats", 4, "copies"), owned, room, best), leak=True)


def _idle(owned: list[Miner], room: int, best: float) -> Market:
    return Market("", _filled(_several("idle", 16, "silent"), owned, room, best))


def _customer(owned: list[Miner], room: int, best: float) -> Market:
    """One customer has one task a day done by its own miners, and by nobody else."""
    ring = [replace(miner, ring=True, scheduled=False) for miner in _several("ring", 4, "trains", 1.6)]
    return Market("", _filled(ring, owned, room, best), customers=1)


def _collusion(owned: list[Miner], room: int, best: float) -> Market:
    """The same under twenty customers' keys, by miners that take part everywhere."""
    ring = [replace(miner, ring=True) for miner in _several("ring", 8, "trains", 0.9)]
    return Market("", _filled(ring, owned, room, best), customers=20)


def _faults(owned: list[Miner], room: int, best: float) -> Market:
    """The validator breaks on a twentieth of all submissions, and on six times as many of four miners'."""
    miners = _filled([], owned, room, best)
    struck = {0, 2, 5, 10}
    return Market(
        "",
        tuple(
            replace(m, our_failures=0.3, group="struck") if i in struck else replace(m, our_failures=0.05)
            for i, m in enumerate(miners)
        ),
    )


def _newcomer(owned: list[Miner], room: int, best: float) -> Market:
    """A miner better than all others arrives."""
    new = Miner(Hotkey("newcomer"), "newcomer", skill=1.0 + GAP, first_day=NEWCOMER_DAY)
    return Market("", _filled([new], owned, room, best))


def _memorisers(owned: list[Miner], room: int, best: float) -> Market:
    """A quarter of the tasks has public rows; four miners have trained on 30 % of those that the validator holds out."""
    others = [replace(miner, memory=0.3) for miner in _several("memorisers", 4, "trains", 0.8)]
    return Market("", _filled(others, owned, room, best), public_share=0.25)


def _validators(owned: list[Miner], room: int, best: float) -> Market:
    """Five validators with tasks of their own, and one that copies weights."""
    return Market("", _filled([], owned, room, best), validators=5, weight_copiers=1)


MARKETS: Mapping[str, Maker] = {
    "honest": _plain,
    "mixed": _mixed,
    "leak": _leak,
    "idle": _idle,
    "customer": _customer,
    "checkpoints": _plain,
    "faults": _faults,
    "newcomer": _newcomer,
    "memorisers": _memorisers,
    "collusion": _collusion,
    "validators": _validators,
}
