"""Where a training run stands, in one safetensors file: tensors, and the rest as JSON in its header."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open

from gradients.files.whole import write_file
from gradients.ml.search import Candidate, Curve, Trial
from gradients.ml.tensor_files import write_tensors

_WEIGHT, _BEST, _OWN, _MEAN, _OPTIMISER = "weight/", "best/", "own/", "mean/", "optimiser/"
_FILE = "checkpoint.safetensors"
Tensors = Mapping[str, torch.Tensor]


class Position(BaseModel):
    """How far a run is."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")

    started: float  # Unix seconds of the very first start
    base_loss: float | None = None  # of validation, before the first step; None without validation rows
    probed: tuple[tuple[float, float], ...] = ()  # learning rates tried so far, and the validation loss of each
    probe_rows: int | None = (
        None  # that the first of them was trained on; the others get no more, to be compared with it
    )
    trials: tuple[Trial, ...] = ()  # runs that are over
    best_loss: float | None = None  # of what would be handed in now
    averaged: int = 0  # how many runs' weights that is the mean of
    way: float = 1.0  # how much of the way from the base's weights to these was gone
    candidate: Candidate | None = None  # what the run that goes on does; None while probing goes on
    # Of the probe that goes on, or of the run:
    steps: int = 0
    rows_seen: int = 0
    seconds: float = 0.0  # that its steps took
    train_loss: float | None = None  # smoothed
    own_loss: float | None = None  # the best of its validations
    meant: int = 0  # at how many points of it weights were taken into its mean
    curve: Curve = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run at one moment; all tensors lie on the CPU."""

    position: Position
    weights: Tensors  # trainable ones by name
    best: Tensors = field(default_factory=dict)  # what would be handed in by the runs that are over; empty without any
    own: Tensors = field(default_factory=dict)  # those of the best validation of the run that goes on
    mean: Tensors = field(default_factory=dict)  # those of several points of the run that goes on, in the middle
    optimiser: Tensors = field(default_factory=dict)  # by "<parameter number>/<key>"


class Checkpoints(Protocol):
    """Where a run leaves its place."""

    def save(self, snapshot: Snapshot) -> None:
        """Replace what was left before, as a whole."""
        ...

    def load(self) -> Snapshot | None:
        """What this run left last, or None when there is nothing that can be used."""
        ...


@dataclass(frozen=True, slots=True)
class CheckpointFile:
    """The run's one checkpoint on disk. `digest` ties it to what the run was asked for; another run's checkpoint counts as none."""

    folder: Path
    digest: str

    def save(self, snapshot: Snapshot) -> None:
        """Replace the checkpoint, as a whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            **{_WEIGHT + name: tensor for name, tensor in snapshot.weights.items()},
            **{_BEST + name: tensor for name, tensor in snapshot.best.items()},
            **{_OWN + name: tensor for name, tensor in snapshot.own.items()},
            **{_MEAN + name: tensor for name, tensor in snapshot.mean.items()},
            **{_OPTIMISER + name: tensor for name, tensor in snapshot.optimiser.items()},
        }
        header = {"digest": self.digest, "position": snapshot.position.model_dump_json()}
        write_file(self.folder / _FILE, lambda path: write_tensors(path, tensors, header=header))

    def load(self) -> Snapshot | None:
        """The checkpoint of this run, or None when there is none that can be used."""
        try:
            with safe_open(self.folder / _FILE, framework="pt") as file:
                header = file.metadata() or {}
                if header.get("digest") != self.digest:
                    return None
                position = Position.model_validate_json(header["position"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except (FileNotFoundError, SafetensorError, ValidationError, KeyError):
            return None
        return Snapshot(
            position,
            *(
                {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
                for prefix in (_WEIGHT, _BEST, _OWN, _MEAN, _OPTIMISER)
            ),
        )
