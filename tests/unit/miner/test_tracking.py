"""Curves as TensorBoard's reader, wandb's files and trackio's database have them; and what a tracker's failures cost: nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray
from wandb.proto.wandb_internal_pb2 import Record
from wandb.sdk.internal.datastore import DataStore

from gradients.config import tracking_environment
from gradients.domain.json import JsonObject
from gradients.errors import SetupError
from gradients.tasks.jobs.training import EndedRun, TrainProgress
from miner.settings import TrackingSettings
from miner.tracking.points import Point, Points
from miner.tracking.tracking import Tracking, require

TASK = "instruct-0123456789ab"
PROBE = EndedRun(learning_rate=0.1, loss=4.5)
RUN = EndedRun(learning_rate=0.2, loss=1.5, batch_rows=8, epochs=3.0)
REPORTS = (
    TrainProgress(phase="loading", fraction=0.0),
    TrainProgress(phase="probing", fraction=0.0, step=1, loss=5.0, learning_rate=0.1, base_loss=5.5),
    TrainProgress(phase="probing", fraction=0.1, step=1, loss=4.8, learning_rate=0.3, run=1, ended=PROBE),
    TrainProgress(phase="training", fraction=0.2, step=1, loss=4.0, learning_rate=0.2, ended=PROBE, base_loss=5.5),
    TrainProgress(
        phase="training",
        fraction=0.6,
        step=2,
        loss=3.0,
        learning_rate=0.1,
        base_loss=5.5,
        validation_loss=1.5,
        ended=PROBE,
    ),
    TrainProgress(
        phase="saving",
        fraction=1.0,
        step=3,
        loss=2.0,
        learning_rate=0.0,
        run=1,
        base_loss=5.5,
        best_loss=1.5,
        ended=RUN,
    ),
)
CURVES = {
    "probe-1/loss": [(1, 5.0)],
    "probe-1/learning_rate": [(1, 0.1)],
    "probe-2/loss": [(1, 4.8)],
    "probe-2/learning_rate": [(1, 0.3)],
    "probes/loss": [(1, 4.5)],
    "probes/learning_rate": [(1, 0.1)],
    "train/loss": [(1, 4.0), (2, 3.0), (3, 2.0)],
    "train/learning_rate": [(1, 0.2), (2, 0.1), (3, 0.0)],
    "train/done": [(1, 0.2), (2, 0.6), (3, 1.0)],
    "validation/loss": [(2, 1.5)],
    "validation/best": [(3, 1.5)],
    "validation/base": [(2, 5.5), (3, 5.5)],
    "search/loss": [(1, 1.5)],
    "search/learning_rate": [(1, 0.2)],
    "search/batch_rows": [(1, 8.0)],
    "search/epochs": [(1, 3.0)],
}


def drawn(points: Sequence[Point]) -> dict[str, list[tuple[int, float]]]:
    curves: dict[str, list[tuple[int, float]]] = {}
    for point in points:
        for name, value in point.values.items():
            curves.setdefault(f"{point.group}/{name}", []).append((point.step, value))
    return curves


def test_reports_become_curves_of_probes_runs_validations_and_the_search() -> None:
    points = Points()
    assert drawn([each for at, now in enumerate(REPORTS) for each in points.of(now, seconds=10.0 * at)]) == CURVES


def test_a_train_loss_is_written_every_two_seconds_and_a_validation_at_once() -> None:
    points, step = Points(), TrainProgress(phase="training", fraction=0.5, step=1, loss=2.0)
    assert [bool(points.of(step, seconds=at)) for at in (0.0, 0.5, 1.9, 2.0, 2.5)] == [True, False, False, True, False]
    validated = step.model_copy(update={"validation_loss": 1.0})
    assert [point.group for point in points.of(validated, seconds=2.6)] == ["validation", "train"]
    assert points.of(validated, seconds=2.7) == []


def tracked(
    folder: Path, kind: str, *, reports: Sequence[JsonObject] = (), during: Callable[[Tracking], None] | None = None
) -> Sequence[Mapping[str, object]]:
    """What the log says of a run with these reports, once its tracker has ended."""
    tracking = Tracking(TrackingSettings.model_validate({"kind": kind}), folder)

    async def train() -> None:
        async with tracking.run(TASK, {"type": "instruct"}):
            for report in reports:
                tracking.tell(TASK, report)
            if during is not None:
                during(tracking)
                await asyncio.gather(*tracking.watches)
                tracking.tell(TASK, {})
        await asyncio.gather(*tracking.watches)
        assert (tracking.children, tracking.watches) == ({}, set())

    with capture_logs() as said:
        asyncio.run(train())
    return said


TOLD = [report.model_dump(mode="json") for report in REPORTS]


def test_tensorboard_reads_every_curve(tmp_path: Path) -> None:
    assert tracked(tmp_path, "tensorboard", reports=TOLD) == []
    events = EventAccumulator(str(tmp_path / "gradients" / TASK))
    events.Reload()
    found = {
        tag: [(each.step, make_ndarray(each.tensor_proto).item()) for each in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
    }
    for name in ("probe-1/loss", "probes/loss", "validation/loss", "validation/best", "search/loss", "search/epochs"):
        assert dict(found[name]) == pytest.approx(dict(CURVES[name]))
    assert found["train/loss"][-1] == (3, 2.0)


def test_wandb_writes_offline_what_it_would_send_and_nothing_of_the_machine(tmp_path: Path) -> None:
    assert tracked(tmp_path, "wandb", reports=TOLD) == []
    [file] = tmp_path.glob(f"wandb/offline-run-*-{TASK}/run-{TASK}.wandb")
    store, records = DataStore(), []
    store.open_for_scan(str(file))
    while (data := store.scan_data()) is not None:
        (record := Record()).ParseFromString(data)
        records.append(record)
    store.close()
    rows: dict[str, list[float]] = {}
    for item in (item for record in records for item in record.history.item):
        rows.setdefault(item.key or "/".join(item.nested_key), []).append(json.loads(item.value_json))
    assert rows["validation/loss"] == [1.5]
    assert (rows["search/loss"], rows["search/step"]) == ([1.5], [1])
    assert rows["train/loss"][-1] == 2.0
    [run] = [record.run for record in records if record.HasField("run")]
    assert (run.run_id, run.project, run.host) == (TASK, "gradients", "miner")
    written = {each.name for each in file.parent.rglob("*") if each.is_file()}
    assert written & {"requirements.txt", "wandb-metadata.json"} == set()


def test_trackio_keeps_every_curve_in_a_database_of_its_own(tmp_path: Path) -> None:
    assert tracked(tmp_path, "trackio", reports=TOLD) == []
    with closing(sqlite3.connect(tmp_path / "trackio" / "gradients.db")) as kept:
        rows = kept.execute("SELECT run_name, metrics FROM metrics ORDER BY step").fetchall()
    assert {run for run, _ in rows} == {TASK}
    found: dict[str, list[tuple[int, float]]] = {}
    for point in (json.loads(metrics) for _, metrics in rows):
        for name, value in point.items():
            found.setdefault(name, []).append((point[f"{name.partition('/')[0]}/step"], value))
    for name in ("probe-1/loss", "probes/loss", "validation/loss", "validation/best", "search/loss", "search/epochs"):
        assert found[name] == CURVES[name]
    assert found["train/loss"][-1] == (3, 2.0)


@pytest.mark.parametrize("kind", ["tensorboard", "wandb"])
def test_a_tracker_that_cannot_write_is_told_once_and_costs_no_run(tmp_path: Path, kind: str) -> None:
    (taken := tmp_path / "file").write_text("no folder")
    [said] = tracked(taken, kind, reports=TOLD)
    assert (said["event"], said["log_level"], said["task"], said["kind"]) == ("tracking_failed", "warning", TASK, kind)
    assert str(taken) in str(said["problem"])


def test_a_tracker_that_is_killed_is_told_once_and_costs_no_run(tmp_path: Path) -> None:
    def kill(tracking: Tracking) -> None:
        os.kill(tracking.children[TASK].process.pid, signal.SIGKILL)

    [said] = tracked(tmp_path, "tensorboard", reports=TOLD, during=kill)
    assert "exit code -9" in str(said["problem"])


def test_a_tracker_ends_with_a_miner_that_stops(tmp_path: Path) -> None:
    tracking = Tracking(TrackingSettings(kind="tensorboard"), tmp_path)
    pids = []

    async def mine() -> None:
        async with tracking.run(TASK, {}):
            pids.append(tracking.children[TASK].process.pid)
            await asyncio.sleep(0.01)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(mine())
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_nothing_is_started_where_no_tracker_is_named(tmp_path: Path) -> None:
    assert tracked(tmp_path, "none", reports=TOLD) == []
    assert list(tmp_path.iterdir()) == []


def test_a_library_that_is_missing_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """None in sys.modules is how Python says that a module cannot be imported."""
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(SetupError, match="needs the Python module trackio") as caught:
        require(TrackingSettings(kind="trackio"))
    assert "pip install trackio" in (caught.value.fix or "")


def test_a_trackers_process_sees_no_key_of_ours_and_its_own_only_online(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GRADIENTS_API_KEY", "BT_WALLET", "WANDB_API_KEY", "TRACKIO_SPACE_ID", "HF_TOKEN"):
        monkeypatch.setenv(name, "secret")
    offline, online = (tracking_environment(tmp_path, online=each) for each in (False, True))
    assert "secret" not in offline.values()
    assert {name for name, value in online.items() if value == "secret"} == {
        "WANDB_API_KEY",
        "TRACKIO_SPACE_ID",
        "HF_TOKEN",
    }
