"""The one training loop: time-boxed, resumable, and it hands in the best weights that it validated.

One clock drives all of it: how much is done of what will really be run, by time or by rows, whichever ends the run first. Learning rates
are tried for a small share of that, the rate falls to zero along it, and validations are placed on it; so a run that its epochs end early
has its pieces in the same places as one that the deadline ends. When time is left then, further runs are made with other hyper-parameters
(search.py), and the best of all is handed in, or a mean: of several, of points of one, with the base. A machine that slows down half-way
makes fewer steps, not a late submission. Killed at any moment, a later call goes on from the last checkpoint.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from gradients.errors import JobFailed
from gradients.ml.checkpoint import Checkpoints, Tensors
from gradients.ml.course import Course, between
from gradients.ml.engine import Engine, OwnEngine
from gradients.ml.objective import Objective, Weighting
from gradients.ml.schedule import Every, Leg, Schedule, TimeBox, rate_factor
from gradients.ml.search import Candidate, Trial, champion_of, is_lost, propose
from gradients.ml.telling import Phase, TrainingProgress, progress_of
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
_WORTH_AVERAGING = 0.15  # of what the best gained: a run that is worse by more is not averaged with it
_MEAN_POINTS = 12  # of a run, at which weights are taken into its mean
_AS_GOOD = 1.005  # of the best point's loss: which of several is best is partly chance, and few rows can't tell what differs by less
_LOOKS = 2  # at weights that are made out of others: the run's mean, and less of the way or the mean with runs before
_SHORTER = 0.8  # of the way from the base's weights to the best ones, that is tried instead of all of it
_MOST_SHORTENED = 3  # times


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """Hyper-parameters of one run: the fields of TrainingPlan in gradients/tasks/jobs.py, less its recipe and options."""

    method: Literal["lora", "full"]
    engine: Literal["ours", "trl", "auto"]
    processes: int
    learning_rate: float
    batch_rows: int
    max_tokens: int
    micro_batch_tokens: int | None
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


class Outcome(NamedTuple):
    """What it came to. Steps, rows and hyper-parameters are those of the best whole run."""

    steps: int
    rows_seen: int
    learning_rate: float
    batch_rows: int
    epochs: float  # passes that it really made
    candidates: int  # whole runs that were made
    averaged: int  # of them, how many the weights handed in are the mean of
    way: float  # from the base's weights to these, that was gone: 1 unless less of it was better
    train_loss: float  # of the last rows, smoothed
    validation_loss: float | None  # of the weights that are handed in
    base_validation_loss: float | None  # of the untouched base, on the same rows
    beats_base: bool | None  # None without validation rows
    tokens_per_second: float | None  # of train rows, in all whole runs


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
    ) -> None:
        """Args:
        model: untouched; the weights that are to train require gradients.
        deadline: Unix seconds when choosing and saving must be over.
        average_decay: of the running average of weights that is validated and handed in; 0 hands in weights as they are.
        engine: who makes the steps.
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
        self._rows, self._tokens = len(objective.lengths), sum(objective.lengths)
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
        self._untouched: Tensors = {}
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
            self._choose(candidate)
            following = self._next()
            if following is None:
                self._shorten()
                return self._outcome()
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
        if found is None and self._trainee.is_on_gpu:
            course.try_longest()
        has_steps = course.position.candidate is not None and (course.position.steps > 0 or bool(course.best))
        if not has_steps and self._now() >= self._box.training_ends:
            raise JobFailed(
                f"Only {self._box.deadline - self._now():.1f} s are left, too few for a single step",
                code="budget_too_short",
                fix="Decline tasks with so short a budget, or use a smaller base model",
            )

    def _outcome(self) -> Outcome:
        """What it came to; the best weights are in the model."""
        position = self._course.position
        self._trainee.load_weights(self._course.best)
        chosen = champion_of(position.trials)
        if chosen.train_loss is None:
            raise JobFailed("No step had finite gradients", code="diverged", fix="Use a smaller learning rate")
        base_loss, best_loss = position.base_loss, position.best_loss
        return Outcome(
            steps=chosen.steps,
            rows_seen=chosen.rows,
            learning_rate=chosen.candidate.learning_rate,
            batch_rows=chosen.candidate.batch_rows,
            epochs=chosen.passes,
            candidates=len(position.trials),
            averaged=position.averaged,
            way=position.way,
            train_loss=chosen.train_loss,
            validation_loss=best_loss if best_loss is not None and math.isfinite(best_loss) else None,
            base_validation_loss=base_loss if base_loss is not None and math.isfinite(base_loss) else None,
            beats_base=None if base_loss is None or best_loss is None else best_loss < base_loss,
            tokens_per_second=self._tokens / self._rows / self._row_seconds(),
        )

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
                course.validate(done)
                validated, last = course.position.steps, course.done(self._leg(candidate))
                lost = self._is_lost()
            return not lost

        course.run(lambda: self._leg(candidate), rate=rate_now, after=after_step)
        if lost:
            return
        if validated < course.position.steps:
            course.validate(1.0)
        self._look_at_mean()

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
            seconds = min(seconds, candidate.epochs * self._rows * self._row_seconds())
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

    def _choose(self, candidate: Candidate) -> None:
        """Hand in this run's best weights, those of the runs before, or the mean of both, whichever the kept rows say."""
        course, position = self._course, self._course.position
        loss, best = position.own_loss, position.best_loss
        chosen, helped, averaged = loss, True, 1
        if course.best and loss is not None and best is not None:
            mean_loss, mean = self._mean(loss, best)
            chosen = min(best, loss, mean_loss)
            helped = chosen < best
            if chosen == best:
                averaged = position.averaged
            elif chosen == mean_loss and mean_loss < loss:
                course.own, averaged = mean, position.averaged + 1
        if helped:
            course.best = course.own
        course.own = course.mean = {}
        trial = Trial(
            candidate=candidate,
            loss=math.inf if loss is None else loss,
            curve=position.curve,
            steps=position.steps,
            rows=position.rows_seen,
            passes=position.rows_seen / self._rows,
            seconds=position.seconds,
            train_loss=position.train_loss,
            helped=helped,
        )
        course.advance(trials=(*position.trials, trial), best_loss=chosen, averaged=averaged)

    def _mean(self, loss: float, best: float) -> tuple[float, Tensors]:
        """The mean of the runs' weights and its loss; infinite when it is hopeless, or there is no time to look.

        Runs from one base mostly lie in one valley, whose middle is lower than its sides (model soups, arXiv 2203.05482).
        """
        course, position = self._course, self._course.position
        near = best + _WORTH_AVERAGING * max((position.base_loss or best) - best, 0.0)
        in_time = self._now() <= self._box.training_ends
        if not (math.isfinite(loss) and loss <= near and in_time):
            return math.inf, {}
        count = position.averaged
        mean = between(course.best, course.own, 1 / (count + 1))
        return course.look(mean), mean

    def _look_at_mean(self) -> None:
        """Let the mean of the run's points be what came of it, if the kept rows find it as good as the best of them.

        Towards its end a run learns its rows by heart, in one direction after the other; the middle of its points has less of that, and
        lies where the loss is flat (arXiv 1803.05407, 2209.14981). A run that has still much to learn is best at its end, and stays so.
        """
        course, best = self._course, self._course.position.own_loss
        if course.position.meant < 2 or best is None or self._now() > self._box.training_ends:
            return
        loss = course.look(course.mean)
        if math.isfinite(loss) and loss <= _AS_GOOD * best:
            course.own = course.mean
            course.advance(own_loss=loss)

    def _shorten(self) -> None:
        """Hand in weights that lie between the base's and the best ones, where the kept rows say so.

        What few rows teach is partly these rows themselves, and the longer the way the more so; a rate that suits what can be learnt goes
        too far for what can't. On the line between base and model is often one that is better than both (WiSE-FT, arXiv 2109.01903).
        """
        course, best = self._course, self._course.position.best_loss
        if self._settings.candidates == 1 or best is None:
            return
        for times in range(1, _MOST_SHORTENED + 1):
            if self._now() > self._box.training_ends:
                return
            shorter = between(self._untouched, course.best, _SHORTER)
            loss = course.look(shorter)
            if not loss < best:
                return
            course.best, best = shorter, loss
            course.advance(best_loss=loss, way=_SHORTER**times)

    def _next(self) -> Candidate | None:
        """What to run in the time that is left, if it is worth it."""
        position = self._course.position
        if position.base_loss is None or len(position.trials) >= self._settings.candidates:
            return None
        room = self._seconds_left() / (self._row_seconds() * self._rows * (1 + _VALIDATION_SHARE))
        return propose(position.trials, base_loss=position.base_loss, room=room)

    def _row_seconds(self) -> float:
        trials = self._course.position.trials
        return max(sum(trial.seconds for trial in trials) / sum(trial.rows for trial in trials), 1e-12)

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
