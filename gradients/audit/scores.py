"""From values by row to places: means, errors, the pool that was drawn, and what the rules make of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from gradients.audit import recompute
from gradients.audit.report import Checks
from gradients.domain.json import Json
from gradients.domain.submission import BASE_ENTRANT
from gradients.errors import GradientsError
from gradients.record.models import TaskBody
from gradients.tasks.registry import task_type


def check_measurements(body: TaskBody, checks: Checks) -> None:
    """Whether there is one outcome for each entrant, and whether values are the means of their rows."""
    names = [entrant.entrant for entrant in body.entrants]
    expected = [BASE_ENTRANT, *sorted(set(names) - {BASE_ENTRANT})]
    checks.holds("body.entrants", names == expected, ", ".join(names), f"once each, in order: {', '.join(expected)}")
    checks.holds("body.entrants.0", body.entrants[0].measurement is not None, None, "a measurement of the base")
    checks.equal("body.entrants.0.start_seed", body.entrants[0].start_seed, None)
    for place, entrant in enumerate(body.entrants):
        path, measured = f"body.entrants.{place}", entrant.measurement
        checks.holds(f"{path}.fault", (measured is None) == (entrant.fault is not None), entrant.fault, "of failures")
        checks.holds(f"{path}.code", (measured is None) == bool(entrant.code), entrant.code, "of failures only")
        if measured is None:
            continue
        rows, all_rows = measured.per_row, body.data.held_out_rows
        early = measured.rows_of is not None
        checks.equal(f"{path}.measurement.rows_of", measured.rows_of, all_rows if early else None)
        checks.holds(f"{path}.measurement.rows_of", not early or place > 0, measured.rows_of, "of submissions only")
        fits = len(rows) < all_rows if early else len(rows) == all_rows
        if not checks.holds(f"{path}.measurement.per_row", fits, len(rows), f"{'fewer than ' * early}{all_rows}"):
            continue
        if not rows:
            continue
        checks.equal(f"{path}.measurement.value", measured.value, statistics.fmean(rows))
        stderr = statistics.stdev(rows) / math.sqrt(len(rows)) if len(rows) > 1 else 0.0
        checks.equal(f"{path}.measurement.stderr", measured.stderr, stderr)
    try:
        metric = task_type(body.request.type).metric
    except GradientsError as error:
        checks.alarm("body.request.type", body.request.type, str(error))
        return
    if body.metric.version != metric.version and body.metric.name == metric.name:
        checks.alarm("body.metric.version", body.metric.version, metric.version)
    for name in ("name", "unit", "better"):
        checks.equal(f"body.metric.{name}", getattr(body.metric, name), getattr(metric, name))


def check_draw(body: TaskBody, earlier: Mapping[str, TaskBody], checks: Checks) -> None:
    """Whether the pool is what the rules draw from what the record says went in."""
    pool = [entrant.entrant for entrant in body.entrants[1:]]
    if body.draw is None:
        checks.alarm("body.draw", None, "what went into the draw")
        return
    checks.equal("body.draw.rules_version", body.draw.get("rules_version"), _version(body))
    names = body.draw.get("tasks")
    wanted = [str(name) for name in names] if isinstance(names, list) else []
    if unknown := [name for name in wanted if name not in earlier]:
        checks.alarm("body.draw.tasks", ", ".join(unknown), "only tasks that were recorded before")
        return
    try:
        drawn = recompute.draw(body, [earlier[name] for name in wanted])
    except (KeyError, ValueError, TypeError) as error:
        checks.alarm("body.draw", str(body.draw)[:200], f"nothing can be drawn from it: {error}")
        return
    checks.equal("body.draw.pool", body.draw.get("pool"), drawn)
    checks.equal("body.entrants", pool, sorted(drawn))


def check_placings(body: TaskBody, earlier: Sequence[TaskBody], checks: Checks) -> None:
    """Whether the placings are what the rules of the task's start block make of the values."""
    if not checks.equal("body.rules_version", body.rules_version, _version(body)):
        return
    try:
        made = {str(placing.hotkey): placing for placing in recompute.placings(body, earlier)}
    except ValueError as error:
        checks.alarm("body.placings", None, f"the rules cannot place this: {error}")
        return
    _check_race(body, earlier, checks)
    given = [placing.hotkey for placing in body.placings]
    if not checks.equal("body.placings", given, sorted(made)):
        return
    for place, placing in enumerate(body.placings):
        for name in ("rank", "points", "adjusted_points", "gain", "copy_of", "fault"):
            recomputed: Json = getattr(made[placing.hotkey], name)
            checks.equal(f"body.placings.{place}.{name}", getattr(placing, name), recomputed)
    given_faults = {placing.hotkey: placing.fault for placing in body.placings}
    for place, entrant in enumerate(body.entrants[1:], start=1):
        checks.equal(f"body.entrants.{place}.fault", entrant.fault, given_faults.get(entrant.entrant))


def _check_race(body: TaskBody, earlier: Sequence[TaskBody], checks: Checks) -> None:
    """Whether whoever stopped early has as many rows as the rules ask for by the rows so far: nobody is stopped at will."""
    stopped = {
        entrant.entrant: (place, len(entrant.measurement.per_row))
        for place, entrant in enumerate(body.entrants)
        if entrant.measurement is not None and entrant.measurement.rows_of is not None
    }
    needed = recompute.rows_needed(body, earlier) if stopped else {}
    for hotkey, (place, rows) in stopped.items():
        checks.equal(f"body.entrants.{place}.measurement.per_row", rows, needed.get(hotkey))


def _version(body: TaskBody) -> int:
    return recompute.version_at(body.blocks.started_at_block)
