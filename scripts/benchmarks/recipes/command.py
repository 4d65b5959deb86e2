"""`scripts/bench recipes`: fine-tuning as the reference miner does it against the settings of other products, for as many tokens.

Every run is a line of a file of runs; what stands there already is not run again, so a bench that was killed goes on
when it is called again. Times of the wall are only measured, unless `--clock wall` makes them the budget.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from pydantic import ValidationError

from gradients.errors import GradientsError
from gradients.log import configure_logging
from scripts.benchmarks.recipes.arms import ARMS, MARKETS, ORACLES
from scripts.benchmarks.recipes.report import draw, tables
from scripts.benchmarks.recipes.results import by_family, outcomes_of, pairings
from scripts.benchmarks.recipes.rows import Parts, Sizes
from scripts.benchmarks.recipes.run import Done, Run, begin, do
from scripts.benchmarks.recipes.tasks import TASKS
from scripts.benchmarks.recipes.texts import SOURCES

SEEDS = (11, 23, 47)
GROUPS = {**MARKETS, **ORACLES}
FULL, SHORT = Sizes(240, 60, 120), Sizes(160, 40, 80)
WALL_SECONDS = 60.0  # of a unit of budget


def main(words: Sequence[str]) -> None:
    """Run what is not in the file of runs yet, and say what all of it comes to."""
    configure_logging(style="text", level="error")
    asked = _parser().parse_args(words)
    chosen = _members(asked.arms) or [name for name, arm in ARMS.items() if arm.short or not (asked.short or arm.asked)]
    again = _members(asked.again)
    seeds = asked.seeds or (SEEDS[:1] if asked.short else SEEDS)
    try:
        sizes = SHORT if asked.short else FULL
        sizes = sizes._replace(train=asked.train_rows or sizes.train)
        parts = {name: TASKS[name].parts(sizes) for name in asked.tasks or TASKS}
    except GradientsError as error:
        sys.exit(f"{error}\n{error.fix or ''}")
    runs = [
        Run(base=base, task=task, arm=arm, seed=seed, data=parts[task].digest, clock=asked.clock, seconds=asked.seconds)
        for base in asked.bases or [None]
        for seed in seeds
        for task in parts
        for arm in (["base", *chosen] if "base" not in chosen else chosen)
        if ARMS[arm].trains(of_pictures=TASKS[task].of_pictures) and (base is None or not TASKS[task].of_pictures)
    ]
    asked.runs.parent.mkdir(parents=True, exist_ok=True)
    done = {each.run.key: each for each in read(asked.runs)}
    missing = [] if asked.as_is else [run for run in runs if run.key not in done or run.arm in again]
    for number, each in enumerate(perform(missing, parts, workers=asked.workers), start=1):
        append(asked.runs, each)
        done[each.run.key] = each
        said = f"failed: {each.failure.strip().splitlines()[-1]}" if each.failure else f"{each.seconds:.0f} s"
        print(
            f"{number}/{len(missing)} {each.run.task} {each.run.arm} {each.run.seed}: {said}",
            file=sys.stderr,
            flush=True,
        )
    _say([done[run.key] for run in runs if run.key in done], as_json=asked.json, plot=asked.plot)


def read(file: Path) -> Iterator[Done]:
    """The runs in a file. A last line that a kill cut short is taken out of it."""
    if not file.is_file():
        return
    text = file.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if len(whole) < len(text):
        with file.open("rb+") as stream:
            stream.truncate(len(whole))
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            yield Done.model_validate_json(line)
        except ValidationError as error:
            sys.exit(f"Line {number} of {file} is not a run; name another file with --runs\n{error}")


def append(file: Path, done: Done) -> None:
    """Write down a run for good."""
    with file.open("a", encoding="utf-8") as stream:
        stream.write(done.model_dump_json(exclude_defaults=True) + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def perform(runs: Sequence[Run], parts: dict[str, Parts], *, workers: int) -> Iterator[Done]:
    """Do the runs in processes of one thread each, and yield them as they end."""
    if not runs:
        return
    with ProcessPoolExecutor(
        min(workers, len(runs)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=begin,
        initargs=(runs[0].clock, 1),
    ) as pool:
        for future in as_completed([pool.submit(do, run, parts[run.task]) for run in runs]):
            yield future.result()


def _say(runs: Sequence[Done], *, as_json: bool, plot: Path | None) -> None:
    outcomes = outcomes_of(runs)
    if plot is not None:
        draw(outcomes, plot)
    if not as_json:
        print("\n".join(tables(outcomes, runs)))
        return
    families = {family: [pair.as_json() for pair in pairs] for family, pairs in by_family(outcomes).items()}
    failed = sum(bool(each.failure) for each in runs)
    pairs = [pair.as_json() for pair in pairings(outcomes)]
    print(json.dumps({"pairs": pairs, "families": families, "runs": len(runs), "failed": failed}))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench recipes", description=__doc__)
    parser.add_argument("--short", action="store_true", help="fewer rows, one seed, the essential arms")
    parser.add_argument(
        "--json", action="store_true", help="the last line is one JSON object; without it, Markdown tables"
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, metavar="TASK", help=f"of {', '.join(TASKS)}")
    names = [*ARMS, *GROUPS]
    parser.add_argument("--arms", nargs="+", choices=names, default=[], metavar="ARM", help=f"of {', '.join(names)}")
    parser.add_argument(
        "--again", nargs="+", choices=names, default=[], metavar="ARM", help="run these though they stand in the file"
    )
    parser.add_argument("--seeds", nargs="+", type=int, help=f"instead of {SEEDS}")
    parser.add_argument(
        "--bases",
        nargs="+",
        type=_base,
        metavar="FOLDER",
        help="instead of the shipped one, for texts; see gradients/ml/smollm2.py",
    )
    parser.add_argument("--train-rows", type=int, help=f"instead of {FULL.train}, or of {SHORT.train} with --short")
    parser.add_argument("--clock", choices=("tokens", "wall"), default="tokens", help="what a budget is counted in")
    parser.add_argument("--seconds", type=float, default=WALL_SECONDS, help="of a unit of budget, with --clock wall")
    parser.add_argument("--workers", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--runs", type=Path, default=SOURCES / "recipes.jsonl", help="the file of runs")
    parser.add_argument("--as-is", action="store_true", help="run nothing: report what stands in the file")
    parser.add_argument("--plot", type=Path, help="draw a picture into this file (PNG)")
    return parser


def _members(names: Sequence[str]) -> list[str]:
    """The arms of these names, those of a group where one is named."""
    return [arm for name in names for arm in GROUPS.get(name, (name,))]


def _base(text: str) -> Path:
    folder = Path(text)
    if not (folder / "config.json").is_file():
        raise argparse.ArgumentTypeError(
            f"{folder} holds no model: python -m gradients.ml.smollm2 {folder} leaves one there"
        )
    return folder.resolve()
