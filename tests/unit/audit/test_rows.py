"""Whether held-out rows were drawn by the salt can be told from the rows alone, for every task type."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from gradients.audit.report import Checks
from gradients.audit.rows import check_lots
from gradients.datasets.rows import Row
from gradients.domain.json import Json
from gradients.tasks.preparation import prepare
from gradients.tasks.registry import TYPES, task_type, validate_request
from gradients.testing.task_samples import sample_of


def rows_in(file: Path) -> list[Row]:
    return [cast(Row, json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]


def wrong(name: str, train: Sequence[Row], held_out: Sequence[Row], salt: bytes) -> int:
    """How many held-out rows the salt did not draw."""
    checks = Checks("rows")
    check_lots(task_type(name), train, held_out, salt, checks)
    published = [alarm.published for alarm in checks.found]
    return int(str(published[0])) if published else 0


@pytest.mark.parametrize("name", TYPES)
def test_what_a_validator_splits_raises_no_alarm_and_rows_chosen_by_hand_do(name: str, tmp_path: Path) -> None:
    sample, source = sample_of(name), tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in sample.rows), encoding="utf-8")
    spec: dict[str, Json] = {"type": name, "base": "tiny", "dataset": str(source), "hours": 0.1}
    request = validate_request({**spec, "parameters": cast(Json, sample.parameters(tmp_path))})
    found = 0
    for number in range(4):
        salt = bytes([number]) * 32
        made = prepare(task_type(name), request, salt=salt, folder=tmp_path / str(number))
        train, held_out = rows_in(made.train_file), rows_in(made.held_out_file)
        assert wrong(name, train, held_out, salt) == 0
        assert wrong(name, train, held_out, b"x" * 32) > 0  # another salt
        found += wrong(name, [*train[1:], held_out[0]], [train[0], *held_out[1:]], salt)  # one row, put in by hand
    assert found > 0
