"""The libraries that keep curves, each behind the same two calls. Only the one that is asked for is imported, by the tracker's process."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol, assert_never

from pydantic import BaseModel, ConfigDict, JsonValue

from miner.tracking.points import Point


class Begin(BaseModel):
    """What the tracker's process is told first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["tensorboard", "trackio", "wandb"]
    folder: Path
    project: str
    online: bool
    task_id: str
    about: dict[str, JsonValue]


class Writer(Protocol):
    """One run's curves."""

    def write(self, point: Point) -> None:
        """Add a point."""
        ...

    def close(self) -> None:
        """Leave everything where the library keeps it."""
        ...


def open_writer(begin: Begin) -> Writer:
    """The library's run of this task; a task that is trained on after a restart goes on in the same one."""
    if begin.kind == "tensorboard":
        return _TensorBoard(begin)
    if begin.kind == "wandb":
        return _wandb(begin)
    if begin.kind == "trackio":
        return _trackio(begin)
    assert_never(begin.kind)


class _TensorBoard:
    def __init__(self, begin: Begin) -> None:
        from tensorboard.summary import Writer as EventWriter  # without torch and TensorFlow

        self._events = EventWriter(str(begin.folder / begin.project / begin.task_id))

    def write(self, point: Point) -> None:
        for name, value in point.values.items():
            self._events.add_scalar(f"{point.group}/{name}", value, point.step)
        self._events.flush()

    def close(self) -> None:
        self._events.close()


class _Run:
    """A run of wandb, or of trackio, which has the same calls. Each group has an axis of its own: theirs would only go forwards."""

    def __init__(self, run: Any) -> None:  # noqa: ANN401 (of either library)
        self._run = run
        self._groups: set[str] = set()

    def write(self, point: Point) -> None:
        axis = f"{point.group}/step"
        if point.group not in self._groups and hasattr(self._run, "define_metric"):
            self._run.define_metric(f"{point.group}/*", step_metric=axis)
        self._groups.add(point.group)
        named: Mapping[str, float] = {f"{point.group}/{name}": value for name, value in point.values.items()}
        self._run.log({**named, axis: point.step})

    def close(self) -> None:
        self._run.finish()


def _wandb(begin: Begin) -> Writer:
    import wandb

    settings = wandb.Settings(
        mode="online" if begin.online else "offline",
        console="off",
        silent=True,
        save_code=False,
        disable_code=True,
        disable_git=True,
        host="miner",  # nothing of this machine goes along: our points, and what `about` says
        x_save_requirements=False,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_disable_stats=True,
    )
    begin.folder.mkdir(parents=True, exist_ok=True)
    return _Run(
        wandb.init(
            project=begin.project,
            id=begin.task_id,
            name=begin.task_id,
            dir=begin.folder,
            config=begin.about,
            resume="allow" if begin.online else None,
            settings=settings,
        )
    )


def _trackio(begin: Begin) -> Writer:
    trackio = import_module("trackio")  # not declared: it wants an older pillow than our pins have
    run = trackio.init(
        project=begin.project,
        name=begin.task_id,
        config=begin.about,
        resume="allow",
        embed=False,
        auto_log_gpu=False,
        auto_log_cpu=False,
    )
    return _Run(run)
