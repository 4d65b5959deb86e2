"""What a run tells of itself, for people and their trackers: pure, out of where the run stands."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from gradients.errors import JobFailed
from gradients.ml.checkpoint import Position
from gradients.ml.search import champion_of, row_seconds

Phase = Literal["loading", "probing", "training", "saving"]


class Outcome(NamedTuple):
    """What it came to. Steps, rows and hyper-parameters are those of the best whole run."""

    steps: int
    rows_seen: int
    learning_rate: float
    batch_rows: int
    epochs: float  # passes that it really made
    candidates: int  # whole runs that were made
    averaged: int  # of them, how many the weights handed in are the mean of
    way: float  # from the base's weights to these, that was gone: 1 unless less of it was better
    train_loss: float  # of the last rows, smoothed
    validation_loss: float | None  # of the weights that are handed in
    base_validation_loss: float | None  # of the untouched base, on the same rows
    beats_base: bool | None  # None without validation rows
    tokens_per_second: float | None  # of train rows, in all whole runs


class Ended(NamedTuple):
    """The probe or whole run that ended last."""

    learning_rate: float
    loss: float | None  # its best validation; None when it diverged, or no rows are kept
    batch_rows: int | None = None  # these two of whole runs
    epochs: float | None = None


class TrainingProgress(NamedTuple):
    """Where a run stands. Losses are None where there is none yet, or none that is a number."""

    phase: Phase
    fraction: float  # of what will really be run
    step: int  # of the probe, or of all whole runs so far
    loss: float | None  # of train rows, smoothed
    learning_rate: float | None = None  # of the last step
    run: int = 0  # how many probes, or whole runs, were over
    base_loss: float | None = None  # of the untouched base on the kept rows
    validation_loss: float | None = None  # the last one of the run that goes on
    best_loss: float | None = None  # of what would be handed in now
    ended: Ended | None = None


def progress_of(position: Position, phase: Phase, fraction: float, *, learning_rate: float | None) -> TrainingProgress:
    """What there is to say of a position."""
    probing = phase == "probing"
    over = 0 if probing else sum(trial.steps for trial in position.trials)
    going_on = 0 if phase == "saving" else position.steps  # at the end the last run is one of those that are over
    return TrainingProgress(
        phase,
        fraction,
        over + going_on,
        position.train_loss,
        learning_rate=learning_rate,
        run=len(position.probed if probing else position.trials),
        base_loss=_number(position.base_loss),
        validation_loss=_number(position.curve[-1][1]) if position.curve else None,
        best_loss=_number(position.best_loss),
        ended=_ended(position, probing=probing),
    )


def outcome_of(position: Position, *, tokens_per_row: float) -> Outcome:
    """What the runs that are over came to. Raises JobFailed (diverged) when no step of the best had finite gradients."""
    best = champion_of(position.trials)
    if best.train_loss is None:
        raise JobFailed("No step had finite gradients", code="diverged", fix="Use a smaller learning rate")
    loss, base_loss = position.best_loss, position.base_loss
    return Outcome(
        steps=best.steps,
        rows_seen=best.rows,
        learning_rate=best.candidate.learning_rate,
        batch_rows=best.candidate.batch_rows,
        epochs=best.passes,
        candidates=len(position.trials),
        averaged=position.averaged,
        way=position.way,
        train_loss=best.train_loss,
        validation_loss=_number(loss),
        base_validation_loss=_number(base_loss),
        beats_base=None if base_loss is None or loss is None else loss < base_loss,
        tokens_per_second=tokens_per_row / row_seconds(position.trials),
    )


def _ended(position: Position, *, probing: bool) -> Ended | None:
    if not probing and position.trials:
        last = position.trials[-1]
        return Ended(last.candidate.learning_rate, _number(last.loss), last.candidate.batch_rows, last.passes)
    if position.probed:
        rate, loss = position.probed[-1]
        return Ended(rate, _number(loss))
    return None


def _number(loss: float | None) -> float | None:
    return loss if loss is not None and math.isfinite(loss) else None
