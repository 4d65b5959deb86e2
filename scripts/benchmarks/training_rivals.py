"""`scripts/bench training`: the same rows by our loop and by TRL's SFTTrainer, in tokens a second of processor time and peak memory.

Each run is a process of its own that takes turns with the other's, since machines change from minute to minute; the ratio is what to read.
Both train in 32 bits on one thread, completions only, without gradient checkpointing. The share of the ceiling is what the rows' products
come to, of what one large product reaches in the same process. With --shapes, the same on a GPU: random bases of real sizes, both engines
behind the product's own plan (training_shapes.py).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from gradients.bases.bases import SHIPPED
from gradients.log import configure_logging
from scripts.benchmarks.timing import Figure, Ratios, figure, said
from scripts.benchmarks.training_steps import Case, Engine, Method, Timed

ENGINES: tuple[Engine, ...] = ("ours", "trl")
METHODS: tuple[Method, ...] = ("full", "lora")
NANO = SHIPPED / "nano-lm"
STEPS, SETTLING, TURNS, BATCH_ROWS, HELD_OUT = 40, 4, 3, 8, 64


def main(words: Sequence[str]) -> None:
    """Measure what was asked for."""
    configure_logging(style="text", level="error")
    asked = _parser().parse_args(words)
    if asked.shapes:
        from scripts.benchmarks.training_shapes import shapes  # torch

        figures: Iterator[Figure | Ratios] = shapes(asked.shapes, asked.ways, rehearse=asked.rehearse)
    else:
        figures = training(
            asked.bases or [NANO],
            asked.methods,
            steps=asked.steps,
            settling=asked.settling,
            turns=asked.turns,
            batch_rows=asked.batch_rows,
            held_out=asked.held_out,
        )
    for each in figures:
        print(said("training", each, as_json=asked.json), flush=True)


def training(
    bases: Sequence[Path] = (NANO,),
    methods: Sequence[Method] = METHODS,
    *,
    steps: int = STEPS,
    settling: int = SETTLING,
    turns: int = TURNS,
    batch_rows: int = BATCH_ROWS,
    held_out: int = HELD_OUT,
) -> Iterator[Figure | Ratios]:
    """Both engines in turns, for each base and way of training."""
    for base in bases:
        ratios = {}
        for method in methods:
            cases = {
                engine: Case(engine, method, str(base.absolute()), steps, settling, batch_rows, held_out)
                for engine in ENGINES
            }
            taken = [{engine: _apart(case) for engine, case in cases.items()} for _ in range(turns)]
            for engine in ENGINES:
                yield from _figures(f"{base.name}, {method}, {engine}", [turn[engine] for turn in taken])
            ratios[f"{base.name}, {method}: trl"] = _median(taken, "processor seconds a token")
            ratios[f"{base.name}, {method}: memory of trl"] = _median(taken, "memory")
        yield Ratios(ratios)


def _figures(what: str, runs: Sequence[Timed]) -> Iterator[Figure]:
    yield figure(f"{what}: speed", "tokens/s", [run.tokens / run.processor_seconds for run in runs])
    yield figure(f"{what}: memory", "MB", [run.peak_megabytes for run in runs])
    yield figure(f"{what}: share of the ceiling", "%", [100 * run.ceiling for run in runs])
    yield figure(f"{what}: loss", "nats", [run.loss for run in runs])


def _median(turns: Sequence[dict[Engine, Timed]], what: str) -> float:
    """How many times as much TRL takes, in the middle of all turns."""

    def taken(run: Timed) -> float:
        return run.peak_megabytes if what == "memory" else run.processor_seconds / run.tokens

    return statistics.median(taken(turn["trl"]) / taken(turn["ours"]) for turn in turns)


def _apart(case: Case) -> Timed:
    command = [sys.executable, "-m", "scripts.benchmarks.training_steps", json.dumps(asdict(case))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return Timed(**json.loads(done.stdout.splitlines()[-1]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--bases", nargs="+", type=_folder, metavar="FOLDER", help="of base models; the shipped nano-lm by default"
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, help="both by default")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of a run ({STEPS}); few are enough for a large base")
    parser.add_argument("--settling", type=int, default=SETTLING, help=f"the first of them, not timed ({SETTLING})")
    parser.add_argument("--turns", type=int, default=TURNS, help=f"of both engines ({TURNS})")
    parser.add_argument("--batch-rows", type=int, default=BATCH_ROWS, help=f"of a step ({BATCH_ROWS})")
    parser.add_argument("--held-out", type=int, default=HELD_OUT, help=f"rows that the loss is taken on ({HELD_OUT})")
    parser.add_argument(
        "--shapes",
        nargs="+",
        choices=("half-b", "one-and-a-half-b", "seven-b"),
        help="on a GPU, instead of --bases: bases of these sizes with random weights",
    )
    parser.add_argument(
        "--ways",
        nargs="+",
        choices=("lora", "qlora", "full"),
        default=("lora", "qlora", "full"),
        help="of training them, where they fit; all by default",
    )
    parser.add_argument("--rehearse", action="store_true", help="--shapes on a CPU, all of them tiny")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    return parser


def _folder(word: str) -> Path:
    folder = SHIPPED / word if (SHIPPED / word).is_dir() else Path(word)
    if not (folder / "config.json").is_file():
        raise argparse.ArgumentTypeError(f"there is no base model in {word}")
    return folder
