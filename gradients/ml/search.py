"""Which run to make next when time is left after one, and when a run need not be finished. Pure.

A pattern search (Hooke and Jeeves, 1961) over whole runs, each of which decays to zero: from the best run so far, one thing at a time is
changed, and whatever does better becomes the next point to start from. Whole runs, because short ones at a constant rate say little about
where a decayed run ends; the price is kept down by giving up those that fall far behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import BaseModel, ConfigDict

PATIENCE = (
    10  # runs in a row that bring nothing, after which the search is over: all moves from one run, and that run again
)
_LONGER = 2.5
_LEAST_EPOCHS = 0.25  # or a tenth of the best run's, that must fit in for going on to be worth a try
_GOING_ON = 0.3  # of the best rate, for going on from the best weights
_JUDGED_FROM = 0.4  # share of a run before which it is not compared: warm-up and a high rate look bad at first
_FAR_BEHIND = 0.25  # of what the best run gained, by which another may lag behind it half-way
_RISEN = 0.1  # of what a run gained, that its loss has gone up again twice in a row

Curve = tuple[tuple[float, float], ...]  # validations of a run: how much of it was done, 0..1, and the loss


class Candidate(BaseModel):
    """What one run does otherwise than the next."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    learning_rate: float
    batch_rows: int
    epochs: float
    goes_on: bool = False  # from the best weights so far, not from the base's
    order: int = 0  # of the rows: which shuffling


class Trial(BaseModel):
    """A run that is over."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")

    candidate: Candidate
    loss: float  # its best validation; infinite when it diverged
    curve: Curve
    steps: int
    rows: int  # seen
    passes: float  # over all rows that it made
    seconds: float  # of training
    train_loss: float | None  # of its last rows, smoothed
    helped: bool  # whether what is handed in became better by it

    @property
    def best_at(self) -> float:
        """How much of the run was done at its best validation, 0..1."""
        return min(self.curve, key=lambda point: point[1])[0] if self.curve else 1.0


def champion_of(trials: Sequence[Trial]) -> Trial:
    """The best run from the base's weights so far, the earlier one of equals."""
    return min((trial for trial in trials if not trial.candidate.goes_on), key=lambda trial: trial.loss)


def row_seconds(trials: Sequence[Trial]) -> float:
    """What training on a row took, over all runs."""
    return max(sum(trial.seconds for trial in trials) / sum(trial.rows for trial in trials), 1e-12)


def propose(trials: Sequence[Trial], *, base_loss: float, room: float) -> Candidate | None:
    """What to run next; None when there is nothing that is worth its time.

    Args:
        trials: in the order in which they were run; one at least, the first from the base's weights.
        base_loss: the untouched base's validation loss.
        room: passes over the rows that fit into the time that is left.
    """
    if not any(trial.helped for trial in trials[-PATIENCE:]):
        return None
    champion, tried = champion_of(trials), {_what(trial.candidate) for trial in trials}
    best, order = champion.candidate, len(trials)
    for move in _moves(champion, room, is_harmful=champion.loss >= base_loss):
        if move.epochs <= room and _what(move) not in tried:
            return move.model_copy(update={"order": order})
    if best.epochs <= room:  # all around it was tried: the same once more in another order, to be averaged with
        return best.model_copy(update={"order": order})
    if room < min(_LEAST_EPOCHS, 0.1 * champion.passes):
        return None
    gentler = _GOING_ON * best.learning_rate
    return best.model_copy(update={"learning_rate": gentler, "epochs": room, "goes_on": True, "order": order})


def is_lost(curve: Curve, *, base_loss: float, champion: Trial | None) -> bool:
    """Whether a run need not be finished, by its validations so far.

    It has turned for the worse for good, or at the same share of its run it is far behind the best one.
    """
    if not curve:
        return False
    done, _ = curve[-1]
    best = min(loss for _, loss in curve)
    if len(curve) > 2 and all(loss > best + _RISEN * max(base_loss - best, 0.0) for _, loss in curve[-2:]):
        return True
    if champion is None or done < _JUDGED_FROM:
        return False
    behind = [loss for share, loss in champion.curve if share <= done + 1e-9]
    return bool(behind) and best > min(behind) + _FAR_BEHIND * max(base_loss - champion.loss, 0.0)


def _moves(champion: Trial, room: float, *, is_harmful: bool) -> Iterator[Candidate]:
    """What differs from the best run in one thing, the most promising first."""
    best = champion.candidate

    def but(**change: object) -> Candidate:
        return best.model_copy(update=change)

    if is_harmful:
        yield but(learning_rate=best.learning_rate / 4, epochs=min(best.epochs, room))
    longest = min(_LONGER * best.epochs, room)
    if champion.best_at > 0.9 and longest > 1.3 * best.epochs:  # it was still getting better when it ended
        yield but(epochs=longest)
    elif champion.best_at < 0.75:  # it was at its best before its rate had fallen
        yield but(epochs=best.epochs * champion.best_at)
    yield but(learning_rate=2 * best.learning_rate)
    if best.batch_rows > 1:
        yield but(batch_rows=best.batch_rows // 2)
    yield but(learning_rate=best.learning_rate / 2)
    yield but(batch_rows=2 * best.batch_rows)
    yield but(epochs=0.6 * best.epochs)
    yield but(learning_rate=1.4 * best.learning_rate)
    yield but(learning_rate=best.learning_rate / 1.4)


def _what(candidate: Candidate) -> tuple[str, int, str, bool]:
    """What two candidates are told apart by, but for the order of rows."""
    return f"{candidate.learning_rate:.2g}", candidate.batch_rows, f"{candidate.epochs:.2g}", candidate.goes_on
