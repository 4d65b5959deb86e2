"""The one training loop: time-boxed, resumable, and it hands in the best weights that it validated.

One clock drives all of it: how much is done of what will really be run, by time or by rows, whichever ends the run first. Learning rates
are tried for a small share of that, the rate falls to zero along it, and validations are placed on it; so a run that its epochs end early
has its pieces in the same places as one that the deadline ends. A machine that slows down half-way makes fewer steps, not a late
submission. Killed at any moment, in a probe or in the main run, a later call goes on from the last checkpoint.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from gradients.errors import JobFailed
from gradients.ml.batching import endless_batches
from gradients.ml.checkpoint import CheckpointFile, Position, Snapshot, Tensors
from gradients.ml.objective import Objective, Weighting
from gradients.ml.schedule import Every, Leg, Schedule, TimeBox, rate_factor
from gradients.ml.trainee import Trainee

if TYPE_CHECKING:
    from torch import nn

Phase = Literal["loading", "probing", "training", "saving"]
_SMOOTHING = 0.9  # of the train loss that people see
_PROBE_WARMUP = 0.1
_PROBING_SHARE = 0.08  # of the time, for all probes with their validations: what they take, the main run lacks
_PROBES_END = 0.25  # share of the time after which no further learning rate is tried, whatever held the run up
_REPORT_SECONDS = 0.5
_VALIDATION_SHARE = 0.08  # of the time
_MOST_VALIDATIONS = 12
_CHECKPOINT_SHARE = 0.03  # of the time
_MIN_CHECKPOINT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """Hyper-parameters of one run: the fields of TrainingPlan in gradients/tasks/jobs.py, less its recipe and options."""

    method: Literal["lora", "full"]
    learning_rate: float
    batch_rows: int
    max_tokens: int
    micro_batch_tokens: int | None
    gradient_checkpointing: bool
    max_epochs: float
    schedule: Schedule
    warmup_fraction: float
    weight_decay: float
    row_weighting: Weighting
    validation_fraction: float
    probe_learning_rates: tuple[float, ...]
    probe_fraction: float
    lora_rank: int
    lora_alpha: float
    lora_dropout: float
    lora_rank_stabilised: bool
    lora_plus_ratio: float


class TrainingProgress(NamedTuple):
    """Where a run stands, for people to look at."""

    phase: Phase
    fraction: float  # of what will really be run
    step: int  # of the probe, or of the main run
    loss: float | None  # of train rows, smoothed


class Outcome(NamedTuple):
    """What a run came to. Steps and rows are the main run's."""

    steps: int
    rows_seen: int
    learning_rate: float
    train_loss: float  # of the last rows, smoothed
    validation_loss: float | None  # of the weights that are handed in
    base_validation_loss: float | None  # of the untouched base, on the same rows
    beats_base: bool | None  # None without validation rows


class TrainingRun:
    """One run. `run` leaves the best weights in the model."""

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        settings: TrainingSettings,
        *,
        seed: int,
        deadline: float,
        checkpoints: CheckpointFile,
        report: Callable[[TrainingProgress], None],
        now: Callable[[], float] = time.time,
        average_decay: float = 0.0,
    ) -> None:
        """Args:
        model: untouched; the weights that are to train require gradients.
        deadline: Unix seconds when choosing and saving must be over.
        average_decay: of the running average of weights that is validated and handed in; 0 hands in weights as they are.
        """
        self._trainee = Trainee(
            model,
            weight_decay=settings.weight_decay,
            lora_plus_ratio=settings.lora_plus_ratio,
            average_decay=average_decay,
        )
        self._objective = objective
        self._settings = settings
        self._seed = seed
        self._checkpoints = checkpoints
        self._report = report
        self._now = now
        self._box = TimeBox(started=now(), deadline=deadline)
        self._max_rows = math.ceil(settings.max_epochs * len(objective.lengths))
        self._position = Position(started=now())
        self._batches = self._batches_from_here()
        self._best: Tensors = {}
        self._validated_steps = 0
        self._step_seconds = 0.0
        self._reports = self._saves = Every(_REPORT_SECONDS, now)

    def run(self) -> Outcome:
        """Train until time or epochs are used up. Raises JobFailed when not a single step was possible."""
        untouched = self._snapshot() if self._settings.probe_learning_rates else None
        self._begin()
        if self._position.learning_rate is None:
            rate = self._probed_rate(untouched) if untouched else self._settings.learning_rate
            self._advance(learning_rate=rate)
        self._train(self._position.learning_rate or self._settings.learning_rate)
        self._validate()
        self._trainee.load_weights(self._best)
        position, base_loss, best_loss = self._position, self._position.base_loss, self._position.best_loss
        if position.learning_rate is None or position.train_loss is None:
            raise JobFailed("No step had finite gradients", code="diverged", fix="Use a smaller learning rate")
        return Outcome(
            steps=position.steps,
            rows_seen=position.rows_seen,
            learning_rate=position.learning_rate,
            train_loss=position.train_loss,
            validation_loss=best_loss if best_loss is not None and math.isfinite(best_loss) else None,
            base_validation_loss=base_loss if base_loss is not None and math.isfinite(base_loss) else None,
            beats_base=None if base_loss is None or best_loss is None else best_loss < base_loss,
        )

    def _begin(self) -> None:
        """Go on from the checkpoint or measure the base, and learn how long validating and saving take."""
        found = self._checkpoints.load()
        if found is not None:
            self._restore(found)
        started = self._now()
        loss = self._validation_loss()
        validated = self._now()
        if found is None:
            self._advance(base_loss=loss)
        self._save()
        saving_seconds = self._now() - validated
        self._box = TimeBox(self._position.started, self._box.deadline, validated - started, saving_seconds)
        self._saves = Every(max(saving_seconds / _CHECKPOINT_SHARE, _MIN_CHECKPOINT_SECONDS), self._now)
        has_steps = self._position.learning_rate is not None and self._position.steps > 0
        if not has_steps and self._now() >= self._box.training_ends:
            raise JobFailed(
                f"Only {self._box.deadline - self._now():.1f} s are left, too few for a single step",
                code="budget_too_short",
                fix="Decline tasks with so short a budget, or use a smaller base model",
            )

    # Which learning rate

    def _probed_rate(self, untouched: Snapshot) -> float:
        """The best of the plan's learning rates, each tried for a while from the untouched weights, to which the run then returns."""
        plan = self._settings
        for rate in plan.probe_learning_rates:
            if rate in dict(self._position.probed) or self._box.fraction(self._now()) > _PROBES_END:
                continue
            self._probe(rate)
            loss = self._validation_loss() if self._position.base_loss is not None else self._position.train_loss
            loss = math.inf if loss is None or not math.isfinite(loss) else loss
            rows = self._position.probe_rows or self._position.rows_seen
            self._advance(probed=(*self._position.probed, (rate, loss)), probe_rows=rows)
            self._return_to(untouched)
            self._save()
        self._return_to(untouched)  # from a probe that was cut short and had no time to go on
        if len(self._position.probed) < min(2, len(plan.probe_learning_rates)):
            return plan.learning_rate  # nothing was compared
        return min(self._position.probed, key=lambda pair: (pair[1], pair[0]))[0]

    def _return_to(self, untouched: Snapshot) -> None:
        """Back to the start, knowing what was learnt on the way."""
        here = self._position
        kept = here.model_dump(include={"started", "base_loss", "probed", "probe_rows"})
        self._restore(replace(untouched, position=Position(**kept)))

    def _probe(self, rate: float) -> None:
        """Train at `rate` for its share of the run, from where the position stands."""
        plan, box = self._settings, self._box
        time_share = min(plan.probe_fraction, _PROBING_SHARE / len(plan.probe_learning_rates))
        whole_batches = max(math.floor(plan.probe_fraction * self._max_rows / plan.batch_rows), 1)
        leg = Leg(
            time_share * box.training_seconds - box.validation_seconds,
            self._position.probe_rows or whole_batches * plan.batch_rows,
        )
        while self._has_room(leg):
            factor = rate_factor(self._done(leg, ahead=0.5), schedule="constant", warmup_fraction=_PROBE_WARMUP)
            self._step(rate * factor)
            done = (len(self._position.probed) + self._done(leg)) / len(plan.probe_learning_rates)
            self._tell("probing", _PROBING_SHARE * done)

    # The main run

    def _train(self, rate: float) -> None:
        """The main run. Validations divide it into equal parts; the last one ends it, behind this.

        They cost at most 8 % of the time until the deadline. When epochs end the run sooner, the rest of that time is there anyway, and a
        choice among several is worth more than an early end.
        """
        plan, parts = self._settings, 0
        if self._position.base_loss is not None:
            affordable = _VALIDATION_SHARE * (self._box.training_ends - self._now())
            parts = int(min(max(affordable / max(self._box.validation_seconds, 1e-9), 1), _MOST_VALIDATIONS))
        part = math.floor(self._done(self._main_leg()) * parts)
        probed_share = _PROBING_SHARE if plan.probe_learning_rates else 0.0
        while self._has_room(leg := self._main_leg()):
            progress = self._done(leg, ahead=0.5)
            self._step(rate * rate_factor(progress, schedule=plan.schedule, warmup_fraction=plan.warmup_fraction))
            done = self._done(self._main_leg())
            self._tell("training", probed_share + (1.0 - probed_share) * done)
            if math.floor(done * parts) > part:
                self._validate()
                part = math.floor(self._done(self._main_leg()) * parts)

    def _main_leg(self) -> Leg:
        """All epochs, or what was trained so far with all the time that is left: a pause takes from what is to come."""
        return Leg(self._position.seconds + self._box.training_ends - self._now(), self._max_rows)

    def _validate(self) -> None:
        """Keep the weights if they are the best so far; without validation rows the latest ones are."""
        if self._best and self._validated_steps == self._position.steps:
            return
        self._validated_steps = self._position.steps
        with self._trainee.averaged():
            loss, best = self._validation_loss(), self._position.best_loss
            if not self._best or loss is None or best is None or loss < best:
                self._best = self._trainee.weights()
                self._advance(best_loss=loss)

    # What both are made of

    def _has_room(self, leg: Leg) -> bool:
        """Whether another step fits in; the first one is always made."""
        in_time = self._position.seconds + self._step_seconds <= leg.seconds
        return self._position.steps == 0 or (in_time and self._position.rows_seen < leg.rows)

    def _done(self, leg: Leg, *, ahead: float = 0.0) -> float:
        """How much of the leg is done so many steps from now."""
        return leg.done(
            seconds=self._position.seconds + ahead * self._step_seconds,
            rows=self._position.rows_seen + ahead * self._settings.batch_rows,
        )

    def _step(self, rate: float) -> None:
        """One step, and a checkpoint when it is time for one."""
        started, position = self._now(), self._position
        batch = next(self._batches)
        loss, smooth = self._objective.backward(self._trainee.model, batch), position.train_loss
        if self._trainee.step(rate):
            smooth = loss if smooth is None else _SMOOTHING * smooth + (1 - _SMOOTHING) * loss
        seconds = self._now() - started
        self._step_seconds = max(0.9 * self._step_seconds, seconds)
        self._advance(
            steps=position.steps + 1,
            rows_seen=position.rows_seen + len(batch),
            seconds=position.seconds + seconds,
            train_loss=smooth,
        )
        if self._saves.due():
            self._save()

    def _validation_loss(self) -> float | None:
        """The objective's loss on the kept rows, infinite where it is not a number; None when no rows are kept."""
        self._trainee.model.eval()
        loss = self._objective.validate(self._trainee.model)
        self._trainee.model.train()
        return math.inf if loss is not None and not math.isfinite(loss) else loss

    # Where the run stands

    def _snapshot(self) -> Snapshot:
        return Snapshot(self._position, self._trainee.weights(), self._best, self._trainee.moments())

    def _save(self) -> None:
        self._checkpoints.save(self._snapshot())

    def _restore(self, snapshot: Snapshot) -> None:
        self._position = snapshot.position
        self._best = snapshot.best
        self._trainee.load_weights(snapshot.weights)
        self._trainee.load_moments(snapshot.optimiser)
        self._batches = self._batches_from_here()

    def _batches_from_here(self) -> Iterator[list[int]]:
        return endless_batches(
            self._objective.lengths,
            batch_rows=self._settings.batch_rows,
            seed=self._seed,
            rows_seen=self._position.rows_seen,
        )

    def _advance(self, **changes: object) -> None:
        self._position = self._position.model_copy(update=changes)

    def _tell(self, phase: Phase, fraction: float) -> None:
        if self._reports.due():
            self._report(TrainingProgress(phase, fraction, self._position.steps, self._position.train_loss))
