"""Domain values to JSON columns and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Literal, cast

from gradients.domain.evaluation import Fingerprint, Measurement, Metric, Placing
from gradients.domain.failure import Failure
from gradients.domain.submission import Submission, SubmissionState
from gradients.domain.task import (
    Blob,
    Hotkey,
    Parent,
    Prepared,
    SourceCount,
    Task,
    TaskId,
    TaskRequest,
    TaskState,
    Window,
)
from gradients.errors import Blame
from validator.ledger.rows import JsonColumn, MeasurementRow, PlacingRow, SubmissionRow, TaskRow

ROWS_OF = "rows_of"  # beside a measurement's extras: how many held-out rows there are, of an entrant that stopped early


def encode(value: Failure | Fingerprint | Prepared | TaskRequest | Window) -> JsonColumn:
    """A frozen value as a JSON object."""
    return asdict(value)


def task_of(row: TaskRow, *, with_draw: bool = True) -> Task:
    """The task that a row holds. What went into its draw is long, and not for lists."""
    prepared = None
    if (column := row.prepared) is not None:
        removed = tuple((str(reason), int(count)) for reason, count in column["removed"])
        blobs = {"train": Blob(**column["train"]), "held_out": Blob(**column["held_out"])}
        sources = tuple(SourceCount(**counted) for counted in column.get("sources", ()))
        parent = parent_of(column.get("parent"))
        prepared = Prepared(**{**column, **blobs, "removed": removed, "sources": sources, "parent": parent})
    return Task(
        id=TaskId(row.id),
        request=TaskRequest(**row.request),
        state=TaskState(row.state),
        created_at=row.created_at,
        prepared=prepared,
        window=Window(**row.window) if row.window else None,
        draw=row.draw if with_draw else None,
        failure=failure_of(row.failure),
    )


def parent_of(column: JsonColumn | None) -> Parent | None:
    """The parent that a column of what was prepared holds."""
    if column is None:
        return None
    files = tuple((str(path), Blob(**blob)) for path, blob in column["files"])
    return Parent(**{**column, "files": files})


def submission_of(row: SubmissionRow) -> Submission:
    """The submission that a row holds."""
    return Submission(
        task_id=TaskId(row.task_id),
        hotkey=Hotkey(row.hotkey),
        uid=row.uid,
        state=SubmissionState(row.state),
        recipe=row.recipe,
        committed_at_block=row.committed_at_block,
        committed_extrinsic=row.committed_extrinsic,
        manifest_sha256=row.manifest_sha256,
        failure=failure_of(row.failure),
    )


def measurement_of(row: MeasurementRow) -> Measurement:
    """The measurement that a row holds."""
    better = cast(Literal["lower", "higher"], row.better)
    return Measurement(
        entrant=row.entrant,
        metric=Metric(name=row.metric, unit=row.unit, version=row.metric_version, better=better),
        value=row.value,
        stderr=row.stderr,
        per_row=tuple(row.per_row),
        extras=tuple((name, float(number)) for name, number in row.extras.items() if name != ROWS_OF),
        fingerprint=fingerprint_of(row.fingerprint),
        rows_of=int(row.extras[ROWS_OF]) if ROWS_OF in row.extras else None,
    )


def placing_of(row: PlacingRow) -> Placing:
    """The placing that a row holds."""
    return Placing(
        hotkey=Hotkey(row.hotkey),
        rank=row.rank,
        points=row.points,
        adjusted_points=row.adjusted_points,
        reason=row.reason,
        gain=row.gain,
        copy_of=Hotkey(row.copy_of) if row.copy_of else None,
        fault=Blame(row.fault) if row.fault else None,
    )


def fingerprint_of(column: JsonColumn | None) -> Fingerprint | None:
    """The fingerprint that a column holds."""
    return Fingerprint(tuple(column["update"]), tuple(column["outputs"])) if column else None


def failure_of(column: JsonColumn | None) -> Failure | None:
    """The failure that a column holds."""
    return Failure(Blame(column["blame"]), column["code"], column["message"]) if column else None
