"""TRL's trainer of rewards, on answers that we draw and judge: its advantages and its loss, our prompts, random numbers and rewards."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import add_fused_lm_head

from gradients.ml.policy_objective import PolicyObjective
from gradients.ml.rollouts import Rollout
from gradients.ml.trl_trainers import Drive, StepsMixin, arguments_for, given_to

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase


class Answers(StepsMixin, GRPOTrainer):  # type: ignore[misc] # TRL carries no types
    """GRPO with one step on each group of answers; every token counts the same, as in our own objective.

    The divergence is TRL's estimate from the drawn tokens (k3), not the whole one that our own engine and the metric take. TRL reads
    prompts padded on the left, which bases that count positions from the left edge are not meant for.
    """

    def __init__(self, objective: PolicyObjective, drive: Drive, tokenizer: PreTrainedTokenizerBase) -> None:
        self.drive, self._objective = drive, objective
        self._rows: Sequence[int] = ()
        self._rollouts: list[Rollout] = []
        self._reward = 0.0
        drawing = objective.settings.drawing
        told = arguments_for(objective.device) | {"per_device_train_batch_size": drawing.samples}
        arguments = GRPOConfig(
            num_generations=drawing.samples,
            max_completion_length=drawing.max_new_tokens,
            temperature=drawing.temperature,
            beta=0.0,  # with another one TRL would load a reference of its own
            loss_type="dapo",
            **told,
        )
        given = {name: value for name, value in given_to(drive, tokenizer).items() if name != "data_collator"}
        super().__init__(reward_funcs=[self._judge], rollout_func=self._draw, args=arguments, **given)
        self.beta = objective.settings.beta
        if self.beta and not hasattr(self.model, "peft_config"):  # an adapter is switched off instead
            with objective.reference(self.model) as reference:
                add_fused_lm_head(reference, temperature=drawing.temperature)
                self.ref_model = reference

    def backward(self, model: nn.Module, rows: Sequence[int]) -> float:
        objective, answers = self._objective, len(rows) * self._objective.settings.drawing.samples
        self._rows = [row for row in rows for _ in range(objective.settings.drawing.samples)]
        with objective.device.precision():
            scored = self._generate_and_score_completions([{"prompt": "-"} for _ in range(answers)])
        width = scored["prompt_ids"].shape[1] + scored["completion_ids"].shape[1]

        def one(positions: Sequence[int]) -> float:
            part = {name: _some(value, positions, of=answers) for name, value in scored.items()}
            with objective.device.precision():
                loss = self.compute_loss(model, part)
            self.accelerator.backward(loss)
            divergences = self._metrics["train"].pop("kl", [0.0])
            self._metrics["train"].clear()  # which nobody else reads
            return float(divergences[-1]) * len(positions) / answers

        mean_kl = objective.micro.total(self.model, [width] * answers, one)
        return float(self.beta * mean_kl - self._reward)

    def _draw(self, prompts: Sequence[str], _: GRPOTrainer) -> dict[str, object]:
        """Answers to the step's rows, by their own random numbers; `prompts` says nothing."""
        size = self._objective.settings.drawing.samples
        self._rollouts = self._objective.draw(self.model, self._rows[::size])
        return {
            "prompt_ids": [rollout.prompt for rollout in self._rollouts],
            "completion_ids": [rollout.completion for rollout in self._rollouts],
            "logprobs": None,
        }

    def _judge(self, **_: Any) -> list[float]:  # noqa: ANN401 (TRL hands over texts, which our rewards make themselves)
        rewards = self._objective.judge(self._rows, self._rollouts)
        self._reward = statistics.fmean(rewards)
        return rewards


def _some(value: Any, answers: Sequence[int], *, of: int) -> Any:  # noqa: ANN401 (TRL's tensors, and what counts for all of them)
    """The part of a tensor that belongs to these answers; whatever counts for all stays whole."""
    by_answer = isinstance(value, torch.Tensor) and value.ndim > 0 and len(value) == of
    return value[list(answers)] if by_answer else value
