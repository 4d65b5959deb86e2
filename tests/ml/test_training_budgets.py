"""Runs with the hours that tasks get, for bases from 0.1 to 70 billion weights, on a clock that only moves when somebody works."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradients.ml.checkpoint import CheckpointFile
from gradients.ml.training import TrainingRun
from gradients.tasks.hours import Effort, Workload, budget
from tests.ml.test_training_run import Slope, make_model, settings

TOKENS_A_ROW, BATCH_ROWS = 300, 32
VALIDATION_ROWS, VALIDATION_FRACTION = 256, 0.03
FORWARD_SHARE = 1 / 3  # of what a row costs to train on


@pytest.mark.parametrize(("rows", "max_epochs"), [(2_000, 3.0), (2_000, 10.0), (10_000, 3.0)])
@pytest.mark.parametrize("billions", [0.1, 0.5, 1.1, 3.0, 7.6, 13.0, 34.0, 70.0])
def test_four_fifths_of_the_useful_rows_are_seen_while_the_rate_falls(
    tmp_path: Path, billions: float, rows: int, max_epochs: float
) -> None:
    """Useful is what the smaller of time and epochs allows: three probes, a dozen validations and checkpoints take a fifth at most."""
    given = budget(Workload(Effort(), rows=rows, parameters=round(billions * 1e9), tokens_per_row=TOKENS_A_ROW))
    assert given.tokens_per_second is not None
    row_seconds = TOKENS_A_ROW / given.tokens_per_second
    validated = min(VALIDATION_ROWS, round(VALIDATION_FRACTION * rows))
    objective = Slope(
        rows=rows, step_seconds=BATCH_ROWS * row_seconds, validation_seconds=validated * row_seconds * FORWARD_SHARE
    )
    deadline = objective.time + given.hours * 3600
    checkpoints = CheckpointFile(tmp_path, "digest")
    outcome = TrainingRun(
        make_model(),
        objective,
        settings(probe_learning_rates=(1e-5, 2e-5, 4e-5), max_epochs=max_epochs, batch_rows=BATCH_ROWS),
        seed=1,
        deadline=deadline,
        checkpoints=checkpoints,
        report=lambda _: None,
        now=objective.now,
    ).run()
    position = checkpoints.load()
    assert position is not None
    decaying = outcome.rows_seen - position.position.main_rows
    useful = min(max_epochs * rows, given.hours * 3600 / row_seconds)
    assert decaying >= 0.8 * useful
    assert objective.time < deadline
    assert objective.rates()[-2] < 1e-6  # it fell to nothing
