"""How alike honest models are, and how alike copies: what the thresholds of `gradients/scoring` for copies are set by.

Each task type's demonstration is trained by several recipes and seeds, then two of the runs are forged in every way that we can think of.
Four numbers say how alike two models are: how little their rows differ (the standard deviation of paired differences, over the upper
quartile of all pairs of the field, the base among it, and over the rows' distance from the base), the cosine of their updates, and the
cosine of what these do to secret probes.

The environment's COPIES_TYPES names types instead of all, COPIES_EPOCHS trains longer by a factor.
"""

from __future__ import annotations

import itertools
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, cast

import torch

from gradients.bases.bases import SHIPPED
from gradients.domain.json import JsonObject
from gradients.domain.task import TaskRequest
from gradients.execution.functions import resolve
from gradients.localnet.demo import spec
from gradients.scoring.fingerprints import similarity
from gradients.tasks.base import TaskType
from gradients.tasks.jobs.measuring import Entrant, EntrantResult, MeasureJob
from gradients.tasks.jobs.message import Parameters
from gradients.tasks.jobs.training import TrainingPlan, TrainJob
from gradients.tasks.preparation import prepare
from gradients.tasks.registry import task_type, validate_request
from scripts.benchmarks import forgeries
from scripts.benchmarks.timing import Figure, figure

Results = Mapping[str, EntrantResult]
MOST_SECONDS = 600.0  # of one run; all end by epochs, long before


class Effort(NamedTuple):
    """How much of a type's demonstration is trained and measured on."""

    train_rows: int
    held_out_rows: int
    epochs: float
    factor: float = 1.0  # on the rates for answers, as in the reference miner's recipes


EFFORTS = {
    "instruct": Effort(1000, 250, 1.0),
    "chat": Effort(1000, 250, 3.0),
    "dpo": Effort(600, 250, 1.0, 0.5),
    "rag": Effort(240, 60, 1.0),
    "grpo": Effort(160, 48, 1.0, 0.5),
    "diffusion": Effort(48, 12, 20.0, 0.5),
}


class Alike(NamedTuple):
    """Four measures of how alike two entrants are."""

    rows: float  # how their rows differ, over the upper quartile of all pairs
    moves: float  # the same, over how the rows of the one that is nearer to the base differ from the base's
    update: float
    outputs: float


@dataclass
class Market:
    """One task, in which runs are trained, forged and measured."""

    kind: TaskType
    request: TaskRequest
    base: Path
    train_file: Path
    held_out_file: Path
    folder: Path
    effort: Effort
    repos: dict[str, Path] = field(default_factory=dict)

    def train(
        self,
        name: str,
        *,
        seed: int = 1,
        base: Path | None = None,
        file: Path | None = None,
        changes: Mapping[str, object] | None = None,
        seconds: float = MOST_SECONDS,
    ) -> Path:
        """The repo of a run, by default a tuned LoRA."""
        plan: dict[str, object] = {
            "recipe": name,
            "method": "lora",
            "learning_rate": 4e-3 * self.effort.factor,
            "max_epochs": self.effort.epochs,
            "lora_rank": 32,
            "lora_alpha": 64.0 if self.kind.base_family == "language" else 32.0,
            "validation_fraction": 0.03 if self.kind.base_family == "language" else 0.1,
        }
        job = TrainJob(
            base_folder=base or self.base,
            train_file=file or self.train_file,
            parameters=cast(Parameters, self.request.parameters),
            plan=TrainingPlan.model_validate(plan | dict(changes or {})),
            seed=seed,
            deadline_unix=time.time() + seconds,
            checkpoint_folder=self.folder / f"{name}-checkpoint",
            output_folder=self.folder / name,
        )
        resolve(self.kind.train)(job.model_dump(mode="json"), _ignore)
        return job.output_folder

    def measure(self, entrants: Mapping[str, Path | None]) -> Results:
        """What a validator would know of each. Raises AssertionError for one that it would refuse."""
        job = MeasureJob(
            base_folder=self.base,
            held_out_file=self.held_out_file,
            parameters=cast(Parameters, self.request.parameters),
            entrants=tuple(Entrant(id=name, folder=folder) for name, folder in entrants.items()),
            results_folder=self.folder / "results",
            seed=5,
            sketch_key="benchmark",
        )
        resolve(self.kind.measure)(job.model_dump(mode="json"), _ignore)
        read = EntrantResult.model_validate_json
        results = {name: read((job.results_folder / f"{name}.json").read_bytes()) for name in entrants}
        assert not (bad := {n: r.failure_message for n, r in results.items() if r.value is None}), bad  # noqa: S101
        return results

    def honest(self) -> dict[str, Path]:
        """Runs of nobody who copies."""
        rate = self.effort.factor
        small: dict[str, object] = {"learning_rate": 2e-3 * rate, "lora_rank": 8, "lora_alpha": 16.0}
        weak: dict[str, object] = {"learning_rate": 3e-5, "lora_rank": 16, "lora_alpha": 32.0, "lora_dropout": 0.05}
        full: dict[str, object] = {"learning_rate": 1e-3 * rate, "method": "full"}
        recipes: list[tuple[str, int, dict[str, object]]] = [("lora", 3, {}), ("small", 2, small), ("weak", 2, weak)]
        if self.kind.base_family == "language":
            large = full | {"batch_rows": 64}
            recipes += [("full", 3, full), ("large", 2, large), ("weak large", 2, large | {"learning_rate": 3e-5})]
        found = {
            f"{name} {seed}": self.train(f"{name} {seed}", seed=seed + 10 * number, changes=changes)
            for number, (name, seeds, changes) in enumerate(recipes)
            for seed in range(1, seeds + 1)
        }
        return found | {"lora order": self.train("lora order", seed=1, file=self._shuffled())}

    def forged(self, honest: Mapping[str, Path]) -> dict[str, tuple[str, Path]]:
        """Copies by name, each with the honest run that it is a copy of."""
        source, other = honest["lora 1"], honest["lora 2"]
        ways = {
            "exact": lambda _, factors: factors,
            "rotated factors": forgeries.rotated,
            "other split": forgeries.other_split,
            "alpha 16.01 for 16": forgeries.scaled(16.01 / 16),
            "scaled 1.2": forgeries.scaled(1.2),
            "scaled 0.5": forgeries.scaled(0.5),
            "bfloat16": forgeries.rounded,
            **{f"noise {share:g}": forgeries.noised(share) for share in (1e-9, 1e-4, 1e-2, 5e-2, 0.2)},
            "half of the ranks": forgeries.fewer_ranks(16),
            **{f"{w:.0%} averaged with own run": forgeries.averaged_with(other, w) for w in (0.9, 0.7, 0.5)},
        }
        made = {name: ("lora 1", forgeries.forged_lora(source, self.folder / name, way)) for name, way in ways.items()}
        return made | (self._forged_whole(honest) if self.kind.base_family == "language" else {})

    def _forged_whole(self, honest: Mapping[str, Path]) -> dict[str, tuple[str, Path]]:
        merged, full, other = (
            forgeries.whole_model(self.base, honest[name]) for name in ("lora 1", "full 1", "full 2")
        )
        on = {steps: self._trained_on(merged, f"on {steps}", steps=steps) for steps in (4, 64)}
        full_on = forgeries.whole_model(self.base, self._trained_on(full, "full on", steps=16))
        made = {
            "merged, float16": ("lora 1", {name: weight.half() for name, weight in merged.items()}, 1),
            "merged, 3 shards": ("lora 1", merged, 3),
            "full, bfloat16": ("full 1", {name: weight.bfloat16() for name, weight in full.items()}, 1),
            "full, trained on, 16 steps": ("full 1", full_on, 1),
            "full, neurons moved": ("full 1", forgeries.neurons_moved(full), 1),
            "full, neurons rescaled": ("full 1", forgeries.neurons_rescaled(full), 1),
            "full, idle tokens shaken": ("full 1", forgeries.idle_tokens_shaken(self.base, full, self._lines()), 1),
            "full, idle directions shaken": (
                "full 1",
                forgeries.idle_directions_shaken(self.base, full, self._lines()[:64]),
                1,
            ),
            "full, neurons moved, trained on": ("full 1", forgeries.neurons_moved(full_on), 1),
            "full, 50% averaged with own run": ("full 1", forgeries.average(full, other), 1),
        }
        whole = {
            name: (of, forgeries.write_whole(self.base, weights, self.folder / name, shards=shards))
            for name, (of, weights, shards) in made.items()
        }
        return whole | {f"trained on, {steps} steps": ("lora 1", repo) for steps, repo in on.items()}

    def _trained_on(self, weights: Mapping[str, torch.Tensor], name: str, *, steps: int) -> Path:
        """A few more steps of full fine-tuning from what somebody else has trained."""
        start = forgeries.write_whole(self.base, weights, self.folder / f"{name} start")
        few = self.folder / f"{name}.jsonl"
        few.write_text("".join(self._lines()[: 8 * steps]), encoding="utf-8")
        changes: dict[str, object] = {
            "method": "full",
            "learning_rate": 2e-4 * self.effort.factor,  # a fifth of what a full fine-tune begins with
            "max_epochs": 1.0,
        }
        return self.train(name, seed=9, base=start, file=few, changes=changes)

    def _lines(self) -> list[str]:
        return self.train_file.read_text(encoding="utf-8").splitlines(keepends=True)

    def _shuffled(self) -> Path:
        """The same rows in another order: with a run's own seed the LoRA starts as that run's did."""
        lines = self._lines()
        random.Random(0).shuffle(lines)
        file = self.folder / "shuffled.jsonl"
        file.write_text("".join(lines), encoding="utf-8")
        return file


def copies() -> Sequence[Figure]:
    """Of each type: pairs of honest runs in groups, then copies with what they copy."""
    types = os.environ.get("COPIES_TYPES", ",".join(EFFORTS)).split(",")
    longer = float(os.environ.get("COPIES_EPOCHS", "1"))
    return [line for name in types for line in _figures(name, EFFORTS[name], longer)]


def _figures(name: str, effort: Effort, longer: float) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        market = market_of(name, Path(folder), effort._replace(epochs=effort.epochs * longer))
        started = time.perf_counter()
        honest = market.honest()
        forged = market.forged(honest)
        trained = time.perf_counter()
        results = market.measure({"base": None, **honest, **{way: repo for way, (_, repo) in forged.items()}})
        yield figure(f"{name}: training, forging", "s", [trained - started])
        yield figure(f"{name}: measuring, each", "s", [result.seconds for result in results.values()])
    for run in ("base", *honest):
        yield figure(f"{name}: value of {run}", market.kind.metric.unit, [cast(float, results[run].value)])
    field_of_honest = ("base", *honest)
    for group, pairs in itertools.groupby(sorted(itertools.combinations(honest, 2), key=_group), key=_group):
        yield from _lines(f"{name}: {group}", [alike(results, *pair, among=field_of_honest) for pair in pairs])
    for run in ("lora 1", "weak 1"):
        yield from _lines(f"{name}: base, {run}", [alike(results, "base", run, among=field_of_honest)])
    for way, (of, _) in forged.items():
        yield from _lines(f"{name}: {way}", [alike(results, of, way, among=(*field_of_honest, way))])


def alike(results: Results, one: str, other: str, *, among: Sequence[str]) -> Alike:
    """How alike two entrants are in the field of all `among`."""
    spreads = [_spread(results[a], results[b]) for a, b in itertools.combinations(among, 2)]
    apart = _spread(results[one], results[other])
    from_base = [_spread(results["base"], results[name]) for name in (one, other)]
    prints = [results[name].fingerprint for name in (one, other)]
    ours, theirs = prints
    return Alike(
        apart / statistics.quantiles(spreads, n=4, method="inclusive")[2],
        apart / min(from_base) if min(from_base) else 0.0,
        similarity(ours.update, theirs.update) if ours and theirs else 0.0,
        similarity(ours.outputs, theirs.outputs) if ours and theirs else 0.0,
    )


def _spread(one: EntrantResult, other: EntrantResult) -> float:
    return statistics.stdev(a - b for a, b in zip(one.per_row, other.per_row, strict=True))


def _group(pair: tuple[str, str]) -> str:
    """What two honest runs have in common."""
    if pair == ("lora 1", "lora order"):
        return "lora, same seed, other order"
    one, other = (name.rpartition(" ")[0] for name in pair)
    return f"{one}, other seed" if one == other else "other recipe"


def _lines(what: str, pairs: Sequence[Alike]) -> Iterator[Figure]:
    units = ("s/Q75", "s/s0", "cosine", "cosine")
    for measure, unit, values in zip(Alike._fields, units, zip(*pairs, strict=True), strict=True):
        yield figure(f"{what}: {measure}", unit, list(values))


def market_of(name: str, folder: Path, effort: Effort) -> Market:
    """The type's demonstration, no more of it than the effort says."""
    kind = task_type(name)
    request = validate_request(spec(name, number=0, hours=0.1, base=None))
    data = prepare(kind, request, salt=b"bench", folder=folder / "data")
    files = []
    for file, most in ((data.train_file, effort.train_rows), (data.held_out_file, effort.held_out_rows)):
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        files.append(folder / file.name)
        files[-1].write_text("".join(lines[:most]), encoding="utf-8")
    base = SHIPPED / ("nano-lm" if kind.base_family == "language" else "nano-image")
    return Market(kind, request, base, files[0], files[1], folder, effort)


def _ignore(_: JsonObject) -> None:
    """Progress that nobody watches."""
