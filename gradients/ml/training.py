"""The one training loop: time-boxed, resumable, and it hands in the best weights that it saw.

One clock drives it: how much of a run is done is the larger of its shares of the time and of the epochs, so whichever ends the run first
is what probes, validations and the learning rate go by. The rate reaches zero just when enough time is left to choose and to save. A
machine that slows down half-way makes fewer steps, not a late submission. Killed at any moment, a later call goes on from its checkpoint.
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
from gradients.ml.schedule import Every, Schedule, TimeBox, rate_factor
from gradients.ml.trainee import Trainee

if TYPE_CHECKING:
    from torch import nn

Phase = Literal["loading", "probing", "training", "saving"]
_SMOOTHING = 0.9  # of the train loss that people see
_PROBE_WARMUP = 0.1
_PROBES_SHARE = 0.1  # of the run, for all probes together: the decaying run is what counts
_PROBES_END = 0.5  # share of the time after which no further learning rate is tried
_REPORT_SECONDS = 0.5
_VALIDATION_SHARE = 0.1  # of the time that the run really takes
_MOST_VALIDATIONS = 12
_CHECKPOINT_SHARE = 0.05  # of the time
_MIN_CHECKPOINT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """Hyper-parameters of one run: the fields of TrainingPlan in gradients/tasks/jobs.py, less its recipe and options."""

    method: Literal["lora", "full"]
    learning_rate: float
    batch_rows: int
    max_tokens: int
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
    fraction: float  # of the whole time budget
    step: int
    loss: float | None  # of train rows, smoothed


class Outcome(NamedTuple):
    """What a run came to."""

    steps: int
    rows_seen: int
    learning_rate: float
    train_loss: float  # of the last rows, smoothed
    validation_loss: float | None  # of the weights that are handed in
    base_loss: float | None  # of the untouched base on the same rows
    beats_base: bool | None  # None where no rows were kept to tell


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
        model: the weights that are to train require gradients.
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
        self._probes = replace(checkpoints, name="probe.safetensors")  # where a probe was cut off
        self._report = report
        self._now = now
        self._box = TimeBox(started=now(), deadline=deadline)
        self._max_rows = math.ceil(settings.max_epochs * len(objective.lengths))
        self._position = Position(started=now())
        self._batches = self._batches_from_here()
        self._best: Tensors = {}
        self._validated_steps = 0
        self._validated_progress = 0.0  # of the main run, at its last validation
        self._step_seconds = 0.0
        self._reports = Every(_REPORT_SECONDS, now)

    def run(self) -> Outcome:
        """Train until time or epochs are used up. Raises JobFailed when not a single step was possible."""
        start = self._snapshot() if self._settings.probe_learning_rates else None
        self._begin()
        if self._position.main_started is None:
            rate = self._probed_rate(start) if start else self._settings.learning_rate
            self._advance(learning_rate=rate, main_started=self._now(), main_rows=self._position.rows_seen)
        self._train()
        self._validate()
        self._trainee.load_weights(self._best)
        return self._outcome()

    def _begin(self) -> None:
        """Go on from the checkpoint if there is one, and measure how long validating and saving take."""
        found = self._checkpoints.load()
        if found is not None:
            self._restore(found)
        started = self._now()
        loss = self._validation_loss()
        validating = self._now() - started
        if found is None:  # the base is a candidate like any checkpoint: a run that beats it nowhere says so
            self._advance(base_loss=loss if loss is not None and math.isfinite(loss) else None)
        started = self._now()
        self._save()
        self._box = TimeBox(self._position.started, self._box.deadline, validating, self._now() - started)
        if self._position.steps == 0 and self._now() >= self._box.training_ends:
            raise JobFailed(
                f"Only {self._box.deadline - self._now():.1f} s are left, too few for a single step",
                code="budget_too_short",
                fix="Decline tasks with so short a budget, or use a smaller base model",
            )

    def _outcome(self) -> Outcome:
        position = self._position
        if position.learning_rate is None or position.train_loss is None:
            raise JobFailed("No step had finite gradients", code="diverged", fix="Use a smaller learning rate")
        ours, theirs = position.best_loss, position.base_loss
        return Outcome(
            steps=position.steps,
            rows_seen=position.rows_seen,
            learning_rate=position.learning_rate,
            train_loss=position.train_loss,
            validation_loss=ours,
            base_loss=theirs,
            beats_base=None if ours is None or theirs is None else ours < theirs,
        )

    # Which learning rate

    def _probed_rate(self, start: Snapshot) -> float:
        """The best of the plan's learning rates, each tried for a while from the same start; its run goes on."""
        kept = {"started": self._position.started, "base_loss": self._position.base_loss}
        start = replace(start, position=start.position.model_copy(update=kept))
        best = self._snapshot() if self._position.probed else None
        for rate in self._settings.probe_learning_rates:
            probed = best.position.probed if best else ()
            if rate in dict(probed) or (best and self._box.fraction(self._now()) > _PROBES_END):
                continue
            cut_off = self._probes.load()
            self._restore(cut_off if cut_off is not None and cut_off.position.probing == rate else start)
            loss = self._probe(rate)
            self._advance(probing=None, probing_seconds=0.0)
            wins = best is None or loss < min(other for _, other in probed)
            best = (self._snapshot() if wins or best is None else best).having_probed((*probed, (rate, loss)))
            self._checkpoints.save(best)
        assert best is not None  # noqa: S101 (there is at least one rate, and the first is always tried)
        self._restore(best)
        rate, loss = min(best.position.probed, key=lambda pair: pair[1])
        if math.isfinite(loss) and self._position.base_loss is not None:  # the first candidate of the main run
            self._best = self._trainee.weights()
            self._advance(best_loss=loss)
        return rate

    def _probe(self, rate: float) -> float:
        """The loss after training at `rate` for its share of the run, by time or by rows; infinite when it diverged."""
        share = min(self._settings.probe_fraction, _PROBES_SHARE / len(self._settings.probe_learning_rates))
        started = self._now() - self._position.probing_seconds
        seconds = share * (self._box.training_ends - self._box.started)
        checkpoints = self._checkpoint_times()
        while self._position.steps == 0 or self._now() < started + seconds:
            by_time = (self._now() + self._step_seconds / 2 - started) / max(seconds, 1e-9)
            by_rows = (self._position.rows_seen + self._settings.batch_rows / 2) / (share * self._max_rows)
            if self._position.steps and by_rows > 1:
                break
            done = max(by_time, by_rows)
            self._step(rate * rate_factor(done, schedule="constant", warmup_fraction=_PROBE_WARMUP))
            self._tell("probing")
            if checkpoints.due():
                self._advance(probing=rate, probing_seconds=self._now() - started)
                self._probes.save(self._snapshot())
        validated = self._validation_loss()
        loss = validated if validated is not None else self._position.train_loss
        return loss if loss is not None and math.isfinite(loss) else math.inf

    # The main run

    def _train(self) -> None:
        rate = self._position.learning_rate or self._settings.learning_rate
        warmup = 0.0 if self._position.probed else self._settings.warmup_fraction
        checkpoints = self._checkpoint_times()
        self._validated_progress = self._progress()
        while self._has_room():
            factor = rate_factor(self._progress(), schedule=self._settings.schedule, warmup_fraction=warmup)
            self._step(rate * factor)
            self._tell("training")
            if self._validation_due():
                self._validate()
            if checkpoints.due():
                self._save()

    def _has_room(self) -> bool:
        """Whether another step fits in; the first one is always made."""
        in_time = self._now() + self._step_seconds <= self._box.training_ends
        return self._position.steps == 0 or (in_time and self._position.rows_seen < self._max_rows)

    def _progress(self) -> float:
        """How much of the main run is done in the middle of the next step, by time or by epochs, whichever ends it first."""
        started, first_row = self._position.main_started or self._box.started, self._position.main_rows
        seconds = self._now() + self._step_seconds / 2 - started
        rows = self._position.rows_seen + self._settings.batch_rows / 2 - first_row
        by_time = seconds / max(self._box.training_ends - started, 1e-9)
        return max(by_time, rows / max(self._max_rows - first_row, 1))

    def _validation_due(self) -> bool:
        """Whether a share of the run has passed: a twelfth, or more where validating would take more than its part of the time.

        How long the run will really take follows from how far it is; epochs may end it long before its time is over.
        """
        done = self._progress()
        length = (self._now() - (self._position.main_started or self._box.started)) / max(done, 1e-9)
        interval = max(1 / _MOST_VALIDATIONS, self._box.validation_seconds / max(_VALIDATION_SHARE * length, 1e-9))
        return done - self._validated_progress >= interval

    def _checkpoint_times(self) -> Every:
        return Every(max(self._box.saving_seconds / _CHECKPOINT_SHARE, _MIN_CHECKPOINT_SECONDS), self._now)

    def _step(self, rate: float) -> None:
        started = self._now()
        batch = next(self._batches)
        loss = self._objective.backward(self._trainee.model, batch)
        smooth = self._position.train_loss
        if self._trainee.step(rate):
            smooth = loss if smooth is None else _SMOOTHING * smooth + (1 - _SMOOTHING) * loss
        seen = self._position.rows_seen + len(batch)
        self._advance(steps=self._position.steps + 1, rows_seen=seen, train_loss=smooth)
        self._step_seconds = max(0.9 * self._step_seconds, self._now() - started)

    def _validate(self) -> None:
        """Keep the weights if they are the best so far; without validation rows the latest ones are."""
        if self._best and self._validated_steps == self._position.steps:
            return
        self._validated_steps, self._validated_progress = self._position.steps, self._progress()
        with self._trainee.averaged():
            loss, best = self._validation_loss(), self._position.best_loss
            if loss is None or best is None or loss < best:
                self._best = self._trainee.weights()
                self._advance(best_loss=loss if loss is not None and math.isfinite(loss) else None)

    def _validation_loss(self) -> float | None:
        self._trainee.model.eval()
        loss = self._objective.validate(self._trainee.model)
        self._trainee.model.train()
        return loss

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

    def _advance(self, **changes: float | None) -> None:
        self._position = self._position.model_copy(update=changes)

    def _tell(self, phase: Phase) -> None:
        if self._reports.due():
            fraction = self._box.fraction(self._now())
            self._report(TrainingProgress(phase, fraction, self._position.steps, self._position.train_loss))
