"""One trainer of TRL's for each kind of objective, fed with rows that are tokens already.

A trainer is given the numbers of a step's rows and makes the step in parts that fit the memory, as our own loop does. Losses are scaled so
that the parts add up to the loss of the whole step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from datasets import Dataset
from torch.optim.lr_scheduler import LambdaLR
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from gradients.ml.batching import IGNORED, pad, plan_batches
from gradients.ml.device import Device
from gradients.ml.engine import Stepped
from gradients.ml.micro_batches import MicroBatches
from gradients.ml.objective import CompletionObjective, Weighting
from gradients.ml.preference import PreferenceObjective
from gradients.ml.spread import here, summed
from gradients.ml.text import Example
from gradients.ml.trainee import Trainee

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

_ENDLESS = 10**9  # steps: the run says when it is over


class Drive:
    """What a trainer asks of the run that it works for."""

    def __init__(self, trainee: Trainee) -> None:
        self.trainee = trainee
        self.batches: Iterator[list[int]] = iter(())
        self._rate: Callable[[], float] = lambda: 0.0
        self._stepped: Stepped | None = None
        self._rate_now, self._rows, self._loss, self._finite = 0.0, 0, 0.0, True

    def begin(self, batches: Iterator[list[int]], *, rate: Callable[[], float], stepped: Stepped) -> None:
        """Work for a run from now on."""
        self.batches, self._rate, self._stepped = batches, rate, stepped

    def ask_rate(self) -> None:
        """Ask for the rate of the step that begins."""
        self._rate_now = self._rate()

    def note(self, rows: int, loss: float) -> None:
        """Keep what the step has seen."""
        self._rows, self._loss = rows, loss

    def prepare(self) -> None:
        """Clip what is to be followed, and drop it when it is not finite."""
        self._finite = self.trainee.prepare(self._rate_now)

    def follow(self) -> None:
        """The optimiser has made its step."""
        if self._finite:
            self.trainee.follow()

    def tell(self) -> bool:
        """Tell of the step; whether there is another one."""
        assert self._stepped is not None  # noqa: S101 (for the type checker: a trainer is started by `begin`)
        return self._stepped(self._rows, self._loss if self._finite else None)


class Packed(NamedTuple):
    """Rows behind one another, as if they were one; each counts its own positions, by which attention keeps them apart."""

    tokens: torch.Tensor  # [1, tokens]
    labels: torch.Tensor  # the same, IGNORED where a token does not count
    positions: torch.Tensor  # the same
    weights: torch.Tensor  # [1, tokens - 1], of the loss of each token's successor


def packed(examples: Sequence[Example], weights: Sequence[float], device: Device) -> Packed:
    """The examples as one row; a row's first token never counts, so nothing is learnt from what stands before it.

    Args:
        weights: of each example's counted tokens.
    """
    tokens = [token for example in examples for token in example.tokens]
    positions = [position for example in examples for position in range(len(example.tokens))]
    labels, by_token, start = torch.full((len(tokens),), IGNORED), torch.zeros(len(tokens)), 0
    for example, weight in zip(examples, weights, strict=True):
        for span in example.spans:
            counted = slice(start + span.start, start + span.stop)
            labels[counted] = torch.tensor(example.tokens[span.start : span.stop])
            by_token[counted] = weight
        start += len(example.tokens)
    rows = (torch.tensor(tokens), labels, torch.tensor(positions), by_token[1:])
    return Packed(*(row.unsqueeze(0).to(device.name) for row in rows))


def token_weights(examples: Sequence[Example], weighting: Weighting) -> list[float]:
    """What a counted token of each example weighs in a step on all of them, so that their weighted losses add up to the step's loss."""
    if weighting == "row":
        return [1 / (len(examples) * example.counted) for example in examples]
    counted = sum(example.counted for example in examples)
    return [1 / counted] * len(examples)


class StepsMixin:
    """What all of them do otherwise than TRL's: where rows, the optimiser and the rate come from, and the parts of a step."""

    drive: Drive

    def get_train_dataloader(self) -> Iterator[list[int]]:
        """Numbers of rows, a step's at a time."""
        return self.drive.batches

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Our own, with what it has learnt of the run so far."""
        self.optimizer = self.drive.trainee.optimiser
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> LambdaLR:  # noqa: ANN401 (transformers' signature)
        """One that leaves rates alone: they are set before each step."""
        self.lr_scheduler = LambdaLR(self.optimizer, lambda _: 1.0)
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def training_step(self, model: nn.Module, inputs: list[int], num_items_in_batch: object = None) -> torch.Tensor:
        """The gradients of a step on these rows."""
        model.train()
        loss = self.backward(model, inputs)
        self.drive.note(len(inputs), loss)
        return torch.tensor(loss, device=self.args.device)  # type: ignore[attr-defined]

    def backward(self, model: nn.Module, rows: Sequence[int]) -> float:
        """Leave the gradients of these rows in the model; their loss."""
        raise NotImplementedError

    def in_parts(
        self, lengths: Sequence[int], one: Callable[[Sequence[int]], torch.Tensor], micro: MicroBatches
    ) -> float:
        """Leave the gradients of a step in the model, a micro-batch at a time; the step's loss.

        Of a model that is spread, each process takes its part of every micro-batch. One that has none there adds nothing, but goes
        through the layers with the others. Where memory runs out in one, none can begin anew.

        Args:
            lengths: of the step's rows.
            one: the loss of the rows at these positions, so scaled that all of them add up to the step's.
        """
        place = here()
        if place.processes == 1:
            return micro.total(self.model, lengths, lambda positions: self._follow(one(positions)))  # type: ignore[attr-defined]
        loss = 0.0
        for positions in plan_batches(lengths, max_tokens=micro.tokens * place.processes):
            mine = place.share(positions)
            loss += self._follow(one(mine)) if mine else 0.0 * self._follow(0.0 * one(positions[:1]))
        return summed(loss)

    def _follow(self, loss: torch.Tensor) -> float:
        """Add the loss's gradients to the model's; processes' are averaged where they meet, and have to add up."""
        self.accelerator.backward(loss * here().processes)  # type: ignore[attr-defined]
        return float(loss.item())

    def _clip_grad_norm(self, model: nn.Module) -> None:
        self.drive.prepare()

    def _get_grad_norm(self, model: nn.Module, grad_norm: object = None) -> None:
        """Nobody asks."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:  # noqa: ANN401 (TRL's signature)
        """Rows are tokens already."""
        return dataset

    def _precompute_ref_logps(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:  # noqa: ANN401
        """The reference's were computed before the run."""
        return dataset

    def _send_telemetry(self) -> None:
        """To nobody."""

    def floating_point_ops(self, inputs: object) -> int:
        """Not counted: they are guessed from tensors that a step here has none of."""
        return 0


class Completions(StepsMixin, SFTTrainer):  # type: ignore[misc] # TRL carries no types
    """Cross-entropy of completions."""

    def __init__(self, objective: CompletionObjective, drive: Drive, tokenizer: PreTrainedTokenizerBase) -> None:
        self.drive, self._objective = drive, objective
        super().__init__(args=SFTConfig(**arguments_for(objective.device)), **given_to(drive, tokenizer))
        self._packs = self.model.config._attn_implementation.startswith("flash_attention")

    def backward(self, model: nn.Module, rows: Sequence[int]) -> float:
        objective = self._objective
        examples = [objective.train[row] for row in rows]
        weights = token_weights(examples, objective.weighting)

        def one(positions: Sequence[int]) -> torch.Tensor:
            return self._loss(model, [examples[i] for i in positions], [weights[i] for i in positions])

        return self.in_parts([len(example.tokens) for example in examples], one, objective.micro)

    def _loss(self, model: nn.Module, examples: Sequence[Example], weights: Sequence[float]) -> torch.Tensor:
        device = self._objective.device
        with device.precision():
            if self._packs:
                row = packed(examples, weights, device)
                told = model(input_ids=row.tokens, position_ids=row.positions, labels=row.labels, fused_lm_head=True)
                return -(told.log_probs.float() * row.weights).sum()
            batch = pad(examples, device)
            told = model(input_ids=batch.tokens, labels=batch.labels, fused_lm_head=True)
            by_row = told.log_probs.float().sum(dim=1)
            return -(by_row * torch.tensor(weights, device=device.name)).sum()


class Preferences(StepsMixin, DPOTrainer):  # type: ignore[misc]
    """The DPO loss against a reference that was asked before."""

    def __init__(self, objective: PreferenceObjective, drive: Drive, tokenizer: PreTrainedTokenizerBase) -> None:
        self.drive, self._objective = drive, objective
        mixed = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, objective.sft_weight]}
        arguments = DPOConfig(
            beta=objective.beta,
            precompute_ref_log_probs=True,
            **(mixed if objective.sft_weight else {}),
            **arguments_for(objective.device),
        )
        super().__init__(args=arguments, **given_to(drive, tokenizer))
        _forget_reference(self.model)
        self._collate = DataCollatorForPreference(pad_token_id=0)

    def backward(self, model: nn.Module, rows: Sequence[int]) -> float:
        objective = self._objective

        def one(positions: Sequence[int]) -> torch.Tensor:
            told = self._collate([self._example(rows[i]) for i in positions])
            told = {name: tensor.to(objective.device.name) for name, tensor in told.items()}
            with objective.device.precision():
                loss: torch.Tensor = self.compute_loss(model, told) * len(positions) / len(rows)
            self._metrics["train"].clear()  # which nobody reads
            return loss

        return self.in_parts([objective.widths[row] for row in rows], one, objective.micro)

    def _example(self, row: int) -> dict[str, object]:
        pair, reference = self._objective.train[row], self._objective.train_reference[row]
        prompt = pair.chosen.spans[0].start
        return {
            "prompt_ids": pair.chosen.tokens[:prompt],
            "chosen_ids": pair.chosen.tokens[prompt:],
            "rejected_ids": pair.rejected.tokens[prompt:],
            "ref_chosen_logps": reference.chosen,
            "ref_rejected_logps": reference.rejected,
        }


def arguments_for(device: Device) -> dict[str, object]:
    """What all of them are told: nothing is saved, measured or shown but by the run."""
    return {
        "output_dir": "unused",
        "max_steps": _ENDLESS,
        "per_device_train_batch_size": 1,
        "use_cpu": device.name == "cpu",
        "bf16": False,  # products are rounded by the device's own context
        "gradient_checkpointing": False,  # layers that are computed again were told so when the base was loaded
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
    }


def given_to(drive: Drive, tokenizer: PreTrainedTokenizerBase) -> dict[str, object]:
    """What all of them are made with."""
    return {
        "model": drive.trainee.model,
        "processing_class": tokenizer,
        "train_dataset": Dataset.from_dict({"prompt": ["-"], "row": [0]}),  # which it wants to see one of
        "data_collator": list,
    }


def _forget_reference(model: Any) -> None:  # noqa: ANN401 (with an adapter or without)
    """Take away the copy of the adapter that TRL makes for a reference: ours is the base, and was asked."""
    if "ref" in getattr(model, "peft_config", {}):
        model.delete_adapter("ref")
