"""What a run makes smaller when rewards teach: GRPO (arXiv 2402.03300), one group of answers to each prompt.

Every step draws fresh answers from the model as it is, so there is nothing to clip: with one step per group the ratio of PPO is always one.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import torch

from gradients.ml.device import Device
from gradients.ml.micro_batches import MicroBatches
from gradients.ml.policy import Reference, answer_batch, divergences, token_scores
from gradients.ml.rollouts import Rollout, RolloutSettings, roll_out

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_FLAT = 1e-4  # keeps a group whose rewards hardly differ from being blown up
Judge = Callable[[Sequence[int], Sequence[Rollout]], list[float]]  # rows and answers in, rewards of 0..1 out


class Drawing(Protocol):
    """Draws answers elsewhere."""

    def draw(
        self, model: PreTrainedModel, prompts: Sequence[list[int]], settings: RolloutSettings, *, seed: int
    ) -> list[list[Rollout]]:
        """Each prompt's answers by the model as it is now."""
        ...


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """How rewards become gradients."""

    drawing: RolloutSettings  # its samples are the group
    validation_samples: int
    beta: float  # reward that a nat per token away from the reference costs
    seed: int


class PolicyObjective:
    """Mean reward less beta times KL, with its sign turned, as the training loop wants it."""

    def __init__(
        self,
        *,
        train: Sequence[list[int]],
        validation: Sequence[list[int]],
        judge: Judge,
        judge_validation: Judge,
        reference: Reference,
        settings: PolicySettings,
        device: Device,
        micro: MicroBatches,
        server: Drawing | None = None,
    ) -> None:
        """Args:
        train, validation: prompts as tokens; the judges are asked by their positions.
        server: draws the answers of steps in this process's place; those of validation never, so that they can be compared.
        """
        self.lengths = [len(prompt) for prompt in train]
        self.judge = judge
        self.reference = reference
        self.settings = settings
        self.device, self.micro = device, micro
        self._train = train
        self._server = server
        self._validation = validation
        self._judge_validation = judge_validation

    def backward(self, model: PreTrainedModel, rows: Sequence[int]) -> float:
        rollouts = self.draw(model, rows)
        rewards = self.judge([row for row in rows for _ in range(self.settings.drawing.samples)], rollouts)
        advantages = group_advantages(rewards, size=self.settings.drawing.samples)
        settings = self.settings
        # every token counts the same for the advantage, every answer for the KL
        tokens = sum(len(rollout.completion) for rollout in rollouts)
        lengths = [len(rollout.prompt) + len(rollout.completion) for rollout in rollouts]

        def one(positions: Sequence[int]) -> float:
            batch = answer_batch([rollouts[i] for i in positions], self.device)
            with self.device.precision():
                scores = token_scores(model, self.reference, batch, temperature=settings.drawing.temperature)
            gains = torch.tensor([advantages[i] for i in positions], device=self.device.name)
            kl = (scores.kl.sum(dim=1) / scores.counts.sum(dim=1)).sum() / len(rollouts)
            gain = (gains * scores.log_probability.sum(dim=1)).sum() / tokens
            (settings.beta * kl - gain).backward()
            return float(kl.item())

        mean_kl = self.micro.total(model, lengths, one)
        return settings.beta * mean_kl - statistics.fmean(rewards)

    def draw(self, model: PreTrainedModel, rows: Sequence[int]) -> list[Rollout]:
        """A group of answers to each row, by the rows' own random numbers, so that a run that was killed draws the same ones again."""
        prompts, drawing = [self._train[row] for row in rows], self.settings.drawing
        if self._server is None:
            groups = self._answers(model, prompts, drawing=drawing, rows=rows)
        else:
            groups = self._server.draw(model, prompts, drawing, seed=self._seed(rows))
        return [rollout for group in groups for rollout in group]

    def validate(self, model: PreTrainedModel) -> float | None:
        if not self._validation:
            return None
        settings, rows = self.settings, range(len(self._validation))
        drawing = replace(settings.drawing, samples=settings.validation_samples)
        groups = self._answers(model, self._validation, drawing=drawing, rows=())
        rollouts = [rollout for group in groups for rollout in group]
        rewards = self._judge_validation([row for row in rows for _ in groups[row]], rollouts)

        def diverged() -> list[float]:
            return divergences(
                model,
                self.reference,
                rollouts,
                temperature=drawing.temperature,
                device=self.device,
                batch_tokens=self.micro.tokens,
            )

        shortest = min(len(rollout.prompt) + len(rollout.completion) for rollout in rollouts)
        kl = self.micro.fitting(model, diverged, row=shortest)
        return settings.beta * statistics.fmean(kl) - statistics.fmean(rewards)

    def _answers(
        self, model: PreTrainedModel, prompts: Sequence[list[int]], *, drawing: RolloutSettings, rows: Sequence[int]
    ) -> list[list[Rollout]]:
        """Without dropout, whatever the model is in the middle of; as many tokens at once as the steps have."""

        def answers() -> list[list[Rollout]]:
            at_once = replace(drawing, batch_tokens=min(drawing.batch_tokens, self.micro.tokens))
            return roll_out(model, prompts, at_once, seed=self._seed(rows), device=self.device)

        trains = model.training
        model.eval()
        try:
            return self.micro.fitting(model, answers, row=min(map(len, prompts)))
        finally:
            model.train(trains)

    def _seed(self, rows: Sequence[int]) -> int:
        return hash((self.settings.seed, *rows))  # of numbers: the same in every process


def group_advantages(rewards: Sequence[float], *, size: int) -> list[float]:
    """How much better than its group each answer is, in standard deviations of the group; 0 where all are alike.

    Args:
        rewards: group after group of `size` answers.
    """
    advantages: list[float] = []
    for start in range(0, len(rewards), size):
        group = rewards[start : start + size]
        mean = statistics.fmean(group)
        spread = math.sqrt(statistics.fmean((reward - mean) ** 2 for reward in group))
        advantages += [(reward - mean) / (spread + _FLAT) for reward in group]
    return advantages
