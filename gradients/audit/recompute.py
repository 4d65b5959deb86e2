"""The rules of pay over what the record holds: the one file here that knows how gradients.scoring is called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from gradients.domain.evaluation import Fingerprint, Placing
from gradients.domain.failure import Failure
from gradients.domain.submission import BASE_ENTRANT
from gradients.domain.task import Hotkey
from gradients.errors import Blame
from gradients.record.models import EntrantPart, PlacingPart, TaskBody
from gradients.scoring.contest import REMEMBERED_WINNERS, Contest, Entry, Result, Winner, contest_seed
from gradients.scoring.rules import rules_at, rules_of, shares_of


def version_at(block: int) -> int:
    """Of the rules in force for a task that starts at `block`."""
    return rules_at(block).version


def placings(body: TaskBody, earlier: Sequence[TaskBody]) -> list[Placing]:
    """What the rules that the record names say of a task. Raises ValueError for rules or values that cannot be.

    Args:
        earlier: the tasks recorded before.
    """
    return rules_of(body.rules_version).place(_contest(body, earlier))


def rows_needed(body: TaskBody, earlier: Sequence[TaskBody]) -> dict[str, int]:
    """Hotkey -> on how many rows the rules have each measured miner measured. Raises ValueError for rules or values that cannot be.

    Args:
        earlier: the tasks recorded before.
    """
    needed = rules_of(body.rules_version).rows_needed(_contest(body, earlier))
    return {str(hotkey): rows for hotkey, rows in needed.items()}


def _contest(body: TaskBody, earlier: Sequence[TaskBody]) -> Contest:
    base, *miners = body.entrants
    return Contest(
        tuple(_entry(entrant) for entrant in miners),
        base.measurement.per_row if base.measurement else (),
        body.metric.better,
        base_parameters=body.data.base_parameters,
        hours=body.request.hours,
        seed=contest_seed(body.task_id, body.blocks.deadline_hash),
        earlier=tuple(_winners(body, earlier)),
    )


def draw(body: TaskBody, tasks: Sequence[TaskBody]) -> list[str]:
    """The pool by the rules, from what the record says went into the draw. Raises ValueError and KeyError for what cannot be drawn from.

    Args:
        tasks: those that the draw names.
    """
    given = body.draw or {}
    rules = rules_of(_whole(given["rules_version"]))
    accepted, seed, size = given["accepted"], _whole(given["seed"]), _whole(given["size"])
    if not isinstance(accepted, list):
        raise ValueError("who accepted is not a list")
    results = results_of(tasks)
    now = given["now"]
    return list(
        map(
            str,
            rules.draw(
                [Hotkey(str(each)) for each in accepted],
                results=results,
                now=float(now) if isinstance(now, int | float) else 0.0,
                size=size,
                seed=seed,
            ),
        )
    )


def shares(
    tasks: Sequence[TaskBody], *, rules_version: int, now: float, declared_shares: Mapping[str, float]
) -> dict[str, float]:
    """Every miner's share by the rows of these tasks. Raises ValueError for rules that are not known here."""
    rules = rules_of(rules_version)
    parts = rules.account(results_of(tasks), now=now, declared_shares=declared_shares)
    return {str(hotkey): share for hotkey, share in shares_of(parts).items()}


def window_blocks(rules_version: int) -> int | None:
    """How far before the newest deadline the rules look."""
    return rules_of(rules_version).window_blocks


def results_of(tasks: Iterable[TaskBody]) -> list[Result]:
    """Rows as the validator's ledger holds them, oldest deadline first."""
    ordered = sorted(tasks, key=lambda body: (body.blocks.deadline_block, body.task_id))
    return [_result(body, placing) for body in ordered for placing in body.placings]


def _result(body: TaskBody, placing: PlacingPart) -> Result:
    rules = rules_of(body.rules_version)
    faults = {entrant.entrant: entrant.fault for entrant in body.entrants}
    return Result(
        task_id=body.task_id,
        task_type=body.request.type,
        customer=body.customer,
        hotkey=Hotkey(placing.hotkey),
        points=placing.points,
        adjusted_points=placing.adjusted_points,
        factor=rules.factor(parameters=body.data.base_parameters, hours=body.request.hours),
        gain=placing.gain,
        copied=placing.copy_of is not None,
        fault=faults.get(placing.hotkey),
        deadline_block=body.blocks.deadline_block,
        scored_at=0.0,  # version 2 has no use for it
        rules_version=body.rules_version,
    )


def _entry(entrant: EntrantPart) -> Entry:
    measured, commitment = entrant.measurement, entrant.commitment
    return Entry(
        Hotkey(entrant.entrant),
        measured.per_row if measured else (),
        commitment.block if commitment else 0,
        (commitment.extrinsic or 0) if commitment else 0,
        failure=None if measured else Failure(entrant.fault or Blame.OPERATOR, entrant.code, ""),
        fingerprint=_fingerprint(entrant),
    )


def _fingerprint(entrant: EntrantPart) -> Fingerprint | None:
    mark = entrant.measurement.fingerprint if entrant.measurement else None
    return Fingerprint(mark.update, mark.outputs) if mark else None


def _winners(body: TaskBody, earlier: Sequence[TaskBody]) -> list[Winner]:
    """Models that won earlier tasks on this base, newest first."""
    before = [task for task in earlier if task.blocks.deadline_block < body.blocks.started_at_block]
    found = []
    for task in sorted(before, key=lambda task: (-task.blocks.deadline_block, task.task_id)):
        marks = {entrant.entrant: _fingerprint(entrant) for entrant in task.entrants if entrant.entrant != BASE_ENTRANT}
        best = next((placing.hotkey for placing in task.placings if placing.rank == 1), None)
        mark = marks.get(best) if best else None
        if best:
            found.append((task.data.base_digest, Winner(Hotkey(best), task.task_id, mark) if mark else None))
    return [winner for digest, winner in found[:REMEMBERED_WINNERS] if winner and digest == body.data.base_digest]


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{value!r} is not a whole number")
    return value
