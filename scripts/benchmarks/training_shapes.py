"""Both engines on random bases of real sizes, on a GPU: the plan, the worker and the checks of `scripts/gpu` (scripts/cuda/training.py)."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from gradients.tasks.footprint import Way
from scripts.benchmarks.timing import Figure, Ratios, figure
from scripts.cuda.ground import FULL, REHEARSAL, Findings, Scale, random_base
from scripts.cuda.training import RANK, Run, Trained, share_of_ceiling, train_once

WAYS = {
    "lora": Way("lora", RANK),
    "qlora": Way("lora", RANK, load_in_4bit=True),
    "full": Way("full", RANK),
}


def shapes(names: Sequence[str], ways: Sequence[str], *, rehearse: bool) -> Iterator[Figure | Ratios]:
    """What each comes to: ours, then TRL's trainers with the kernels and the packing that are installed. Says on stderr what cannot run."""
    if not rehearse and not torch.cuda.is_available():
        sys.exit("torch sees no CUDA device here, which --shapes is for; --rehearse runs it on a CPU, with tiny bases")
    scale = REHEARSAL if rehearse else FULL
    with tempfile.TemporaryDirectory(prefix="gradients-shapes-") as folder:
        for name in names:
            shape = {"half-b": scale.half_b, "one-and-a-half-b": scale.one_and_a_half_b, "seven-b": scale.seven_b}[name]
            base = random_base(name, shape, scale, Path(folder) / "runs")
            for way in ways:
                yield from _both(f"{name}, {way}", WAYS[way], base, scale, Path(folder) / f"{name}-{way}")


def _both(what: str, way: Way, base: Path, scale: Scale, folder: Path) -> Iterator[Figure | Ratios]:
    found = Findings()
    ours = train_once(Run("ours", way), base, scale, folder, found)
    trl = train_once(Run("trl", way, engine="trl"), base, scale, folder, found) if ours else None
    if not ours or not trl:
        print(f"{what} was not run whole: {'; '.join(found.broken) or found.figures}", file=sys.stderr)
    for name, trained in (("ours", ours), ("trl", trl)):
        if trained:
            yield from _figures(f"{what}, {name}", trained, way, base, scale)
    if ours and trl:
        yield Ratios({f"{what}: trl": ours.speed / trl.speed})


def _figures(what: str, trained: Trained, way: Way, base: Path, scale: Scale) -> Iterator[Figure]:
    yield figure(f"{what}: speed", "tokens/s", [trained.speed])
    yield figure(f"{what}: loss", "nats", [trained.result.train_loss])
    if not scale.rehearsal:
        yield figure(f"{what}: memory", "GiB", [trained.peak_bytes / 2**30])
        yield figure(f"{what}: share of the ceiling", "%", [100 * share_of_ceiling(way, base, trained.speed)])
