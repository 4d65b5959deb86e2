"""The training loop: one process, fp32 on a CPU and bf16 autocast on CUDA, decayed to nothing by the end of its budget.

An interrupted run goes on from its last checkpoint. Batches are a function of the seed and the step, so no random state is kept.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from transformers import LlamaForCausalLM

from scripts.pretraining.checkpoint import Point, Run, load_checkpoint, save_checkpoint
from scripts.pretraining.muon import Muon

Tokens = npt.NDArray[np.uint16]
MEASURED_CONTEXT = 256
GOLDEN_RATIO = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, slots=True)
class Budget:
    """When training ends: at whichever limit comes first."""

    seconds: float
    steps: int

    def progress(self, *, seconds: float, steps: int) -> float:
        """The share that is used up, 1 at the end."""
        return min(1.0, max(seconds / self.seconds, steps / self.steps))


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a run trains. Learning rates are the peaks; `context` and `batch` count tokens and rows."""

    seed: int = 0
    batch: int = 12
    context: int = 256
    # The last part of a run sees long rows, so that every position up to the model's limit has been trained.
    long_context: int = 512
    long_from: float = 0.85
    muon_lr: float = 0.02
    adam_lr: float = 0.004
    warmup: float = 0.01
    # Of rows, how many start at the start of a document instead of anywhere in one.
    aligned: float = 0.25

    def shape(self, progress: float) -> tuple[int, int]:
        """Rows and tokens of a batch; the same number of tokens in both phases."""
        if progress < self.long_from:
            return self.batch, self.context
        return max(1, self.batch * self.context // self.long_context), self.long_context

    def lr_share(self, progress: float) -> float:
        """Linear warm-up, then linear decay to zero."""
        return min(1.0, progress / self.warmup) * (1.0 - progress) if self.warmup else 1.0 - progress


@dataclass(frozen=True, slots=True)
class Corpus:
    """Token streams whose documents each end in the end-of-text token."""

    train: Tokens
    held_out: Tokens
    end_of_text: int


def train(
    model: LlamaForCausalLM,
    corpus: Corpus,
    *,
    recipe: Recipe,
    budget: Budget,
    checkpoint: Path,
    every_seconds: float,
    on_point: Callable[[Run], None],
) -> Run:
    """Train `model` in place until the budget is used up.

    Goes on from `checkpoint` where that exists, and writes it every `every_seconds` and at the end; `on_point` is told after each.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device).train()
    optimizers = _optimizers(model, recipe)
    run = load_checkpoint(checkpoint, model, optimizers) if checkpoint.exists() else Run()
    began, saved_at = time.monotonic() - run.seconds, run.seconds
    losses: list[float] = []
    while (progress := budget.progress(seconds=run.seconds, steps=run.step)) < 1:
        ids = torch.from_numpy(batch_at(run.step, corpus, recipe=recipe, progress=progress)).to(device)
        losses.append(_step(model, optimizers, ids, lr_share=recipe.lr_share(progress)))
        run.step, run.tokens, run.seconds = run.step + 1, run.tokens + ids.numel(), time.monotonic() - began
        if run.seconds - saved_at >= every_seconds or budget.progress(seconds=run.seconds, steps=run.step) >= 1:
            point = Point(
                step=run.step,
                tokens=run.tokens,
                seconds=round(run.seconds, 1),
                train_loss=round(sum(losses) / len(losses), 4),
                held_out_loss=round(held_out_loss(model, corpus.held_out, context=measured_context(model)), 4),
            )
            run.history.append(point)
            save_checkpoint(checkpoint, model, optimizers, run=run)
            on_point(run)
            losses, saved_at = [], run.seconds
    return run


def batch_at(step: int, corpus: Corpus, *, recipe: Recipe, progress: float) -> npt.NDArray[np.int64]:
    """The rows [batch, context] of a step."""
    rows, context = recipe.shape(progress)
    rng = np.random.default_rng((recipe.seed, step))
    # Multiples of the golden ratio modulo 1 fill the stream evenly, where free draws would leave a third of it unseen.
    shares = (recipe.seed / 7 + np.arange(step * rows, (step + 1) * rows) * GOLDEN_RATIO) % 1.0
    starts = (shares * (len(corpus.train) - context)).astype(np.int64)
    for row in np.flatnonzero(rng.random(rows) < recipe.aligned):
        # To the start of the next document, if one starts soon; never so near to the end that a row would not fit.
        start = int(starts[row])
        ends = np.flatnonzero(corpus.train[start : start + 4 * context] == corpus.end_of_text)
        after = start + int(ends[0]) + 1 if len(ends) else start
        starts[row] = min(after, len(corpus.train) - context)
    return np.stack([corpus.train[start : start + context] for start in starts]).astype(np.int64)


def held_out_loss(model: LlamaForCausalLM, tokens: Tokens, *, context: int) -> float:
    """Mean loss in nats per token over `tokens`, in rows of `context` that see nothing before them."""
    device = next(model.parameters()).device
    total, count = 0.0, 0
    model.eval()
    with torch.no_grad():
        for start in range(0, len(tokens) - 1, context):  # the last token alone would predict nothing
            row = tokens[start : start + context]
            ids = torch.from_numpy(row.astype(np.int64)).to(device)[None]
            total += float(model(input_ids=ids, labels=ids, use_cache=False).loss) * (len(row) - 1)
            count += len(row) - 1
    model.train()
    return total / count


def measured_context(model: LlamaForCausalLM) -> int:
    """The length of the rows that a model's held-out loss is measured on."""
    return int(min(MEASURED_CONTEXT, model.config.max_position_embeddings))


def _optimizers(model: LlamaForCausalLM, recipe: Recipe) -> list[torch.optim.Optimizer]:
    inner = [parameter for name, parameter in model.named_parameters() if parameter.ndim == 2 and "embed" not in name]
    inner_ids = {id(parameter) for parameter in inner}
    outer = [parameter for parameter in model.parameters() if id(parameter) not in inner_ids]
    adam = torch.optim.AdamW(outer, lr=recipe.adam_lr, betas=(0.9, 0.95), weight_decay=0.0)
    optimizers: list[torch.optim.Optimizer] = [Muon(inner, lr=recipe.muon_lr), adam]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def _step(
    model: LlamaForCausalLM, optimizers: list[torch.optim.Optimizer], ids: torch.Tensor, *, lr_share: float
) -> float:
    with torch.autocast(ids.device.type, dtype=torch.bfloat16, enabled=ids.device.type == "cuda"):
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * lr_share
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise FloatingPointError("the training loss is not finite; lower the learning rates")
    return value
