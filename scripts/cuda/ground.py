"""What the checks stand on: how large everything is, what they note, the random bases and rows that they share."""

from __future__ import annotations

import json
import random
import threading
from dataclasses import dataclass, field
from pathlib import Path

import torch

from gradients.testing.tiny_models import Shape
from scripts.cuda.models import HALF_B, ONE_AND_A_HALF_B, SEVEN_B, TINY, write_random_llama

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Scale:
    """How large everything is: as on the box, or for a rehearsal on a CPU."""

    rehearsal: bool
    half_b: Shape
    one_and_a_half_b: Shape
    seven_b: Shape
    rows: int
    row_words: int
    train_tokens: int  # of a row that is trained on
    train_seconds: float  # until a training's deadline, its loading included
    resumed_passes: float  # over the rows, of the run that is killed
    market_hours: float

    @property
    def device(self) -> str:
        """As torch names it."""
        return "cpu" if self.rehearsal else "cuda"


FULL = Scale(
    rehearsal=False,
    half_b=HALF_B,
    one_and_a_half_b=ONE_AND_A_HALF_B,
    seven_b=SEVEN_B,
    rows=64,
    row_words=90,
    train_tokens=2048,
    train_seconds=70.0,
    resumed_passes=1000.0,
    market_hours=0.012,
)
REHEARSAL = Scale(
    rehearsal=True,
    half_b=TINY,
    one_and_a_half_b=TINY,
    seven_b=TINY,
    rows=24,
    row_words=8,
    train_tokens=32,
    train_seconds=300.0,
    resumed_passes=80.0,
    market_hours=0.012,
)


@dataclass
class Findings:
    """What a check found out."""

    figures: dict[str, float | str] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)  # what should hold and does not

    def must(self, holds: bool, what: str) -> None:
        """Note it when it does not hold."""
        if not holds:
            self.broken.append(what)


class MemoryWatch:
    """The most GPU memory that others took while it watched."""

    def __init__(self) -> None:
        torch.zeros(1, device="cuda")
        self._free = torch.cuda.mem_get_info()[0]
        self._lowest, self._stopped = self._free, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """Bytes."""
        self._stopped.set()
        self._thread.join()
        return int(self._free - self._lowest)

    def _watch(self) -> None:
        while not self._stopped.wait(0.2):
            self._lowest = min(self._lowest, torch.cuda.mem_get_info()[0])


def random_base(name: str, shape: Shape, scale: Scale, folder: Path) -> Path:
    """A random model of a shape, written once for all checks of a run."""
    base = folder.parent / name
    if not base.is_dir():
        part = folder.parent / f"{name}.part"
        write_random_llama(part, shape, device=scale.device)
        part.rename(base)
    return base


def write_rows(file: Path, *, rows: int, words: int) -> Path:
    """Rows of random words in the normal form of instruct tasks; answers of at most so many words, and of half as many at least."""
    vocabulary, rng = (
        ("harbour", "anvil", "meadow", "lantern", "quarry", "saddle", "turret", "willow"),
        random.Random(0),
    )
    told = [
        {
            "prompt": f"Say number {number}.",
            "completion": " ".join(rng.choices(vocabulary, k=rng.randint(words // 2, words))),
        }
        for number in range(rows)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in told))
    return file


def tokens_a_row(base: Path, file: Path) -> float:
    """Of the rows in a file, on average."""
    from transformers import AutoTokenizer

    rows = [json.loads(line) for line in file.read_text().splitlines()]
    texts = [f"{row['prompt']}{row['completion']}" for row in rows]
    encoded = AutoTokenizer.from_pretrained(base, local_files_only=True)(texts)["input_ids"]
    return sum(len(tokens) for tokens in encoded) / len(encoded)


def peak_gib(scale: Scale) -> float:
    """That torch has taken of the GPU in this process."""
    return 0.0 if scale.rehearsal else round(torch.cuda.max_memory_allocated() / GIB, 1)
