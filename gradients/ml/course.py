"""Where a run stands, and how it moves: one step, one validation, one checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import repeat

from gradients.ml.batching import endless_batches
from gradients.ml.checkpoint import Checkpoints, Position, Snapshot, Tensors
from gradients.ml.engine import Engine
from gradients.ml.objective import Objective
from gradients.ml.schedule import Every, Leg
from gradients.ml.search import Candidate, Trial
from gradients.ml.trainee import Trainee

_SMOOTHING = 0.9  # of the train loss that people see


class Course:
    """A model under way from its base's weights: `position`, the weights in the model, and those that were best."""

    def __init__(
        self,
        trainee: Trainee,
        objective: Objective,
        engine: Engine,
        *,
        batch_rows: int,
        seed: int,
        checkpoints: Checkpoints,
        now: Callable[[], float],
    ) -> None:
        """Args:
        batch_rows: of probes.
        """
        self.position = Position(started=now())
        self.best: Tensors = {}  # what would be handed in by the runs that are over
        self.own: Tensors = {}  # of the best validation of the run that goes on
        self.mean: Tensors = {}  # of several points of the run that goes on
        self.step_seconds = 0.0
        self.saves = Every(math.inf, now)
        self._trainee = trainee
        self._objective = objective
        self._engine = engine
        self._probe_batch_rows = batch_rows
        self._seed = seed
        self._checkpoints = checkpoints
        self._now = now
        self._batches = self._batches_from_here()

    @property
    def batch_rows(self) -> int:
        """Rows of a step."""
        candidate = self.position.candidate
        return candidate.batch_rows if candidate else self._probe_batch_rows

    def has_room(self, leg: Leg) -> bool:
        """Whether another step fits in; the first one is always made."""
        in_time = self.position.seconds + self.step_seconds <= leg.seconds
        return self.position.steps == 0 or (in_time and self.position.rows_seen < leg.rows)

    def done(self, leg: Leg, *, ahead: float = 0.0) -> float:
        """How much of the leg is done so many steps from now."""
        return leg.done(
            seconds=self.position.seconds + ahead * self.step_seconds,
            rows=self.position.rows_seen + ahead * self.batch_rows,
        )

    def run(self, leg: Callable[[], Leg], *, rate: Callable[[], float], after: Callable[[], bool]) -> None:
        """Make steps for as long as there is room in the leg, with checkpoints when it is time for one.

        Args:
            leg: as it is at that moment.
            rate: the learning rate of the step that is about to be made.
            after: called behind each step; False ends the run.
        """
        if not self.has_room(leg()):
            return
        started = self._now()

        def stepped(rows: int, loss: float | None) -> bool:
            nonlocal started
            self._count(rows, loss, seconds=self._now() - started)
            goes_on = after() and self.has_room(leg())
            started = self._now()
            return goes_on

        self._engine.run(self._batches, batch_rows=self.batch_rows, rate=rate, stepped=stepped)
        self._batches = self._batches_from_here()  # an engine may have drawn rows beyond its last step

    def _count(self, rows: int, loss: float | None, *, seconds: float) -> None:
        """Note that a step was made, and leave a checkpoint when it is time for one."""
        position, smooth = self.position, self.position.train_loss
        if loss is not None:
            smooth = loss if smooth is None else _SMOOTHING * smooth + (1 - _SMOOTHING) * loss
        self.step_seconds = max(0.9 * self.step_seconds, seconds)
        self.advance(
            steps=position.steps + 1,
            rows_seen=position.rows_seen + rows,
            seconds=position.seconds + seconds,
            train_loss=smooth,
        )
        if self.saves.due():
            self.save()

    def try_longest(self) -> None:
        """Have two steps at their most rows' longest go through memory and change nothing: the second one finds the moments there, too.

        Where memory runs out, the objective's micro-batches become smaller for all that follows.
        """
        lengths = self._objective.lengths
        longest = sorted(range(len(lengths)), key=lambda row: -lengths[row])[: self.batch_rows]
        made = 0

        def stepped(_: int, __: float | None) -> bool:
            nonlocal made
            made += 1
            return made < 2

        self._engine.run(repeat(longest), batch_rows=self.batch_rows, rate=lambda: 0.0, stepped=stepped)
        self._trainee.load_moments({})

    def validation_loss(self) -> float | None:
        """The objective's loss on the kept rows, infinite where it is not a number; None when no rows are kept."""
        self._trainee.model.eval()
        loss = self._objective.validate(self._trainee.model)
        self._trainee.model.train()
        return math.inf if loss is not None and not math.isfinite(loss) else loss

    def take_into_mean(self) -> None:
        """Let the weights as they are be one of the points that the run's mean is taken of: the n-th counts n times (arXiv 1212.2002)."""
        with self._trainee.averaged():
            weights, count = self._trainee.weights(), self.position.meant
        self.mean = between(self.mean, weights, 2 / (count + 2)) if self.mean else weights
        self.advance(meant=count + 1)

    def look(self, weights: Tensors) -> float:
        """The loss of other weights on the kept rows, which leaves them in the model; infinite when no rows are kept."""
        self._trainee.load_weights(weights)
        loss = self.validation_loss()
        return math.inf if loss is None else loss

    def validate(self, done: float, kept: Callable[[], None]) -> None:
        """Keep the weights if they are the run's best so far; without validation rows the latest ones are.

        Args:
            done: share of the run that lies behind, 0..1.
            kept: called while the model has weights that were kept.
        """
        with self._trainee.averaged():
            loss, best = self.validation_loss(), self.position.own_loss
            if not self.own or loss is None or best is None or loss < best:
                self.own = self._trainee.weights()
                self.advance(own_loss=loss)
                kept()
        if loss is not None:
            self.advance(curve=(*self.position.curve, (done, loss)))

    def advance(self, **changes: object) -> None:
        """Change the position."""
        self.position = self.position.model_copy(update=changes)

    def begin(self, candidate: Candidate) -> None:
        """Begin the first run with the weights as they are."""
        self.advance(candidate=candidate)
        self._batches = self._batches_from_here()

    def begin_again(self, weights: Tensors, candidate: Candidate | None = None) -> None:
        """Begin a run, or a probe without a candidate, with these weights and with what was learnt on the way."""
        kept = self.position.model_dump(
            include={"started", "base_loss", "probed", "probe_rows", "trials", "best_loss", "averaged"}
        )
        position = Position.model_validate({**kept, "candidate": candidate})
        self.restore(Snapshot(position, weights, self.best))

    def trial(self, candidate: Candidate, *, helped: bool) -> Trial:
        """The run that goes on, as one that is over."""
        position = self.position
        return Trial(
            candidate=candidate,
            loss=math.inf if position.own_loss is None else position.own_loss,
            curve=position.curve,
            steps=position.steps,
            rows=position.rows_seen,
            passes=position.rows_seen / len(self._objective.lengths),
            seconds=position.seconds,
            train_loss=position.train_loss,
            helped=helped,
        )

    def snapshot(self) -> Snapshot:
        """All that a later process needs to go on from here."""
        weights, moments = self._trainee.weights(), self._trainee.moments()
        return Snapshot(self.position, weights, self.best, self.own, self.mean, moments)

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from there."""
        self.position = snapshot.position
        self.best, self.own, self.mean = snapshot.best, snapshot.own, snapshot.mean
        self._trainee.load_weights(snapshot.weights)
        self._trainee.load_moments(snapshot.optimiser)
        self._batches = self._batches_from_here()

    def save(self) -> None:
        """Leave a checkpoint."""
        self._checkpoints.save(self.snapshot())

    def _batches_from_here(self) -> Iterator[list[int]]:
        candidate = self.position.candidate
        return endless_batches(
            self._objective.lengths,
            batch_rows=self.batch_rows,
            seed=self._seed + (candidate.order if candidate else 0),
            rows_seen=self.position.rows_seen,
        )


def between(start: Tensors, end: Tensors, share: float) -> Tensors:
    """The weights that lie so far, 0..1, on the straight way from one to the other."""
    return {name: weight.lerp(end[name], share) for name, weight in start.items()}
