"""Whether to take a task. Pure: the same offer in the same situation gets the same answer."""

from __future__ import annotations

from dataclasses import dataclass

from gradients.axon.messages import Offer, OfferAnswer
from miner.settings import MinerSettings


@dataclass(frozen=True, slots=True)
class Situation:
    """What the decision depends on beside the offer."""

    running: int  # tasks that are being trained
    base_digest: str | None  # of the offered base on this machine; None when it is not known here
    base_problem: str = ""  # why it is not


def choose(offer: Offer, situation: Situation, settings: MinerSettings, *, recipe: str) -> OfferAnswer:
    """Yes with the recipe's name, or no with a reason for the validator's operator."""
    reason = _against(offer, situation, settings)
    return OfferAnswer(accepted=not reason, reason=reason[:500], recipe="" if reason else recipe)


def _against(offer: Offer, situation: Situation, settings: MinerSettings) -> str:
    """The first reason to decline, or nothing."""
    if offer.type not in settings.task_types:
        return f"{offer.type} tasks are not taken here"
    if offer.hours > settings.max_hours:
        return f"{offer.hours:g} hours are more than the {settings.max_hours:g} that are taken here"
    if situation.running >= settings.concurrent_tasks:
        return f"{situation.running} tasks are being trained already"
    if situation.base_digest is None:
        return f"the base {offer.base} cannot be had here: {situation.base_problem}"
    if situation.base_digest != offer.base_digest:
        return f"the base {offer.base} is another one here than the validator's"
    return ""
