"""Who makes the steps of a run: a bare loop of our own, or a trainer of the field's behind the same three lines (trl_engine.py).

An engine knows nothing of time: which rows, at which rate and how many of them is the run's to say (training.py), for every engine alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from gradients.ml.objective import Objective
from gradients.ml.trainee import Trainee


class Stepped(Protocol):
    """Told of each step once it is made; its answer says whether there is another one."""

    def __call__(self, rows: int, loss: float | None, /) -> bool:
        """Args:
        rows: that the step was made on.
        loss: of these rows before it; None when their gradients were not finite, and nothing was changed.
        """
        ...


class Engine(Protocol):
    """Makes steps on the trainee's weights."""

    def run(
        self, batches: Iterator[list[int]], *, batch_rows: int, rate: Callable[[], float], stepped: Stepped
    ) -> None:
        """Make steps until `stepped` says that there is no other.

        Args:
            batches: the rows of each step, without an end; some may be drawn that no step is made on.
            batch_rows: how many each has, but for some that have fewer.
            rate: the learning rate of the step that is about to be made.
        """
        ...


class OwnEngine:
    """The bare loop: the objective's gradients, and a step."""

    def __init__(self, trainee: Trainee, objective: Objective) -> None:
        self._trainee = trainee
        self._objective = objective

    def run(
        self, batches: Iterator[list[int]], *, batch_rows: int, rate: Callable[[], float], stepped: Stepped
    ) -> None:
        goes_on = True
        while goes_on:
            batch, now = next(batches), rate()
            loss = self._objective.backward(self._trainee.model, batch)
            finite = self._trainee.step(now)
            goes_on = stepped(len(batch), loss if finite else None)
