"""The one training loop: time-boxed, resumable, and it hands in the best weights that it validated.

One clock drives all of it: how much is done of what will really be run, by time or by rows, whichever ends the run first. Learning rates
are tried for a small share of that, the rate falls to zero along it, and validations are placed on it; so a run that its epochs end early
has its pieces in the same places as one that the deadline ends. When time is left then, further runs are made with other hyper-parameters
(search.py), and the best of all is handed in, or a mean: of several, of points of one, with the base. A machine that slows down half-way
makes fewer steps, not a late submission. Killed at any moment, a later call goes on from the last checkpoint. The best so far is handed in
on the way, so whoever is killed at the deadline loses what would have come after.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gradients.errors import JobFailed
from gradients.ml.checkpoint import Checkpoints, Position, Tensors
from gradients.ml.choosing import Choosing
from gradients.ml.course import Course
from gradients.ml.engine import Engine, OwnEngine
from gradients.ml.objective import Objective, Weighting
from gradients.ml.schedule import Every, Leg, Schedule, TimeBox, rate_factor
from gradients.ml.search import Candidate, champion_of, is_lost, propose, row_seconds
from gradients.ml.telling import Outcome, Phase, TrainingProgress, outcome_of, progress_of
from gradients.ml.trainee import OptimiserName, Trainee

if TYPE_CHECKING:
    from torch import nn

_PROBE_WARMUP = 0.1
_PROBING_SHARE = 0.08  # of the time, for all probes with their validations: what they take, the main run lacks
_PROBES_END = 0.25  # share of the time after which no further learning rate is tried, whatever held the run up
_REPORT_SECONDS = 0.5
_VALIDATION_SHARE = 0.08  # of the time
_MOST_VALIDATIONS = 12
_CHECKPOINT_SHARE = 0.03  # of the time
_MIN_CHECKPOINT_SECONDS = 2.0
_HAND_IN_SHARE = 0.01  # of the time, for handing in on the way what a run has found until then
_MIN_HAND_IN_SECONDS = 2.0
_MEAN_POINTS = 12  # of a run, at which weights are taken into its mean
_LOOKS = 2  # at weights that are made out of others: the run's mean, and less of the way or the mean with runs before


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """Hyper-parameters of one run: TrainingPlan (gradients/tasks/jobs/training.py) less its recipe and options."""

    method: Literal["lora", "full"]
    engine: Literal["ours", "trl", "auto"]
    processes: int
    learning_rate: float
    batch_rows: int
    max_tokens: int
    micro_batch_tokens: int | None
    micro_batch_rows: int | None
    gradient_checkpointing: bool
    load_in_4bit: bool
    optimiser: OptimiserName
    max_epochs: float
    candidates: int
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


class TrainingRun:
    """One job's training. `run` leaves the best weights in the model."""

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        settings: TrainingSettings,
        *,
        seed: int,
        deadline: float,
        checkpoints: Checkpoints,
        report: Callable[[TrainingProgress], None],
        now: Callable[[], float] = time.time,
        average_decay: float = 0.0,
        engine: Callable[[Trainee, Objective], Engine] = OwnEngine,
        hand_in: Callable[[Outcome], None] | None = None,
    ) -> None:
        """Args:
        model: untouched; the weights that are to train require gradients.
        deadline: Unix seconds when choosing and saving must be over.
        average_decay: of the running average of weights that is validated and handed in; 0 hands in weights as they are.
        engine: who makes the steps.
        hand_in: called on the way, while the model has the best weights so far, which need not be the last word; None for no one.
        """
        self._trainee = Trainee(
            model,
            weight_decay=settings.weight_decay,
            lora_plus_ratio=settings.lora_plus_ratio,
            optimiser=settings.optimiser,
            average_decay=average_decay,
        )
        self._settings = settings
        self._checkpoints = checkpoints
        self._report = report
        self._now = now
        self._rows = len(objective.lengths)
        self._tokens_per_row = sum(objective.lengths) / self._rows
        self._box = TimeBox(started=now(), deadline=deadline)
        self._course = Course(
            self._trainee,
            objective,
            engine(self._trainee, objective),
            batch_rows=settings.batch_rows,
            seed=seed,
            checkpoints=checkpoints,
            now=now,
        )
        self._choosing = Choosing(self._course, in_time=lambda: now() <= self._box.training_ends)
        self._untouched: Tensors = {}
        self._hand_in = hand_in
        self._handed_in: Tensors = {}
        self._hand_ins = Every(math.inf, now)
        self._reports = Every(_REPORT_SECONDS, now)
        self._told, self._told_phase = 0.0, "loading"
        self._rate: float | None = None  # of the step that is made

    def run(self) -> Outcome:
        """Train until time is used up, or what is worth running. Raises JobFailed when not a single step was possible."""
        plan, course = self._settings, self._course
        if plan.probe_learning_rates or plan.candidates > 1:
            self._untouched = self._trainee.weights()
        self._begin()
        candidate = course.position.candidate
        if candidate is None:
            rate = self._probed_rate() if plan.probe_learning_rates else plan.learning_rate
            candidate = Candidate(learning_rate=rate, batch_rows=plan.batch_rows, epochs=plan.max_epochs)
            course.begin(candidate)
        while True:
            self._train(candidate)
            self._choosing.choose(candidate)
            following = self._next()
            if not self.is_handed_in and (following is None or self._hand_ins.due()):
                self._trainee.load_weights(course.best)
                self._hand_in_now(course.best, course.position)
            if following is None:
                if plan.candidates > 1:
                    self._choosing.shorten(self._untouched)
                self._trainee.load_weights(course.best)
                return outcome_of(course.position, tokens_per_row=self._tokens_per_row)
            candidate = following
            course.begin_again(course.best if candidate.goes_on else self._untouched, candidate)

    def _begin(self) -> None:
        """Go on from the checkpoint or measure the base, and learn how long validating and saving take."""
        course = self._course
        found = self._checkpoints.load()
        if found is not None:
            course.restore(found)
        started = self._now()
        loss = course.validation_loss()
        validated = self._now()
        if found is None:
            course.advance(base_loss=loss)
        course.save()
        saving_seconds = self._now() - validated
        self._box = TimeBox(course.position.started, self._box.deadline, validated - started, saving_seconds)
        course.saves = Every(max(saving_seconds / _CHECKPOINT_SHARE, _MIN_CHECKPOINT_SECONDS), self._now)
        self._hand_ins = Every(max(saving_seconds / _HAND_IN_SHARE, _MIN_HAND_IN_SECONDS), self._now)
        if found is None and self._trainee.is_on_gpu:
            course.try_longest()
        has_steps = course.position.candidate is not None and (course.position.steps > 0 or bool(course.best))
        if not has_steps and self._now() >= self._box.training_ends:
            raise JobFailed(
                f"Only {self._box.deadline - self._now():.1f} s are left, too few for a single step",
                code="budget_too_short",
                fix="Decline tasks with so short a budget, or use a smaller base model",
            )

    @property
    def is_handed_in(self) -> bool:
        """Whether the weights that `run` came to are those that were handed in last on the way."""
        return self._handed_in is self._course.best

    # Which learning rate

    def _probed_rate(self) -> float:
        """The best of the plan's learning rates, each tried for a while from the untouched weights, to which the run then returns."""
        plan, course = self._settings, self._course
        for rate in plan.probe_learning_rates:
            if rate in dict(course.position.probed) or self._box.fraction(self._now()) > _PROBES_END:
                continue
            self._probe(rate)
            loss = course.validation_loss() if course.position.base_loss is not None else course.position.train_loss
            loss = math.inf if loss is None or not math.isfinite(loss) else loss
            rows = course.position.probe_rows or course.position.rows_seen
            course.advance(probed=(*course.position.probed, (rate, loss)), probe_rows=rows)
            course.begin_again(self._untouched)
            course.save()
        course.begin_again(self._untouched)  # from a probe that was cut short and had no time to go on
        if len(course.position.probed) < min(2, len(plan.probe_learning_rates)):
            return plan.learning_rate  # nothing was compared
        return min(course.position.probed, key=lambda pair: (pair[1], pair[0]))[0]

    def _probe(self, rate: float) -> None:
        """Train at `rate` for its share of the run, from where the position stands."""
        plan, box, course = self._settings, self._box, self._course
        time_share = min(plan.probe_fraction, _PROBING_SHARE / len(plan.probe_learning_rates))
        whole_batches = max(math.floor(plan.probe_fraction * plan.max_epochs * self._rows / plan.batch_rows), 1)
        leg = Leg(
            time_share * box.training_seconds - box.validation_seconds,
            course.position.probe_rows or whole_batches * plan.batch_rows,
        )

        def rate_now() -> float:
            done = course.done(leg, ahead=0.5)
            self._rate = rate * rate_factor(done, schedule="constant", warmup_fraction=_PROBE_WARMUP)
            return self._rate

        def after_step() -> bool:
            done = (len(course.position.probed) + course.done(leg)) / len(plan.probe_learning_rates)
            self._tell("probing", _PROBING_SHARE * done)
            return True

        course.run(lambda: leg, rate=rate_now, after=after_step)

    # Whole runs

    def _train(self, candidate: Candidate) -> None:
        """One run of the candidate. Validations divide it into equal parts, the last one ends it."""
        plan, course = self._settings, self._course
        parts, validated = self._parts(candidate), 0
        last = course.position.curve[-1][0] if course.position.curve else 0.0
        lost = False

        def rate_now() -> float:
            done = course.done(self._leg(candidate), ahead=0.5)
            factor = rate_factor(done, schedule=plan.schedule, warmup_fraction=plan.warmup_fraction)
            self._rate = candidate.learning_rate * factor
            return self._rate

        def after_step() -> bool:
            nonlocal validated, last, lost
            done = course.done(self._leg(candidate))
            self._tell_of_run(done)
            if plan.candidates > 1 and math.floor(done * _MEAN_POINTS) > course.position.meant:
                course.take_into_mean()
            if math.floor(done * parts) > math.floor(last * parts):
                course.validate(done, kept=lambda: self._validated(candidate, done))
                validated, last = course.position.steps, course.done(self._leg(candidate))
                lost = self._is_lost()
            return not lost

        course.run(lambda: self._leg(candidate), rate=rate_now, after=after_step)
        if lost:
            return
        if validated < course.position.steps:
            course.validate(1.0, kept=lambda: self._validated(candidate, 1.0))
        self._choosing.look_at_mean()

    def _validated(self, candidate: Candidate, done: float) -> None:
        """Hand in the run's weights, which the model has, if no run before was better, and it is time for it or this run is over."""
        position = self._course.position
        best, loss = position.best_loss, position.own_loss
        if (best is None or loss is None or loss < best) and (done >= 1.0 or self._hand_ins.due()):
            trials = (*position.trials, self._course.trial(candidate, helped=True))
            over = position.model_copy(update={"trials": trials, "best_loss": loss, "averaged": 1})
            self._hand_in_now(self._course.own, over)

    def _hand_in_now(self, weights: Tensors, position: Position) -> None:
        """Hand in weights that the model has, unless they are of runs that diverged."""
        has_learnt = champion_of(position.trials).train_loss is not None and position.best_loss != math.inf
        if self._hand_in is not None and has_learnt:
            self._hand_in(outcome_of(position, tokens_per_row=self._tokens_per_row))
            self._handed_in = weights

    def _parts(self, candidate: Candidate) -> int:
        """How many validations a run gets.

        They cost at most 8 % of the time until the deadline, the look at other weights after the run included, or of a further run's own.
        When epochs end the only run sooner, the rest of that time is there anyway, and a choice among several is worth more than an early
        end.
        """
        position = self._course.position
        if position.base_loss is None:
            return 0
        seconds = self._seconds_left()
        if position.trials:
            seconds = min(seconds, candidate.epochs * self._rows * row_seconds(position.trials))
        affordable = _VALIDATION_SHARE * seconds / max(self._box.validation_seconds, 1e-9)
        if not position.trials:
            affordable -= self._looking() / max(self._box.validation_seconds, 1e-9)
        return int(min(max(affordable, 4 if position.trials else 1), _MOST_VALIDATIONS))

    def _leg(self, candidate: Candidate) -> Leg:
        """All epochs, or what was trained so far with all the time that is left: a pause takes from what is to come."""
        return Leg(self._course.position.seconds + self._seconds_left(), math.ceil(candidate.epochs * self._rows))

    def _seconds_left(self) -> float:
        """For training."""
        return self._box.training_ends - self._looking() - self._now()

    def _looking(self) -> float:
        """Seconds that are kept for a look at weights that are made out of others; none for the first run's where validating is dear."""
        looking = (_LOOKS + 0.5) * self._box.validation_seconds if self._settings.candidates > 1 else 0.0
        dear = looking + self._box.validation_seconds > _VALIDATION_SHARE * self._box.training_seconds
        return 0.0 if dear and not self._course.position.trials else looking

    def _is_lost(self) -> bool:
        """Whether the time is better spent on another run."""
        position = self._course.position
        if self._settings.candidates == 1 or position.base_loss is None:
            return False
        champion = champion_of(position.trials) if position.trials else None
        return is_lost(position.curve, base_loss=position.base_loss, champion=champion)

    def _next(self) -> Candidate | None:
        """What to run in the time that is left, if it is worth it."""
        position = self._course.position
        if position.base_loss is None or len(position.trials) >= self._settings.candidates:
            return None
        room = self._seconds_left() / (row_seconds(position.trials) * self._rows * (1 + _VALIDATION_SHARE))
        return propose(position.trials, base_loss=position.base_loss, room=room)

    # What people see

    def _tell_of_run(self, done: float) -> None:
        """The only run's progress, or how much of the time is used up when more runs follow."""
        probed = _PROBING_SHARE if self._settings.probe_learning_rates else 0.0
        if self._settings.candidates == 1:
            self._tell("training", probed + (1.0 - probed) * done)
        else:
            self._tell("training", max(self._told, self._box.fraction(self._now())))

    def _tell(self, phase: Phase, fraction: float) -> None:
        begins = phase != self._told_phase  # told even where the phase is shorter than the pause between reports
        if self._reports.due() or begins:
            self._told, self._told_phase = fraction, phase
            self._report(self.progress(phase, fraction))

    def progress(self, phase: Phase, fraction: float) -> TrainingProgress:
        """Where the run stands."""
        return progress_of(self._course.position, phase, fraction, learning_rate=self._rate)
