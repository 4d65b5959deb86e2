"""What base and miners have on each held-out row of a scored task, beside the row itself.

Covers: nothing is told before the task is scored, when neither a row nor a value can be used against anybody any more; what is asked for is
bounded, however long a row is. Does not cover: who asks. Of a private task rows are nobody's but its customer's, and of a public one
auditors download the file by its digest from the record, so whoever calls this lets the task's own customer in and nobody else.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

from pydantic import JsonValue

from gradients.client.held_out import HeldOutRow, HeldOutRows, Order
from gradients.client.models import BEST, MetricName
from gradients.datasets.json_rows import bounded_lines
from gradients.domain.evaluation import Better, Measurement
from gradients.domain.submission import BASE_ENTRANT
from gradients.domain.task import Task, TaskState
from gradients.files.strict_json import strict_json
from gradients.repo.store import ContentStore
from gradients.scoring.contest import contest_seed
from gradients.scoring.row_order import places_of
from gradients.texts import harmless, storable
from validator.api.dependencies import NotFound
from validator.ledger import Ledger

MOST_LINE_BYTES = 16 * 1024 * 1024
LISTED_CHARACTERS, LISTED_MEMBERS = 1_000, 16  # of each text, and of each list, where rows are listed
DEEPEST = 32  # lists in lists: no type's rows come near it
WHOLE = 2**62

Values = Mapping[int, float]  # by the row's place in the file, from 0


class Cut(NamedTuple):
    """A value as it is shown, and whether something of it is missing."""

    value: JsonValue
    is_cut: bool


@dataclass(frozen=True, slots=True)
class _Entrants:
    """What everybody has on the rows of one task."""

    base: Values
    miners: Mapping[str, Values]  # by hotkey, who is measured
    total: int
    better: Better

    def gains(self, hotkey: str | None) -> Values:
        """How much better than the base a miner is, on the rows on which both are measured."""
        sign = 1.0 if self.better == "higher" else -1.0
        ours = self.miners[hotkey] if hotkey is not None else {}
        # zero is added so that equal values are 0 and not -0
        return {place: sign * (value - self.base[place]) + 0.0 for place, value in ours.items() if place in self.base}


def held_out_rows(
    ledger: Ledger, store: ContentStore, task: Task, *, miner: str = BEST, order: Order, after: int, limit: int
) -> HeldOutRows:
    """A page of rows. Blocking.

    Args:
        miner: whose gains count: a hotkey, or 'best' for the winner or, where nobody has won, whoever has the best result.
        order: by what the miner gains over the base, or loses against it, most first; or as they stand in the file.
        after: how many rows are passed over.

    Raises NotFound before the task is scored, and for a miner that was not measured.
    """
    measured = _measured(ledger, task)
    entrants = _entrants(ledger, task, measured)
    hotkey = _meant(ledger, task, measured, miner)
    gains = entrants.gains(hotkey)
    places = _sorted(entrants.total, gains, order)
    page = places[after : after + limit]
    contents = _contents(store.path(task.data.held_out.sha256), page)
    metric, end = measured[BASE_ENTRANT].metric, after + len(page)
    return HeldOutRows(
        metric=MetricName(name=metric.name, unit=metric.unit),
        better=metric.better,
        miner=hotkey,
        total=entrants.total,
        gained=sum(gain > 0 for gain in gains.values()),
        lost=sum(gain < 0 for gain in gains.values()),
        kept=contents is not None,
        rows=tuple(_row(task, entrants, gains, place, contents, whole=False) for place in page),
        next=end if page and end < len(places) else None,
    )


def held_out_row(ledger: Ledger, store: ContentStore, task: Task, number: int, *, miner: str = BEST) -> HeldOutRow:
    """One row, whole. Raises as `held_out_rows` does, and NotFound for a number that no row has. Blocking."""
    measured = _measured(ledger, task)
    entrants = _entrants(ledger, task, measured)
    if not 1 <= number <= entrants.total:
        raise NotFound(f"Task {task.id} has no held-out row {number}", fix=f"It has rows 1 to {entrants.total}")
    contents = _contents(store.path(task.data.held_out.sha256), [number - 1])
    gains = entrants.gains(_meant(ledger, task, measured, miner))
    return _row(task, entrants, gains, number - 1, contents, whole=True)


def cut(value: object, *, most: int, members: int, depth: int = DEEPEST) -> Cut:
    """A value of a row with its long texts and lists cut; texts lose their middle, lists their end.

    Args:
        most: characters of a text.
        members: of a list or an object.
    """
    if isinstance(value, str):
        text = storable(value)
        return Cut(text, is_cut=False) if len(text) <= most else Cut(harmless(text, most=most, lines=True), is_cut=True)
    if isinstance(value, dict | list):
        if depth == 0:
            return Cut("…", is_cut=True)
        names = list(value)[:members] if isinstance(value, dict) else None
        inner = [value[name] for name in names] if names is not None else value[:members]
        cuts = [cut(each, most=most, members=members, depth=depth - 1) for each in inner]
        missing = len(value) > members or any(each.is_cut for each in cuts)
        values = [each.value for each in cuts]
        shown = dict(zip(map(storable, names), values, strict=True)) if names is not None else values
        return Cut(cast(JsonValue, shown), is_cut=missing)
    return Cut(cast(JsonValue, value), is_cut=False)


def _measured(ledger: Ledger, task: Task) -> Mapping[str, Measurement]:
    """Everybody's measurement, the base among them."""
    if task.state is not TaskState.SCORED:
        raise NotFound(f"Task {task.id} is {task.state}; its held-out rows can be seen once it is scored")
    measured = ledger.submissions.measurements(task.id)
    if BASE_ENTRANT not in measured:
        raise NotFound(f"Nobody was measured in task {task.id}")
    return measured


def _entrants(ledger: Ledger, task: Task, measured: Mapping[str, Measurement]) -> _Entrants:
    base = measured[BASE_ENTRANT]
    total = len(base.per_row)
    drawn_by = None
    if any(each.rows_of is not None for each in measured.values()):
        deadline_hash = ledger.records.evidence(task.id).deadline_hash
        drawn_by = contest_seed(task.id, deadline_hash) if deadline_hash else None
    values = {name: _by_place(each, total, drawn_by) for name, each in measured.items()}
    miners = {name: found for name, found in values.items() if name != BASE_ENTRANT}
    return _Entrants(values[BASE_ENTRANT], miners, total, base.metric.better)


def _by_place(measured: Measurement, total: int, drawn_by: int | None) -> Values:
    """An entrant's values by the places of their rows.

    Args:
        drawn_by: the seed of the order in which a race took the rows; who stopped early in one has the first so many of them.
    """
    places: Sequence[int] = range(min(len(measured.per_row), total))
    if measured.rows_of is not None:
        known = len(measured.per_row)
        fits = drawn_by is not None and measured.rows_of == total and known <= total
        places = places_of(drawn_by, total, known=known).tolist() if fits and drawn_by is not None else ()
    return {
        place: value
        for place, value in zip(places, measured.per_row, strict=False)  # a race whose draw is not known has no places
        if math.isfinite(value)
    }


def _meant(ledger: Ledger, task: Task, measured: Mapping[str, Measurement], miner: str) -> str | None:
    """The hotkey that is meant; None for the best where no miner was measured."""
    miners = {name: each for name, each in measured.items() if name != BASE_ENTRANT}
    if miner != BEST:
        if miner not in miners:
            raise NotFound(f"Task {task.id} has no measured model of {harmless(miner, most=64)}")
        return miner
    won = next((placing.hotkey for placing in ledger.placings.of_task(task.id) if placing.rank == 1), None)
    if won in miners or not miners:
        return won if won in miners else None
    sign = -1.0 if measured[BASE_ENTRANT].metric.better == "higher" else 1.0
    return min(miners, key=lambda name: (sign * miners[name].value, name))


def _sorted(total: int, gains: Values, order: Order) -> list[int]:
    """Places of all rows; those without a gain come last."""
    if order == "file":
        return list(range(total))
    sign = -1.0 if order == "gained" else 1.0
    return sorted(range(total), key=lambda place: (place not in gains, sign * gains.get(place, 0.0), place))


def _contents(file: Path, places: Collection[int]) -> Mapping[int, object] | None:
    """Rows by their places; None when the file is no longer kept."""
    wanted, found = set(places), dict[int, object]()
    try:
        with file.open("rb") as stream:
            for place, line in enumerate(bounded_lines(stream, file.name[:12], most=MOST_LINE_BYTES)):
                if place in wanted:
                    found[place] = strict_json(line)
                if len(found) == len(wanted):
                    break
    except FileNotFoundError:
        return None
    return found


def _row(
    task: Task, entrants: _Entrants, gains: Values, place: int, contents: Mapping[int, object] | None, *, whole: bool
) -> HeldOutRow:
    content = (contents or {}).get(place)
    characters, members = (WHOLE, WHOLE) if whole else (LISTED_CHARACTERS, LISTED_MEMBERS)
    shown = cut(content, most=characters, members=members)
    return HeldOutRow(
        row=place + 1,
        content=shown.value if isinstance(shown.value, dict) else None,
        is_cut=shown.is_cut,
        made_up=place >= entrants.total - task.data.made_up_rows,
        base=entrants.base.get(place),
        miners={name: values[place] for name, values in entrants.miners.items() if place in values},
        gain=gains.get(place),
    )
