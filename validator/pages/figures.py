"""Numbers as pages show them: intervals on a common scale, rates with what chance leaves open, and what may be seen of a task."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gradients.client.models import MinerResult, TaskDetails
from gradients.domain.task import Hotkey
from gradients.errors import OperatorError
from gradients.files.plain import read_head
from validator.ledger.overview import Standing

SIGMAS = 1.96  # of an interval that holds the true value in 95 of 100 cases
LEAST_WIDTH = 1e-12


@dataclass(frozen=True, slots=True)
class Interval:
    """Where an interval is drawn, 0 to 100, and what it says in words."""

    low: float
    middle: float
    high: float
    words: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """The results of one task on one scale."""

    base: float  # where the base is drawn
    of: Mapping[str, Interval]  # hotkey -> its gain


@dataclass(frozen=True, slots=True)
class Ranked:
    """One miner of the leaderboard."""

    hotkey: Hotkey
    uid: int | None  # on the subnet now
    share: float  # of the newest weights
    results: Standing
    win_rate: Interval
    reliability: Interval


def wilson(hits: int, of: int) -> tuple[float, float]:
    """A 95 % interval of a rate (E. B. Wilson, 1927); it is honest for few trials and for rates of 0 and 1.

    Returns (0, 1) without any trial.
    """
    if of == 0:
        return 0.0, 1.0
    rate, square = hits / of, SIGMAS**2
    middle = (rate + square / (2 * of)) / (1 + square / of)
    half = SIGMAS * math.sqrt(rate * (1 - rate) / of + square / (4 * of * of)) / (1 + square / of)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def rate(hits: int, of: int) -> Interval:
    """A share of trials with its interval."""
    low, high = wilson(hits, of)
    share = hits / of if of else 0.0
    words = f"{share:.1%}, between {low:.1%} and {high:.1%} ({hits} of {of})" if of else "no trial yet"
    return Interval(100 * low, 100 * share, 100 * high, words)


def comparison(task: TaskDetails) -> Comparison:
    """The gains of all measured models over the base, on one scale from the lowest end of an interval to the highest.

    They come from differences row by row, in which most of the rows' noise is gone. Who stopped early has none.
    """
    known = {
        miner.hotkey: (miner.gain_low, miner.gain, miner.gain_high)
        for miner in task.miners
        if miner.gain_low is not None and miner.gain is not None and miner.gain_high is not None
    }
    lowest = min((low for low, _, _ in known.values()), default=0.0)
    highest = max((high for _, _, high in known.values()), default=0.0)
    lowest, highest = min(lowest, 0.0), max(highest, 0.0)

    def place(value: float) -> float:
        return 2 + 96 * (value - lowest) / max(highest - lowest, LEAST_WIDTH)

    drawn = {
        hotkey: Interval(place(low), place(middle), place(high), f"{middle:+.1%}, between {low:+.1%} and {high:+.1%}")
        for hotkey, (low, middle, high) in known.items()
    }
    return Comparison(place(0.0), drawn)


def leaderboard(standings: Sequence[Standing], shares: Mapping[Hotkey, float], uids: Mapping[str, int]) -> list[Ranked]:
    """Everybody who has results or is paid, the largest share first.

    A miner is reliable in a task unless it has no model there by its own fault.
    """
    known = {standing.hotkey: standing for standing in standings}
    everybody = [*known, *(hotkey for hotkey in shares if hotkey not in known)]
    rows = [
        Ranked(
            hotkey,
            uids.get(hotkey),
            shares.get(hotkey, 0.0),
            results := known.get(hotkey, Standing(hotkey, 0, 0, 0, 0, 0.0)),
            win_rate=rate(results.wins, results.entered),
            reliability=rate(results.measured, results.measured + results.at_fault),
        )
        for hotkey in everybody
    ]
    return sorted(rows, key=lambda row: (-row.share, -row.results.wins, row.hotkey))


class PictureSize(NamedTuple):
    """In pixels."""

    width: int
    height: int


def png_size(file: Path) -> PictureSize | None:
    """How large the picture is that a worker has left, so that a page leaves room for it; None when there is none.

    It stands in the file's first bytes: signature, length and name of the first chunk, then width and height
    (https://www.w3.org/TR/png-3/, 5.2 and 11.2.1).
    """
    try:
        head = read_head(file, bytes_wanted=24)
    except (FileNotFoundError, OperatorError):
        return None
    if len(head) < 24 or not head.startswith(b"\x89PNG\r\n\x1a\n") or head[12:16] != b"IHDR":
        return None
    size = PictureSize(*struct.unpack(">II", head[16:24]))
    return size if size.width and size.height else None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the miners of a running task are together, by their own word."""

    miners: int
    heard: int
    fraction: float  # the mean of those that were heard


def progress_of(miners: Sequence[MinerResult]) -> Progress:
    """All of a task's miners in three numbers, which name nobody."""
    told = [miner.progress.fraction for miner in miners if miner.progress]
    return Progress(len(miners), len(told), sum(told) / len(told) if told else 0.0)


def for_everybody(task: TaskDetails, *, private: bool) -> TaskDetails:
    """What people may see of a task that is not theirs.

    Who trains in it is told when it has ended: until then rivals could disturb each other. What a failure says may quote a private task's
    data, so only its code is told; where rows come from is their owner's.
    """
    failure, note = task.failure, task.note
    if failure is not None and private:
        note = "The task has failed; its customer is told the reason"
        failure = failure.model_copy(update={"message": note})
    miners = tuple(miner.model_copy(update={"progress": None}) for miner in task.miners) if task.state.ended else ()
    data = task.data.model_copy(update={"sources": ()}) if task.data else None
    return task.model_copy(update={"failure": failure, "note": note, "miners": miners, "data": data})
