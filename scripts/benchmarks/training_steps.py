"""One process that trains rows by one engine and says in a line of JSON what it took: python -m scripts.benchmarks.training_steps CASE.

Ours is the bare loop, as the product runs it; TRL's is its SFTTrainer, as one would call it, on the same rows in its own templates.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from gradients.tasks.base import SHIPPED_DATA

Engine = Literal["ours", "trl"]
Method = Literal["full", "lora"]
RANK, RATE, MAX_TOKENS = 32, 1e-4, 512
FORWARD, BACKWARD_TO_STATES, BACKWARD_TO_WEIGHTS = 2, 2, 2  # operations a weight and token


@dataclass(frozen=True, slots=True)
class Case:
    """What is trained, and how long."""

    engine: Engine
    method: Method
    base: str  # its folder
    steps: int
    settling: int  # steps before time is taken
    batch_rows: int
    held_out: int  # rows that neither trains on


class Timed(NamedTuple):
    """What one process measured."""

    tokens: int  # of the rows, without padding
    processor_seconds: float
    seconds: float
    peak_megabytes: float  # of the whole process, libraries included
    loss: float  # on rows that neither trained on, nats a token
    ceiling: float  # share of the device's measured ceiling that the operations of these rows come to, 0..1


class Meter:
    """Counts from the end of the settling steps to the last one."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self.tokens, self.counted, self._steps, self._begun = 0, 0, 0, (0.0, 0.0)

    def step(self, tokens: int, counted: int) -> None:
        """One was made, on so many tokens, of which some count in the loss."""
        self._steps += 1
        if self._steps > self._case.settling:
            self.tokens += tokens
            self.counted += counted
        if self._steps == self._case.settling:
            self._begun = time.process_time(), time.perf_counter()

    def timed(self, model: Any) -> Timed:  # noqa: ANN401 (with an adapter or without)
        """What has passed since the settling steps, and how well the model does."""
        processor, wall = (
            now - then for now, then in zip((time.process_time(), time.perf_counter()), self._begun, strict=True)
        )
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        by_token, by_counted = operations(model)
        done = self.tokens * by_token + self.counted * by_counted
        share = done / processor / operations_a_second("cpu")
        return Timed(self.tokens, processor, wall, peak, _loss(model, self._case), share)


def operations(model: Any) -> tuple[int, int]:  # noqa: ANN401 (with an adapter or without)
    """That a step takes for each token in its layers, and for each token that counts in its head; attention is left out.

    Of weights that don't train only the states' gradients are needed.
    """
    from torch import nn

    head, layers, ends = model.get_output_embeddings(), 0, 0
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            trained = BACKWARD_TO_WEIGHTS if layer.weight.requires_grad else 0
            taken = layer.weight.numel() * (FORWARD + BACKWARD_TO_STATES + trained)
            layers, ends = (layers, ends + taken) if layer is head else (layers + taken, ends)
    return layers, ends


def operations_a_second(device: Literal["cpu", "cuda"]) -> float:
    """Of products of large matrices, the most in five turns: bfloat16 on a GPU, float32 on a CPU, there by processor time of one thread."""
    import torch

    on_gpu = device == "cuda"
    size, times = (8192, 10) if on_gpu else (1536, 1)
    clock: Callable[[], float] = time.perf_counter if on_gpu else time.process_time
    dtype, best = torch.bfloat16 if on_gpu else torch.float32, 0.0
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    for _ in range(5):
        started = clock()
        for _ in range(times):
            left @ right
        if on_gpu:
            torch.cuda.synchronize()
        best = max(best, times * 2 * size**3 / (clock() - started))
    return best


def _rows(count: int) -> list[dict[str, str]]:
    with (SHIPPED_DATA / "wordnet-definitions" / "rows.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line, _ in zip(file, range(count), strict=False)]


def _train_rows(case: Case) -> list[dict[str, str]]:
    return _rows(case.held_out + case.steps * case.batch_rows)[case.held_out :]


def _loss(model: Any, case: Case) -> float:  # noqa: ANN401
    from gradients.ml.base_model import load_tokenizer
    from gradients.ml.device import choose_device
    from gradients.ml.losses import measure_rows
    from gradients.ml.text import ChatFormat, PromptRow

    tokenizer = load_tokenizer(Path(case.base))
    told = [PromptRow(prompt=row["question"], completion=row["definition"]) for row in _rows(case.held_out)]
    examples = ChatFormat(tokenizer, vocabulary=model.config.vocab_size).encode(told, max_tokens=MAX_TOKENS)
    model.eval()
    return statistics.fmean(row.mean for row in measure_rows(model, examples, device=choose_device(), max_tokens=4096))


def _ours(case: Case) -> Timed:
    from gradients.ml.adapters import LoraShape, add_adapter
    from gradients.ml.base_model import load_base
    from gradients.ml.batching import endless_batches
    from gradients.ml.device import choose_device
    from gradients.ml.micro_batches import MicroBatches
    from gradients.ml.objective import CompletionObjective
    from gradients.ml.text import ChatFormat, PromptRow
    from gradients.ml.trainee import Trainee

    base = load_base(Path(case.base), choose_device())
    rows = [PromptRow(prompt=row["question"], completion=row["definition"]) for row in _train_rows(case)]
    examples = ChatFormat(base.tokenizer, vocabulary=base.vocabulary).encode(rows, max_tokens=MAX_TOKENS)
    micro = MicroBatches(base.device, vocabulary=base.vocabulary, most=None)
    objective = CompletionObjective(train=examples, validation=[], weighting="token", device=base.device, micro=micro)
    model: Any = base.model
    if case.method == "full":
        model.requires_grad_(True)
    else:
        model = add_adapter(base.model, LoraShape(rank=RANK, alpha=2.0 * RANK, dropout=0.0, rank_stabilised=False))
    model.train()
    trainee, meter = Trainee(model, weight_decay=0.0, lora_plus_ratio=1.0), Meter(case)
    batches = endless_batches(objective.lengths, batch_rows=case.batch_rows, seed=0, rows_seen=0)
    for _, batch in zip(range(case.steps), batches, strict=False):
        objective.backward(model, batch)
        trainee.step(RATE)
        meter.step(sum(objective.lengths[row] for row in batch), sum(examples[row].counted for row in batch))
    return meter.timed(model)


def _trl(case: Case) -> Timed:
    import torch
    from datasets import Dataset, disable_progress_bars
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    meter, seen = Meter(case), [0, 0]

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:  # noqa: ANN401 (transformers' signature)
            meter.step(*seen)

    class Counting(SFTTrainer):  # type: ignore[misc]
        def training_step(self, model: Any, inputs: Any, *more: Any) -> Any:  # noqa: ANN401 (transformers' signature)
            seen[:] = int(inputs["attention_mask"].sum()), int((inputs["labels"] != -100).sum())
            return super().training_step(model, inputs, *more)

    disable_progress_bars()
    data = [
        {
            "prompt": [{"role": "user", "content": row["question"]}],
            "completion": [{"role": "assistant", "content": row["definition"]}],
        }
        for row in _train_rows(case)
    ]
    with tempfile.TemporaryDirectory() as folder:
        trainer = Counting(
            model=AutoModelForCausalLM.from_pretrained(case.base, dtype=torch.float32),
            args=SFTConfig(
                output_dir=folder,
                max_steps=case.steps,
                per_device_train_batch_size=case.batch_rows,
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
            processing_class=AutoTokenizer.from_pretrained(case.base),
            peft_config=None
            if case.method == "full"
            else LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"),
            callbacks=[Watch()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return meter.timed(trainer.model)


ENGINES: dict[Engine, Callable[[Case], Timed]] = {"ours": _ours, "trl": _trl}


def main(case: str) -> None:
    """Measure one engine in this process."""
    asked = Case(**json.loads(case))
    print(json.dumps(ENGINES[asked.engine](asked)._asdict()))


if __name__ == "__main__":
    main(sys.argv[1])
