"""Which weights are handed in: the run's best, those of runs before, or weights that are made out of others, as kept rows say."""

from __future__ import annotations

import math
from collections.abc import Callable

from gradients.ml.checkpoint import Tensors
from gradients.ml.course import Course, between
from gradients.ml.search import Candidate

_WORTH_AVERAGING = 0.15  # of what the best gained: a run that is worse by more is not averaged with it
_AS_GOOD = 1.005  # of the best point's loss: which of several is best is partly chance, and few rows can't tell what differs by less
_SHORTER = 0.8  # of the way from the base's weights to the best ones, that is tried instead of all of it
_MOST_SHORTENED = 3  # times


class Choosing:
    """Changes what a course holds as its best; looks at other weights only while there is time to."""

    def __init__(self, course: Course, *, in_time: Callable[[], bool]) -> None:
        self._course = course
        self._in_time = in_time

    def look_at_mean(self) -> None:
        """Let the mean of the run's points be what came of it, if the kept rows find it as good as the best of them.

        Towards its end a run learns its rows by heart, in one direction after the other; the middle of its points has less of that, and
        lies where the loss is flat (arXiv 1803.05407, 2209.14981). A run that has still much to learn is best at its end, and stays so.
        """
        course, best = self._course, self._course.position.own_loss
        if course.position.meant < 2 or best is None or not self._in_time():
            return
        loss = course.look(course.mean)
        if math.isfinite(loss) and loss <= _AS_GOOD * best:
            course.own = course.mean
            course.advance(own_loss=loss)

    def choose(self, candidate: Candidate) -> None:
        """Let the best be this run's best weights, those of the runs before, or the mean of both; this run is over."""
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
        trials = (*position.trials, course.trial(candidate, helped=helped))
        course.advance(trials=trials, best_loss=chosen, averaged=averaged)

    def _mean(self, loss: float, best: float) -> tuple[float, Tensors]:
        """The mean of the runs' weights and its loss; infinite when it is hopeless, or there is no time to look.

        Runs from one base mostly lie in one valley, whose middle is lower than its sides (model soups, arXiv 2203.05482).
        """
        course, position = self._course, self._course.position
        near = best + _WORTH_AVERAGING * max((position.base_loss or best) - best, 0.0)
        if not (math.isfinite(loss) and loss <= near and self._in_time()):
            return math.inf, {}
        mean = between(course.best, course.own, 1 / (position.averaged + 1))
        return course.look(mean), mean

    def shorten(self, untouched: Tensors) -> None:
        """Let the best be weights between the base's and the best ones, where the kept rows say so.

        What few rows teach is partly these rows themselves, and the longer the way the more so; a rate that suits what can be learnt goes
        too far for what can't. On the line between base and model is often one that is better than both (WiSE-FT, arXiv 2109.01903).
        """
        course, best = self._course, self._course.position.best_loss
        for times in range(1, _MOST_SHORTENED + 1):
            if best is None or not self._in_time():
                return
            shorter = between(untouched, course.best, _SHORTER)
            loss = course.look(shorter)
            if not loss < best:
                return
            course.best, best = shorter, loss
            course.advance(best_loss=loss, way=_SHORTER**times)
