"""How long it takes to measure N adapters on the same rows: a process each as the incumbent does, a careful loop, lm-eval, and ours.

Whole commands with process start and imports. Ours is the validator's own stage with ledger, sandbox and kept workers, on every share of
the CPU. The loop gets the number of threads that suits it best. What a process each costs is measured for a few and multiplied, since it
is linear by construction. The loop's and our numbers have to agree to 2e-5, row by row.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gradients.bases.bases import SHIPPED, BaseModels
from gradients.clock import SystemClock
from gradients.domain.submission import BASE_ENTRANT, Submission, SubmissionState
from gradients.domain.task import Blob, Hotkey, Prepared, TaskId, TaskRequest, TaskState, Window
from gradients.execution.devices import Device as ExecutionDevice
from gradients.execution.devices import Devices, cpu_shares
from gradients.execution.process import ProcessExecutor
from gradients.execution.warm import WarmExecutor
from gradients.ml.base_model import load_base
from gradients.ml.batching import measuring_tokens, plan_tightly
from gradients.ml.device import Device
from gradients.ml.losses import measure_rows
from gradients.ml.text import ChatFormat, Example, PromptRow
from gradients.repo.store import ContentStore
from gradients.sandbox.trial import worker_refusal
from gradients.simulator.plots import Chart, colours
from gradients.tasks.base import SHIPPED_DATA
from gradients.testing.fake_chain import FakeChain
from scripts.benchmarks.evaluation_types import beside
from scripts.benchmarks.memory import PeakMemory
from scripts.benchmarks.timing import Figure, Ratios, figure
from validator.folders import Folders
from validator.ledger import Ledger
from validator.ledger.lease import Claim
from validator.ledger.submissions import add_submissions
from validator.settings import MeasureSettings
from validator.stages.measure import MeasureStage

RUNS = int(os.environ.get("BENCH_RUNS", "2"))
BESIDE = os.environ.get("BENCH_BESIDE", "")  # a commit, whose code measures each type's demonstration too
PLOT = os.environ.get("BENCH_PLOT", "")  # a PNG to write
ENTRANTS = 16
COUNTS = (1, 4, 64)  # beside these
RANK = 16
AGREED = 2e-5  # single precision over a vocabulary of 49,152 is no better
SMOLLM2_ROWS, NANO_ROWS = 32, 294
CPU = Device("cpu")


@dataclass(frozen=True, slots=True)
class Question:
    """A base, the rows to measure on, and adapters."""

    base: Path
    rows: Path
    encoded: Sequence[Example]
    adapters: Sequence[Path]


def evaluation() -> Sequence[Figure | Ratios]:
    """All ways on nano-lm, the loop and ours on SmolLM2-135M as well (where its package can be had)."""
    figures: list[Figure] = []
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as place:
        nano = _question(Path(place) / "nano", SHIPPED / "nano-lm", NANO_ROWS)
        ours = [_ours(nano, Path(place) / f"ours-{run}") for run in range(RUNS)]
        loop = [_best_loop(nano, Path(place) / f"plain-{run}") for run in range(RUNS)]
        apart = _difference(ours[0].values, loop[0].values)
        each = {way: _one_process(way, nano, Path(place) / way) for way in ("trainer", "lm_eval")}
        alone, _ = _run("plain", nano, Path(place) / "plain-one-thread", threads=1)
        seconds = min(run.seconds for run in ours)
        ratios["per_process_16"] = each["trainer"] * (ENTRANTS + 1) / seconds
        ratios["plain_16"] = min(run.seconds for run in loop) / seconds
        ratios["plain_one_thread_16"] = alone / seconds
        ratios["plain_16_kept"] = min(run.seconds for run in loop) / min(run.again_seconds for run in ours)
        ratios["lm_eval_16"] = each["lm_eval"] * (ENTRANTS + 1) / seconds
        figures += [
            figure("nano-lm, 16 adapters: ours, job by job", "s", [run.seconds for run in ours]),
            figure("nano-lm, 16 adapters: ours, on a base that is held", "s", [run.again_seconds for run in ours]),
            figure("nano-lm, 16 adapters: ours, peak memory", "MB", [run.peak_megabytes for run in ours]),
            figure("nano-lm: ours, first task to its first number", "s", [run.first_seconds for run in ours]),
            figure("nano-lm: ours, next task to its first number", "s", [run.next_seconds for run in ours]),
            figure(f"nano-lm, 16 adapters: a loop, {loop[0].threads} threads", "s", [run.seconds for run in loop]),
            figure("nano-lm, 16 adapters: a loop, one thread", "s", [alone]),
            figure("nano-lm, one model: Trainer at batch 1", "s", [each["trainer"]]),
            figure("nano-lm, one model: lm-eval", "s", [each["lm_eval"]]),
            figure("nano-lm: largest difference of a row, loop and ours", "nats", [apart]),
            figure("nano-lm: forward pass, share of matmul rate", "", [_share_of_matmul(nano)]),
        ]
        figures += _by_count(nano, Path(place), {ENTRANTS: (seconds, min(run.seconds for run in loop))}, each)
        if (smollm2 := _smollm2(Path(place) / "smollm2")) is not None:
            asked = _question(Path(place) / "smol", smollm2, SMOLLM2_ROWS)
            large, theirs = _ours(asked, Path(place) / "smol-ours"), _best_loop(asked, Path(place) / "smol-plain")
            ratios["smollm2_plain_16"] = theirs.seconds / large.seconds
            figures += [
                figure("SmolLM2, 16 adapters: ours, job by job", "s", [large.seconds]),
                figure("SmolLM2, 16 adapters: ours, peak memory", "MB", [large.peak_megabytes]),
                figure(f"SmolLM2, 16 adapters: a loop, {theirs.threads} threads", "s", [theirs.seconds]),
                figure("SmolLM2: largest difference of a row", "nats", [_difference(large.values, theirs.values)]),
                figure("SmolLM2: forward pass, share of matmul rate", "", [_share_of_matmul(asked)]),
            ]
    for name, (own, before) in beside(BESIDE).items():
        figures.append(figure(f"{name}, demonstration: one more submission", "s", [own["entrant"]]))
        if before:
            figures.append(figure(f"{name}, demonstration: the same at {BESIDE}", "s", [before["entrant"]]))
            ratios[f"{name}_before"] = before["entrant"] / own["entrant"]
    return [*figures, Ratios({name: round(ratio, 3) for name, ratio in ratios.items()})]


@dataclass(frozen=True, slots=True)
class Ours:
    """What our stage took."""

    seconds: float
    first_seconds: float
    next_seconds: float
    again_seconds: float  # of the next task, whose base is held
    peak_megabytes: float
    values: Sequence[Sequence[float]]


@dataclass(frozen=True, slots=True)
class Loop:
    """What the loop took."""

    seconds: float
    threads: int
    values: Sequence[Sequence[float]]


def _ours(question: Question, folder: Path) -> Ours:
    """One task with all adapters in a validator that has just started, and then another one."""
    folder.mkdir()
    ledger = Ledger.open(f"sqlite:///{folder}/ledger.db", SystemClock())
    folders, store = Folders(folder), ContentStore(folder / "blobs")
    names = [f"miner-{number:02}" for number in range(len(question.adapters))]
    claims = [_collected(ledger, "0" * 12, question, names), _collected(ledger, "1" * 12, question, names)]
    place = store.path("d" * 64)
    place.parent.mkdir(parents=True)
    place.write_bytes(question.rows.read_bytes())
    for claim in claims:
        for name, adapter in zip(names, question.adapters, strict=True):
            target = folders.submission(claim.task.id, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(adapter)

    async def main() -> Ours:
        sandboxed = worker_refusal() is None
        executor = WarmExecutor(ProcessExecutor(sandboxed=sandboxed), folder / "workers", sandboxed=sandboxed)

        async def look() -> Sequence[ExecutionDevice]:
            return cpu_shares(1)

        chain = FakeChain()
        await chain.advance(100)
        bases = BaseModels(shipped=SHIPPED, cache=folder / "cache", folders=True)
        stage = MeasureStage(
            ledger, chain.gateway("validator"), bases, store, executor, Devices(look), folders, MeasureSettings()
        )
        firsts, wholes = [], []
        with PeakMemory() as memory:
            for claim in claims:
                begun = time.perf_counter()
                running = asyncio.create_task(stage.run(claim))
                while not running.done() and not list(folders.workers.rglob("taken/*/*/base.json")):  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
                firsts.append(time.perf_counter() - begun)
                await running
                wholes.append(time.perf_counter() - begun)
        await executor.close()
        found = ledger.submissions.measurements(claims[0].task.id)
        values = [found[name].per_row for name in [BASE_ENTRANT, *names]]
        return Ours(wholes[0], firsts[0], firsts[1], wholes[1], memory.peak_megabytes, values)

    try:
        return asyncio.run(main())
    finally:
        ledger.engine.dispose()


def _by_count(
    question: Question, folder: Path, known: dict[int, tuple[float, float]], each: Mapping[str, float]
) -> list[Figure]:
    """Ours and the loop by the number of adapters; a picture of all ways where BENCH_PLOT says."""
    found: list[Figure] = []
    for count in COUNTS:
        adapters = [question.adapters[number % len(question.adapters)] for number in range(count)]
        some = Question(question.base, question.rows, question.encoded, adapters)
        ours, loop = (
            _ours(some, folder / f"ours-of-{count}").seconds,
            _best_loop(some, folder / f"plain-of-{count}").seconds,
        )
        known[count] = ours, loop
        found.append(figure(f"nano-lm, {count} adapters: ours", "s", [ours]))
        found.append(figure(f"nano-lm, {count} adapters: a loop", "s", [loop]))
    counts = sorted(known)
    found.append(figure("nano-lm: ours, one more adapter", "s", [_slope(counts, [known[n][0] for n in counts])]))
    if PLOT:
        _draw(Path(PLOT), known, each)
    return found


def _slope(counts: Sequence[int], seconds: Sequence[float]) -> float:
    """Seconds of one more adapter, between the largest two counts."""
    return (seconds[-1] - seconds[-2]) / (counts[-1] - counts[-2])


def _draw(file: Path, known: Mapping[int, tuple[float, float]], each: Mapping[str, float]) -> None:
    counts = sorted(known)
    most = max(max(known[count]) for count in counts)
    curves: dict[str, list[tuple[float, float]]] = {
        "ours": [(count, known[count][0]) for count in counts],
        "a loop": [(count, known[count][1]) for count in counts],
        "a process each": [(n, each["trainer"] * (n + 1)) for n in (0.0, most / each["trainer"] - 1)],
        "lm-eval": [(n, each["lm_eval"] * (n + 1)) for n in (0.0, most / each["lm_eval"] - 1)],
    }
    chart = Chart("seconds by number of adapters, nano-lm", x=(0, counts[-1]), y=(0, most), form=".0f")
    for colour, (name, points) in zip(colours(len(curves)), curves.items(), strict=True):
        chart.curve(points, colour, name)
    chart.picture.save(file)


def _best_loop(question: Question, folder: Path) -> Loop:
    """The careful loop with as many threads as suit it best: tried with two adapters, then all are measured."""
    few = Question(question.base, question.rows, question.encoded, question.adapters[:2])
    tried = {
        threads: _run("plain", few, folder / f"tried-{threads}", threads=threads)[0]
        for threads in range(1, (os.cpu_count() or 1) + 1)
    }
    threads = min(tried, key=lambda each: tried[each])
    seconds, values = _run("plain", question, folder / "all", threads=threads)
    return Loop(seconds, threads, values)


def _one_process(way: str, question: Question, folder: Path) -> float:
    """Seconds of a process for one adapter, the least of three, with as many threads as this machine has cores."""
    few = Question(question.base, question.rows, question.encoded, question.adapters[:1])
    return min(_run(way, few, folder / str(run), threads=os.cpu_count() or 1)[0] for run in range(3))


def _run(way: str, question: Question, folder: Path, *, threads: int) -> tuple[float, list[list[float]]]:
    folder.mkdir(parents=True)
    rows = [{"tokens": example.tokens, "start": example.spans[0].start} for example in question.encoded]
    job = {
        "base": str(question.base),
        "rows": rows,
        "adapters": list(map(str, question.adapters)),
        "threads": threads,
        "folder": str(folder),
    }
    (folder / "job.json").write_text(json.dumps(job))
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "scripts.benchmarks.rivals", way, str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - started, json.loads((folder / "out.json").read_text())


def _difference(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> float:
    apart = max(
        abs(one - other) for mine, his in zip(ours, theirs, strict=True) for one, other in zip(mine, his, strict=True)
    )
    if apart > AGREED:
        sys.exit(f"the loop's numbers and ours differ by up to {apart:.2e} nats a token")
    return apart


def _share_of_matmul(question: Question) -> float:
    """Seconds of the linear layers' products alone, at the tokens and positions that are computed, over those of the forward passes."""
    base = load_base(question.base, CPU)
    most = measuring_tokens(CPU, base.vocabulary)
    lengths = [len(example.tokens) for example in question.encoded]
    batches = [len(rows) * lengths[rows[0]] for rows in plan_tightly(lengths, max_tokens=most)]
    head = base.model.get_output_embeddings()
    layers = [layer for layer in base.model.modules() if isinstance(layer, nn.Linear) and layer is not head]
    tokens = {id(layer): sum(batches) for layer in layers} | {id(head): sum(one.counted for one in question.encoded)}
    torch.set_num_threads(1)

    def products() -> float:
        taken = 0.0
        with torch.inference_mode():
            for layer in [*layers, head]:
                given = torch.randn(most, layer.weight.shape[1])
                layer(given)
                started = time.process_time()
                layer(given)
                taken += (time.process_time() - started) * tokens[id(layer)] / most
        return taken

    def forward() -> float:
        started = time.process_time()
        measure_rows(base.model, question.encoded, device=CPU, max_tokens=most)
        return time.process_time() - started

    forward()
    return min(products() for _ in range(3)) / min(forward() for _ in range(3))


def _question(folder: Path, base: Path, rows: int) -> Question:
    """Shipped definitions as rows, and adapters of random numbers."""
    folder.mkdir()
    with (SHIPPED_DATA / "wordnet-definitions" / "rows.jsonl").open(encoding="utf-8") as file:
        told = [json.loads(line) for line in file][:rows]
    texts = [{"system": None, "prompt": row["question"], "completion": row["definition"]} for row in told]
    held_out = folder / "rows.jsonl"
    held_out.write_text("".join(json.dumps(row) + "\n" for row in texts))
    loaded = load_base(base, CPU)
    chat = ChatFormat(loaded.tokenizer, vocabulary=loaded.vocabulary)
    encoded = chat.encode([PromptRow.model_validate(row) for row in texts], max_tokens=512)
    adapters = [_adapter(folder / f"adapter-{number:02}", loaded.model, number) for number in range(ENTRANTS)]
    return Question(base, held_out, encoded, adapters)


def _adapter(folder: Path, model: nn.Module, seed: int) -> Path:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    changed: Any = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=RANK, target_modules="all-linear"))
    for name, weight in changed.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.02)
    changed.save_pretrained(folder)
    changed.unload()
    return folder


def _smollm2(folder: Path) -> Path | None:
    done = subprocess.run([sys.executable, "-m", "gradients.ml.smollm2", str(folder)], check=False, capture_output=True)
    return folder if done.returncode == 0 else None


def _collected(ledger: Ledger, number: str, question: Question, miners: Sequence[str]) -> Claim:
    """A claimed task whose repos have come in."""
    task_id = TaskId(f"instruct-{number}")
    request = TaskRequest(
        type="instruct", base=str(question.base), dataset={"kind": "file", "path": "rows"}, parameters={}, hours=1.0
    )
    prepared = Prepared(
        "b" * 64, 1_000_000, Blob("c" * 64, 1), Blob("d" * 64, 1), 90, len(question.encoded), "e" * 64, removed=()
    )
    tasks, submissions = ledger.tasks, ledger.submissions

    def due(state: TaskState) -> Claim:
        claim = tasks.claim([state], owner=number, block=10_000, lease_seconds=3600)
        assert claim is not None  # noqa: S101 (it was made in the line before)
        return claim

    tasks.create(task_id, request, customer="schedule", salt=b"s" * 32)
    tasks.advance(due(TaskState.DRAFT).lease, came_from=TaskState.DRAFT, to=TaskState.OPEN, prepared=prepared)
    lease = due(TaskState.OPEN).lease
    invited = [Submission(task_id, Hotkey(name), uid, SubmissionState.INVITED) for uid, name in enumerate(miners, 1)]
    tasks.set_window(lease, Window(10, 20, 30), draw={}, also=lambda session: add_submissions(session, invited))
    for name in miners:
        submissions.started(lease, name)
    tasks.advance(lease, came_from=TaskState.OPEN, to=TaskState.ASSIGNED)
    lease = due(TaskState.ASSIGNED).lease
    for block, name in enumerate(miners, start=11):
        submissions.collected(lease, name, manifest="{}", manifest_sha256="f" * 64, committed_at_block=block)
    tasks.advance(lease, came_from=TaskState.ASSIGNED, to=TaskState.COLLECTED)
    return due(TaskState.COLLECTED)
