"""Where a training run stands, in one safetensors file: tensors, and the rest as JSON in its header."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open

from gradients.files.whole import write_file
from gradients.ml.tensor_files import write_tensors

_WEIGHT, _BEST, _OPTIMISER = "weight/", "best/", "optimiser/"
Tensors = Mapping[str, torch.Tensor]


class Position(BaseModel):
    """How far a run is."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")

    started: float  # Unix seconds of the very first start
    steps: int = 0
    rows_seen: int = 0
    learning_rate: float | None = None  # the one to train with; None while probing goes on
    probed: tuple[tuple[float, float], ...] = ()  # learning rates tried so far, and the validation loss of each
    probing: float | None = None  # the learning rate that is being tried, in a checkpoint within its probe
    probing_seconds: float = 0.0  # how long it has been tried by then
    main_started: float | None = None  # Unix seconds when the main run began; None while probing goes on
    main_rows: int = 0  # rows seen when it began
    train_loss: float | None = None  # smoothed
    best_loss: float | None = None  # of validation
    base_loss: float | None = None  # of validation, before the first step


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run at one moment; all tensors lie on the CPU."""

    position: Position
    weights: Tensors  # trainable ones by name
    best: Tensors = field(default_factory=dict)  # those of the best validation so far; empty when there was none
    optimiser: Tensors = field(default_factory=dict)  # by "<parameter number>/<key>"

    def having_probed(self, probed: tuple[tuple[float, float], ...]) -> Snapshot:
        """The same moment, knowing what was tried by now."""
        return replace(self, position=self.position.model_copy(update={"probed": probed}))


@dataclass(frozen=True, slots=True)
class CheckpointFile:
    """A run's checkpoint on disk. `digest` ties it to what the run was asked for; another run's checkpoint counts as none."""

    folder: Path
    digest: str
    name: str = "checkpoint.safetensors"

    def save(self, snapshot: Snapshot) -> None:
        """Replace the checkpoint, as a whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            **{_WEIGHT + name: tensor for name, tensor in snapshot.weights.items()},
            **{_BEST + name: tensor for name, tensor in snapshot.best.items()},
            **{_OPTIMISER + name: tensor for name, tensor in snapshot.optimiser.items()},
        }
        header = {"digest": self.digest, "position": snapshot.position.model_dump_json()}
        write_file(self.folder / self.name, lambda path: write_tensors(path, tensors, header=header))

    def load(self) -> Snapshot | None:
        """The checkpoint of this run, or None when there is none that can be used."""
        try:
            with safe_open(self.folder / self.name, framework="pt") as file:
                header = file.metadata() or {}
                if header.get("digest") != self.digest:
                    return None
                position = Position.model_validate_json(header["position"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except (FileNotFoundError, SafetensorError, ValidationError, KeyError):
            return None
        return Snapshot(position, _under(_WEIGHT, tensors), _under(_BEST, tensors), _under(_OPTIMISER, tensors))


def _under(prefix: str, tensors: Tensors) -> Tensors:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
