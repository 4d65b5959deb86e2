"""Whether to take a task. Pure: the same offer in the same situation gets the same answer."""

from __future__ import annotations

from dataclasses import dataclass

from gradients.axon.messages import Offer, OfferAnswer, Start
from miner.memory import GIB
from miner.plan import seconds_to_train
from miner.settings import MinerSettings

WINDOW_SLACK_HOURS = 0.1  # by which a task's blocks may exceed its hours: block times waver


@dataclass(frozen=True, slots=True)
class Situation:
    """What the decision depends on beside the offer."""

    running: int  # tasks that are being trained
    base_digest: str | None  # of the offered base on this machine; None when it is not known here
    base_problem: str = ""  # why it is not
    fetching: bool = False  # whether it is on its way
    needed_bytes: int = 0  # memory that training this base takes
    memory_bytes: int = 0  # memory that one task may take
    needed_disk_bytes: int = 0  # that the result takes at the very least
    free_disk_bytes: int = 0
    has_sandbox: bool = True
    missing_packages: tuple[str, ...] = ()  # that tasks of the type need


def choose(offer: Offer, situation: Situation, settings: MinerSettings, *, recipe: str) -> OfferAnswer:
    """Yes with the recipe's name, or no with a reason for the validator's operator."""
    reason = _against(offer, situation, settings)
    fetching = bool(reason) and situation.fetching
    return OfferAnswer(accepted=not reason, reason=reason[:500], recipe="" if reason else recipe, fetching=fetching)


def against_start(start: Start, settings: MinerSettings, *, block: int, block_seconds: float) -> str:
    """The first reason not to begin a task whose offer was fine, or nothing.

    Args:
        block: the newest one.
        block_seconds: the chain's own.
    """
    left = seconds_to_train(
        block=block,
        deadline_block=start.deadline_block,
        block_seconds=block_seconds,
        keep_seconds=settings.keep_seconds,
    )
    if left <= 0:
        return f"no time is left before block {start.deadline_block}"
    hours = (start.deadline_block - block) * block_seconds / 3600.0
    if hours > start.offer.hours + WINDOW_SLACK_HOURS:
        return f"block {start.deadline_block} is {hours:.1f} hours away, the offer said {start.offer.hours:g}"
    if start.reveal_until_block < start.deadline_block:
        return f"the reveal ends at block {start.reveal_until_block}, before the deadline"
    if start.train.size_bytes > settings.max_data_bytes:
        return f"the train rows have {start.train.size_bytes:,} bytes, more than the {settings.max_data_bytes:,} that are taken here"
    return ""


def _against(offer: Offer, situation: Situation, settings: MinerSettings) -> str:
    """The first reason to decline, or nothing."""
    if not settings.accepts(offer.type):
        return f"{offer.type} tasks are not taken here"
    if situation.missing_packages:
        return f"{offer.type} tasks need {', '.join(situation.missing_packages)}, not installed here"
    if offer.needs_sandbox and not situation.has_sandbox:
        return f"this {offer.type} task runs programs, and there is no bubblewrap here"
    if offer.hours > settings.max_hours:
        return f"{offer.hours:g} hours are more than the {settings.max_hours:g} that are taken here"
    if situation.running >= settings.concurrent_tasks:
        return f"{situation.running} tasks are being trained already"
    if situation.base_digest is None:
        return f"the base {offer.base} cannot be had here: {situation.base_problem}"
    if situation.base_digest != offer.base_digest:
        return f"the base {offer.base} is another one here than the validator's"
    if situation.needed_bytes > situation.memory_bytes:
        needed, there = situation.needed_bytes / GIB, situation.memory_bytes / GIB
        return f"training {offer.base} takes about {needed:.1f} GiB of memory, and a task may take {there:.1f} here"
    if situation.needed_disk_bytes > situation.free_disk_bytes:
        needed, there = situation.needed_disk_bytes / GIB, situation.free_disk_bytes / GIB
        return f"a model of {offer.base} takes {needed:.1f} GiB of disk at the least, and {there:.1f} are free here"
    return ""
