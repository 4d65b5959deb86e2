"""Several processes that train one model, and what they have to agree on.

All of them run the same code on the same rows and part the work inside of a step. Whatever decides what comes next, the clock and measured
losses, is the first one's word, so that none waits for a step that the others don't make. In a process on its own all of this does nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.distributed as dist

from gradients.ml.checkpoint import CheckpointFile, Snapshot
from gradients.ml.objective import Objective

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_PATIENCE = timedelta(minutes=30)  # with another process, in a step or while it measures alone
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Place:
    """Which of the processes this one is."""

    rank: int = 0
    processes: int = 1

    @property
    def is_first(self) -> bool:
        """Whether it is the one that speaks and writes for all."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """Its part of what all of them have: every so manieth, so that sorted items are dealt evenly."""
        return items[self.rank :: self.processes]


def join(place: Place, meeting: Path) -> None:
    """Meet the other processes.

    Args:
        meeting: a file in a folder that all of them see; there is none before the first one comes.
    """
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
        init_method=meeting.absolute().as_uri(),
        rank=place.rank,
        world_size=place.processes,
        timeout=_PATIENCE,
    )


def leave() -> None:
    """Wait for the others, and part from them."""
    dist.barrier()
    dist.destroy_process_group()


def here() -> Place:
    """Which process this is."""
    return Place(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else Place()


def agreed(number: float) -> float:
    """The first process's number."""
    if not dist.is_initialized():
        return number
    told = torch.tensor([number], dtype=torch.float64)
    dist.broadcast(told, src=0)
    return float(told.item())


def agreed_time() -> float:
    """The first process's clock: Unix seconds."""
    return agreed(time.time())


def summed(number: float) -> float:
    """The sum over all processes."""
    if not dist.is_initialized():
        return number
    told = torch.tensor([number], dtype=torch.float64)
    dist.all_reduce(told)
    return float(told.item())


class Agreed:
    """An objective whose measured losses are the first process's, since a last bit may decide what is done next."""

    def __init__(self, objective: Objective) -> None:
        self.own = objective
        self.lengths = objective.lengths

    def backward(self, model: PreTrainedModel, rows: Sequence[int]) -> float:
        return self.own.backward(model, rows)

    def validate(self, model: PreTrainedModel) -> float | None:
        loss = self.own.validate(model)
        return None if loss is None else agreed(loss)


class ShardedCheckpoint:
    """One file of each process, twice: a kill may leave the latest with some processes only, and then the one before counts."""

    def __init__(self, file: CheckpointFile) -> None:
        self._place = here()
        self._files = [CheckpointFile(file.folder / f"{slot}-{self._place.rank}", file.digest) for slot in range(2)]
        self._next = 0

    def save(self, snapshot: Snapshot) -> None:
        """Replace the older of the two."""
        self._files[self._next].save(snapshot)
        self._next = 1 - self._next
        dist.barrier()

    def load(self) -> Snapshot | None:
        """The latest that all processes have."""
        found = [file.load() for file in self._files]
        positions = [None if snapshot is None else snapshot.position.model_dump_json() for snapshot in found]
        everybodys: list[list[str | None]] = [[] for _ in range(self._place.processes)]
        dist.all_gather_object(everybodys, positions)
        common = [
            (_how_far(snapshot), slot, snapshot)
            for slot, snapshot in enumerate(found)
            if snapshot is not None and all(each[slot] == positions[slot] for each in everybodys)
        ]
        if not common:
            return None
        _, slot, latest = max(common, key=lambda each: each[:2])
        self._next = 1 - slot
        return latest


def _how_far(snapshot: Snapshot) -> tuple[int, int, bool, int]:
    position = snapshot.position
    return len(position.trials), len(position.probed), position.candidate is not None, position.steps
