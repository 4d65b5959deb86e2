"""What the market waits for: an epoch, a data set's duplicates, a measurement, a training step."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gradients.bases.bases import SHIPPED
from gradients.datasets.near_duplicates import near_duplicate_groups
from gradients.datasets.normal_texts import normalised
from gradients.domain.json import JsonObject
from gradients.localchain.epoch import yuma
from gradients.tasks.base import SHIPPED_DATA
from gradients.tasks.jobs.measuring import Entrant, MeasureJob
from scripts.benchmarks.timing import Figure, figure, seconds_of

BASE = SHIPPED / "nano-lm"
ROWS = SHIPPED_DATA / "wordnet-definitions" / "rows.jsonl"
NEURONS, VALIDATORS = 256, 64
ENTRANTS = 4


def epoch() -> Sequence[Figure]:
    """Yuma over a full subnet in which every validator rates every miner."""
    chance = np.random.default_rng(0)
    weights = np.zeros((NEURONS, NEURONS))
    weights[:VALIDATORS, VALIDATORS:] = chance.integers(0, 65536, (VALIDATORS, NEURONS - VALIDATORS))
    permits = np.arange(NEURONS) < VALIDATORS
    neurons = yuma.NeuronStates(
        block=1000,
        bonds_since_block=1000,
        stake=chance.uniform(1e9, 1e13, NEURONS),
        weights=weights,
        bonds=np.zeros((NEURONS, NEURONS)),
        permits=permits,
        last_update=np.where(permits, 1000, 0),
        registered_at=np.zeros(NEURONS, dtype=np.int64),
    )
    taken = seconds_of(lambda: yuma.run(neurons, yuma.Rules()), runs=5)
    return [figure(f"epoch of {NEURONS} neurons, {VALIDATORS} validators", "ms", [each * 1000 for each in taken])]


def near_duplicates() -> Sequence[Figure]:
    """The search that keeps held-out rows apart from train rows."""
    texts = [normalised(f"{row['question']} {row['definition']}") for row in _rows()]
    taken = seconds_of(lambda: near_duplicate_groups(texts), runs=3)
    return [figure(f"near-duplicates among {len(texts)} rows", "rows/s", [len(texts) / each for each in taken])]


def measuring() -> Sequence[Figure]:
    """The metric on the demo's model: one worker's whole job, and what each further entrant adds."""
    alone = [_measure(1) for _ in range(3)]
    together = [_measure(1 + ENTRANTS) for _ in range(3)]
    more = [(many - one) / ENTRANTS for one, many in zip(alone, together, strict=True)]
    return [
        figure("measuring 300 rows, base alone, with loading", "s", alone),
        figure("each further entrant", "s", more),
    ]


def _measure(entrants: int) -> float:
    from gradients.tasks.instruct.metric import measure

    with tempfile.TemporaryDirectory() as folder:
        job = MeasureJob(
            base_folder=BASE,
            held_out_file=_normal_rows(Path(folder), 300),
            parameters={},
            entrants=tuple(Entrant(id=f"base-{number}") for number in range(entrants)),
            results_folder=Path(folder) / "results",
            seed=0,
        )
        started = time.perf_counter()
        measure(job.model_dump(mode="json"), _ignore)
        return time.perf_counter() - started


def _normal_rows(folder: Path, count: int) -> Path:
    """The first rows of the demo's data set in the normal form of instruct tasks."""
    file = folder / "rows.jsonl"
    rows = [{"prompt": row["question"], "completion": row["definition"]} for row in _rows()[:count]]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def _rows() -> list[JsonObject]:
    return [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()]


def _ignore(_: JsonObject) -> None:
    """Progress that is not watched."""
