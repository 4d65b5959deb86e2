"""How fast a base is trained on this machine: a few real steps on rows of the task. A worker function; what it trains is thrown away."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence

from gradients.domain.json import JsonObject
from gradients.errors import DatasetInvalid
from gradients.ml.base_model import LoadedBase, load_base
from gradients.ml.batching import endless_batches
from gradients.ml.device import choose_device
from gradients.ml.micro_batches import MicroBatches
from gradients.ml.objective import CompletionObjective
from gradients.ml.text import Example
from gradients.ml.trainee import Trainee
from gradients.tasks.jobs.machine import Throughput, ThroughputJob

FEWEST_STEPS = 3
LEARNING_RATE = 1e-5
FULL_UP_TO_WEIGHTS = 10**9  # larger bases are trained as miners do, by a LoRA: gradients of all weights need not fit


def measure(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """Do a ThroughputJob and return a Throughput. Raises DatasetInvalid when no row has two tokens."""
    job = ThroughputJob.model_validate(arguments)
    base = load_base(job.base_folder, choose_device())
    report({"phase": "loaded"})
    texts: Sequence[str] = [json.loads(line) for line in job.texts_file.read_text(encoding="utf-8").splitlines()]
    most = min(job.max_tokens, base.context)
    rows = [tokens[:most] for tokens in base.tokenizer(texts, add_special_tokens=False)["input_ids"]]
    examples = [Example(tokens, (range(1, len(tokens)),)) for tokens in rows if len(tokens) > 1]  # all tokens count
    if not examples:
        raise DatasetInvalid("No row has two tokens", fix="Check the column mapping")
    objective = CompletionObjective(
        train=examples,
        validation=[],
        weighting="token",
        device=base.device,
        micro=MicroBatches(base.device, vocabulary=base.vocabulary),
    )
    tokens, seconds, steps = _train(base, objective, job)
    return Throughput(
        tokens_per_row=statistics.fmean(objective.lengths),
        tokens_per_second=tokens / seconds,
        steps=steps,
        device=str(base.device.describe()["device"]),
    ).model_dump(mode="json")


def _train(base: LoadedBase, objective: CompletionObjective, job: ThroughputJob) -> tuple[int, float, int]:
    """Tokens trained on, in which time, in how many steps; the first step, which warms up, is not among them."""
    # the weights that a miner would train
    if sum(weight.numel() for weight in base.model.parameters()) <= FULL_UP_TO_WEIGHTS:
        base.model.requires_grad_(True)
    else:
        from gradients.ml.adapters import LoraShape, add_adapter  # peft takes a second to import

        add_adapter(base.model, LoraShape(rank=16, alpha=32.0, dropout=0.0, rank_stabilised=False))
    trainee = Trainee(base.model, weight_decay=0.0, lora_plus_ratio=1.0)
    batches = endless_batches(objective.lengths, batch_rows=job.batch_rows, seed=0, rows_seen=0)
    tokens, steps, started = 0, -1, time.monotonic()
    while steps < FEWEST_STEPS or time.monotonic() - started < job.seconds:
        batch = next(batches)
        objective.backward(base.model, batch)
        trainee.step(LEARNING_RATE)
        steps += 1
        if steps == 0:
            started = time.monotonic()
        else:
            tokens += sum(objective.lengths[row] for row in batch)
    return tokens, time.monotonic() - started, steps
