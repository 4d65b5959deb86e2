"""Entrants that stopped early, in the record: an honest race raises no alarm, and nobody is stopped at will."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from gradients.audit import recompute
from gradients.audit.report import Checks
from gradients.audit.scores import check_measurements, check_placings
from gradients.record.models import EntrantPart, MeasurementPart, PlacingPart, TaskBody
from gradients.scoring.contest import contest_seed
from gradients.scoring.row_order import places_of
from tests.unit.audit.conftest import Published

ROWS = 400


def _measurement(rows: np.ndarray, *, early: bool = False) -> MeasurementPart:
    stderr = float(np.std(rows, ddof=1) / np.sqrt(len(rows)))
    return MeasurementPart(
        value=float(np.mean(rows)),
        stderr=stderr,
        per_row=tuple(rows.tolist()),
        fingerprint=None,
        rows_of=ROWS if early else None,
    )


def _placed(body: TaskBody) -> TaskBody:
    placings = [asdict(placing) for placing in sorted(recompute.placings(body, ()), key=lambda placing: placing.hotkey)]
    parts = tuple(
        PlacingPart.model_validate({name: each[name] for name in PlacingPart.model_fields}) for each in placings
    )
    return body.model_copy(update={"placings": parts})


def _with(body: TaskBody, rows: dict[str, np.ndarray]) -> TaskBody:
    """The body with other values by row; whoever has fewer than all has stopped."""

    def part(entrant: EntrantPart) -> EntrantPart:
        measured = rows.get(entrant.entrant)
        made = None if measured is None else _measurement(measured, early=len(measured) < ROWS)
        return entrant.model_copy(update={"measurement": made})

    data = body.data.model_copy(update={"held_out_rows": ROWS})
    return _placed(
        body.model_copy(update={"entrants": tuple(part(entrant) for entrant in body.entrants), "data": data})
    )


def _stopped(body: TaskBody, rows: np.ndarray, known: int) -> np.ndarray:
    found: np.ndarray = rows[places_of(contest_seed(body.task_id, body.blocks.deadline_hash), ROWS, known=known)]
    return found


@pytest.fixture
def all_rows(published: Published) -> tuple[TaskBody, dict[str, np.ndarray]]:
    """A recorded task whose measured miners are the better the earlier they come in the alphabet, on 400 rows."""
    body = next(TaskBody.model_validate(record.body) for record in published.records if record.kind == "task")
    rng = np.random.default_rng(1)
    base = 2.0 * rng.gamma(25, 1 / 25, ROWS)
    names = [entrant.entrant for entrant in body.entrants[1:] if entrant.measurement is not None]
    rows = {name: base * (0.8 + 0.05 * place) + 0.08 * rng.standard_normal(ROWS) for place, name in enumerate(names)}
    return body, {body.entrants[0].entrant: base, **rows}


def _alarms(body: TaskBody) -> list[str]:
    checks = Checks("here")
    check_measurements(body, checks)
    check_placings(body, [], checks)
    return [alarm.field for alarm in checks.found]


def _raced(body: TaskBody, rows: dict[str, np.ndarray]) -> tuple[TaskBody, dict[str, np.ndarray]]:
    needed = recompute.rows_needed(_with(body, rows), ())
    left = {name: _stopped(body, each, needed.get(name, ROWS)) for name, each in rows.items()}
    return _with(body, left), left


def test_an_honest_race_is_told_from_no_other_record(all_rows: tuple[TaskBody, dict[str, np.ndarray]]) -> None:
    body, rows = all_rows
    whole, (raced, left) = _with(body, rows), _raced(body, rows)
    assert min(len(each) for each in left.values()) < ROWS
    assert not _close(whole)
    assert not _close(raced)
    assert {each.hotkey: each.points for each in raced.placings} == {
        each.hotkey: each.points for each in whole.placings
    }


def test_whoever_is_stopped_too_early_is_named(all_rows: tuple[TaskBody, dict[str, np.ndarray]]) -> None:
    body, rows = all_rows
    _, left = _raced(body, rows)
    best = min((name for name in rows if name != body.entrants[0].entrant), key=lambda name: rows[name].mean())
    assert len(left[best]) == ROWS
    cheated = _with(body, {**left, best: _stopped(body, rows[best], 64)})
    place = [entrant.entrant for entrant in cheated.entrants].index(best)
    assert f"body.entrants.{place}.measurement.per_row" in _alarms(cheated)


def test_a_base_with_fewer_rows_is_named(all_rows: tuple[TaskBody, dict[str, np.ndarray]]) -> None:
    body, rows = all_rows
    base = body.entrants[0]
    part = base.model_copy(update={"measurement": _measurement(_stopped(body, rows[base.entrant], 64), early=True)})
    cheated = body.model_copy(update={"entrants": (part, *body.entrants[1:])})
    assert "body.entrants.0.measurement.rows_of" in _alarms(cheated)


def _close(body: TaskBody) -> list[str]:
    """Alarms but for means and errors, which numpy adds up in another order."""
    return [field for field in _alarms(body) if not field.endswith((".value", ".stderr"))]
