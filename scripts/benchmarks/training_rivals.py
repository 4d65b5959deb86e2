"""Training the same rows with our loop and with TRL's SFTTrainer: tokens a second of processor time, and peak memory.

Each is a process of its own that takes turns with the other, since machines change from minute to minute; the ratio is what to read. Both
train in 32 bits on one thread, on eight rows a step, completions only, without gradient checkpointing. BENCH_BASE names another base's
folder than the shipped one's, BENCH_STEPS how many steps are timed.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from gradients.bases.bases import SHIPPED
from gradients.tasks.base import SHIPPED_DATA
from scripts.benchmarks.timing import Figure, Ratios, figure

Engine = Literal["ours", "trl"]
ENGINES: tuple[Engine, ...] = ("ours", "trl")
METHODS = ("full", "lora")
BATCH_ROWS, RANK, RATE, MAX_TOKENS = 8, 32, 1e-4, 512
TURNS, STEPS, SETTLING_STEPS, HELD_OUT = 3, 40, 4, 64


class Timed(NamedTuple):
    """What one process measured."""

    tokens: int  # of the rows, without padding
    processor_seconds: float
    seconds: float
    peak_megabytes: float  # of the whole process, libraries included
    loss: float  # on rows that neither trained on, nats a token


def training() -> Iterator[Figure | Ratios]:
    """Both engines in turns, for each way of training."""
    base = Path(os.environ.get("BENCH_BASE", SHIPPED / "nano-lm"))
    steps = int(os.environ.get("BENCH_STEPS", STEPS))
    ratios = {}
    for method in METHODS:
        turns = [{engine: _apart(engine, method, base, steps) for engine in ENGINES} for _ in range(TURNS)]
        for engine in ENGINES:
            own = [turn[engine] for turn in turns]
            speeds = [timed.tokens / timed.processor_seconds for timed in own]
            yield figure(f"{base.name}, {method}, {engine}: speed", "tokens/s", speeds)
            yield figure(f"{base.name}, {method}, {engine}: memory", "MB", [timed.peak_megabytes for timed in own])
            yield figure(f"{base.name}, {method}, {engine}: loss", "nats", [timed.loss for timed in own])
        per_token = [
            [turn[engine].processor_seconds / turn[engine].tokens for turn in turns] for engine in ("trl", "ours")
        ]
        ratios[f"trl_{method}"] = statistics.median(theirs / ours for theirs, ours in zip(*per_token, strict=True))
    yield Ratios(ratios)


def _apart(engine: Engine, method: str, base: Path, steps: int) -> Timed:
    command = [sys.executable, "-m", "scripts.benchmarks.training_rivals", engine, method, str(base), str(steps)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return Timed(**json.loads(done.stdout.splitlines()[-1]))


class _Meter:
    """Counts from the end of the settling steps to the last one."""

    def __init__(self) -> None:
        self.tokens, self._steps, self._begun = 0, 0, (0.0, 0.0)

    def step(self, tokens: int) -> None:
        """One was made, on so many tokens."""
        self._steps += 1
        self.tokens += tokens if self._steps > SETTLING_STEPS else 0
        if self._steps == SETTLING_STEPS:
            self._begun = time.process_time(), time.perf_counter()

    def timed(self, model: Any, base: Path) -> Timed:  # noqa: ANN401 (with an adapter or without)
        """What has passed since the settling steps, and how well the model does."""
        processor, wall = (
            now - then for now, then in zip((time.process_time(), time.perf_counter()), self._begun, strict=True)
        )
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return Timed(self.tokens, processor, wall, peak, _loss(model, base))


def _rows(count: int) -> list[dict[str, str]]:
    with (SHIPPED_DATA / "wordnet-definitions" / "rows.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line, _ in zip(file, range(count), strict=False)]


def _loss(model: Any, base: Path) -> float:  # noqa: ANN401
    from gradients.ml.base_model import load_base
    from gradients.ml.device import choose_device
    from gradients.ml.losses import measure_rows
    from gradients.ml.text import ChatFormat, PromptRow

    untouched = load_base(base, choose_device())
    told = [PromptRow(prompt=row["question"], completion=row["definition"]) for row in _rows(HELD_OUT)]
    examples = ChatFormat(untouched.tokenizer, vocabulary=untouched.vocabulary).encode(told, max_tokens=MAX_TOKENS)
    model.eval()
    return statistics.fmean(row.mean for row in measure_rows(model, examples, device=untouched.device, max_tokens=4096))


def _train_rows(steps: int) -> list[dict[str, str]]:
    return _rows(HELD_OUT + steps * BATCH_ROWS)[HELD_OUT:]


def _ours(method: str, base_folder: Path, steps: int) -> Timed:
    from gradients.ml.adapters import LoraShape, add_adapter
    from gradients.ml.base_model import load_base
    from gradients.ml.batching import endless_batches
    from gradients.ml.device import choose_device
    from gradients.ml.micro_batches import MicroBatches
    from gradients.ml.objective import CompletionObjective
    from gradients.ml.text import ChatFormat, PromptRow
    from gradients.ml.trainee import Trainee

    base = load_base(base_folder, choose_device())
    rows = [PromptRow(prompt=row["question"], completion=row["definition"]) for row in _train_rows(steps)]
    examples = ChatFormat(base.tokenizer, vocabulary=base.vocabulary).encode(rows, max_tokens=MAX_TOKENS)
    micro = MicroBatches(base.device, vocabulary=base.vocabulary, most=None)
    objective = CompletionObjective(train=examples, validation=[], weighting="token", device=base.device, micro=micro)
    if method == "full":
        base.model.requires_grad_(True)
    else:
        add_adapter(base.model, LoraShape(rank=RANK, alpha=2.0 * RANK, dropout=0.0, rank_stabilised=False))
    base.model.train()
    trainee, meter = Trainee(base.model, weight_decay=0.0, lora_plus_ratio=1.0), _Meter()
    batches = endless_batches(objective.lengths, batch_rows=BATCH_ROWS, seed=0, rows_seen=0)
    for _, batch in zip(range(steps), batches, strict=False):
        objective.backward(base.model, batch)
        trainee.step(RATE)
        meter.step(sum(objective.lengths[row] for row in batch))
    return meter.timed(base.model, base_folder)


def _trl(method: str, base: Path, steps: int) -> Timed:
    import torch
    from datasets import Dataset, disable_progress_bars
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    meter, tokens = _Meter(), [0]

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 (transformers' signature)
            meter.step(tokens[0])

    class Counting(SFTTrainer):  # type: ignore[misc]
        def training_step(self, model: Any, inputs: Any, *more: Any) -> Any:  # noqa: ANN401 (transformers' signature)
            tokens[0] = int(inputs["attention_mask"].sum())
            return super().training_step(model, inputs, *more)

    disable_progress_bars()
    data = [
        {
            "prompt": [{"role": "user", "content": row["question"]}],
            "completion": [{"role": "assistant", "content": row["definition"]}],
        }
        for row in _train_rows(steps)
    ]
    with tempfile.TemporaryDirectory() as folder:
        trainer = Counting(
            model=AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
            args=SFTConfig(
                output_dir=folder,
                max_steps=steps,
                per_device_train_batch_size=BATCH_ROWS,
                learning_rate=RATE,
                lr_scheduler_type="constant",
                max_length=MAX_TOKENS,
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                logging_strategy="no",
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_list(data),
            processing_class=AutoTokenizer.from_pretrained(base),
            peft_config=None
            if method == "full"
            else LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"),
            callbacks=[Watch()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return meter.timed(trainer.model, base)


def main(engine: str, method: str, base: str, steps: str) -> None:
    """Measure one engine in this process, and say it in one line of JSON."""
    engines: dict[str, Callable[[str, Path, int], Timed]] = {"ours": _ours, "trl": _trl}
    print(json.dumps(engines[engine](method, Path(base), int(steps))._asdict()))


if __name__ == "__main__":
    main(*sys.argv[1:])
