"""From shares of uids to the row of u16 values that a subnet takes, with every change that its limits force on record.

The chain scales a row so that its largest value is 65535, wants at least so many uids in it, and none above a part of the sum; a
row of this module passes all that unchanged. What the limits force, in this order:

- **Clipping.** What is above the maximum goes to the others in proportion, again and again, until nobody is above it.
- **Spreading.** Where the paid uids cannot hold the whole even at the maximum each, the rest goes to all reserves in equal parts: the more
  share it, the less it pays to be one of them. The owner is the last resort, since what goes to it is burned, and burning costs the subnet.
- **Padding.** Where uids are missing, reserves get the smallest value that the chain keeps, the first ones first, the owner last.

A validator's own uid is left out: the chain ignores what a validator gives itself, but it would count in the sum. The owner alone is free
to burn on its own uid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from gradients.domain.chain import Metagraph, Neuron
from gradients.domain.json import JsonObject
from gradients.domain.task import Hotkey

U16_MAX = 65535
SMALLEST = 1  # that the chain keeps


@dataclass(frozen=True, slots=True)
class Limits:
    """What a subnet takes."""

    fewest: int  # uids in a row
    largest: int  # 65535ths of a row's sum that one uid may have


@dataclass(frozen=True, slots=True)
class Row:
    """What goes to the chain, and what made it differ from the shares.

    Uids rise; those of `padded` and `spread` stand in the order of the reserves.
    """

    values: Mapping[int, int]  # uid -> 1..65535; the largest is 65535
    left_out: tuple[int, ...] = ()  # our own uid, where it had a share
    burned: float = 0.0  # what the owner's uid was given by the burn share, 0..1 of the whole
    dropped: tuple[int, ...] = ()  # shares below half of 1/65535 of the largest
    clipped: tuple[int, ...] = ()  # had more than the maximum
    spread: tuple[int, ...] = ()  # got equal parts of what the paid ones may not have
    padded: tuple[int, ...] = ()  # got the smallest value, for the count

    def changes(self) -> JsonObject:
        """What was changed; empty when the shares went as they are."""
        lists = {name: getattr(self, name) for name in ("left_out", "dropped", "clipped", "spread", "padded")}
        burned = {"burned": self.burned} if self.burned else {}
        return {**burned, **{name: list(uids) for name, uids in lists.items() if uids}}


@dataclass(frozen=True, slots=True)
class Unfit:
    """No row can be made; `demand` says in one sentence what is wanted and missing."""

    demand: str


def limits_of(metagraph: Metagraph) -> Limits:
    """What the subnet takes."""
    return Limits(metagraph.min_allowed_weights, round(metagraph.max_weight_limit * U16_MAX))


def row_for(shares: Mapping[Hotkey, float], metagraph: Metagraph, *, hotkey: Hotkey, burn_share: float) -> Row | Unfit:
    """The row that the validator `hotkey` sends for the shares of those that are registered now."""
    uids = {neuron.hotkey: neuron.uid for neuron in metagraph.neurons}
    return fit(
        {uids[miner]: share for miner, share in shares.items() if miner in uids},
        limits_of(metagraph),
        own_uid=uids.get(hotkey),
        owner_uid=uids.get(metagraph.owner_hotkey),
        burn_share=burn_share,
        reserves=[neuron.uid for neuron in sorted(metagraph.neurons, key=_seniority)],
    )


def fit(
    shares: Mapping[int, float],
    limits: Limits,
    *,
    own_uid: int | None,
    owner_uid: int | None,
    burn_share: float = 0.0,
    reserves: Sequence[int] = (),
) -> Row | Unfit:
    """The row for the shares, or why there is none.

    Args:
        shares: uid -> share, any scale, >= 0.
        burn_share: part of the whole that goes to the owner's uid, 0..1; nothing where the owner has none.
        reserves: registered uids for spreading and padding, the best first; our own, the owner's and paid ones among them are passed over.

    Raises ValueError for a share that is negative or not finite, and for a burn share outside of 0..1.
    """
    if not all(math.isfinite(share) and share >= 0 for share in shares.values()) or not 0 <= burn_share <= 1:
        raise ValueError("Shares are finite and not negative, and a burn share is between 0 and 1")
    burned = burn_share if owner_uid is not None else 0.0
    wanted = _wanted(shares, own_uid=own_uid, owner_uid=owner_uid, burned=burned)
    if not wanted:
        return Unfit("Nobody besides our own uid has a share")
    passed_over = {own_uid, owner_uid, *wanted}
    waiting = [uid for uid in dict.fromkeys(reserves) if uid not in passed_over]
    last = [owner_uid] if owner_uid is not None and owner_uid not in {own_uid, *wanted} else []
    if demand := _unmet(limits, available=len(wanted) + len(waiting) + len(last)):
        return Unfit(demand)
    left_out = (own_uid,) if own_uid is not None and shares.get(own_uid) and own_uid not in wanted else ()
    needed = math.ceil(U16_MAX / limits.largest)
    if len(wanted) < needed:
        takers = waiting if len(wanted) + len(waiting) >= needed else [*waiting, *last]
        values = _spread(wanted, takers, limits)
        clipped, spread = tuple(sorted(wanted)), tuple(takers)
    else:
        values, clipped = _clipped(wanted, limits)
        spread = ()
    small = sorted((uid for uid in wanted if not values[uid]), key=lambda uid: (-wanted[uid], uid))
    missing = max(0, limits.fewest - sum(map(bool, values.values())))
    padded = [*small, *(uid for uid in (*waiting, *last) if uid not in spread)][:missing]
    values |= dict.fromkeys(padded, SMALLEST)
    return Row(
        values={uid: value for uid, value in sorted(values.items()) if value},
        left_out=left_out,
        burned=burned,
        dropped=tuple(sorted(set(small).difference(padded))),
        clipped=clipped,
        spread=spread,
        padded=tuple(padded),
    )


def within(values: Mapping[int, int], limits: Limits) -> bool:
    """Whether the chain takes the row, by its own whole-number comparison."""
    heaviest_is_light = max(values.values(), default=0) * U16_MAX <= limits.largest * sum(values.values())
    return len(values) >= limits.fewest and heaviest_is_light


def _wanted(
    shares: Mapping[int, float], *, own_uid: int | None, owner_uid: int | None, burned: float
) -> dict[int, Fraction]:
    """Who is to get what part of the whole, our own uid left out and the burned part added; exact, and empty when nobody has a share."""
    earned = {uid: Fraction(share) for uid, share in shares.items() if share > 0 and uid != own_uid}
    whole, kept = sum(earned.values(), Fraction(0)), 1 - Fraction(burned)
    if kept and not earned:
        return {}
    wanted = {uid: share / whole * kept for uid, share in earned.items() if kept}
    if burned and owner_uid is not None:
        wanted[owner_uid] = wanted.get(owner_uid, Fraction(0)) + Fraction(burned)
    return wanted


def _unmet(limits: Limits, *, available: int) -> str:
    """What of the limits cannot be met with so many uids; empty when all can."""
    there_are = f"and there are {available} besides our own"
    if limits.fewest > available:
        return f"The subnet demands weights on {limits.fewest} uids or more, {there_are}"
    if limits.largest * available < U16_MAX:
        return f"The subnet lets no uid have more than {limits.largest / U16_MAX:.2%} of the weights, {there_are}"
    return ""


def _spread(wanted: Mapping[int, Fraction], takers: Sequence[int], limits: Limits) -> dict[int, int]:
    """The maximum for everybody who is paid, and what is left of the smallest sum that allows it in equal parts for the takers."""
    smallest_sum = math.ceil(Fraction(U16_MAX * U16_MAX, limits.largest))
    each = math.ceil(Fraction(smallest_sum - len(wanted) * U16_MAX, len(takers)))
    return {**dict.fromkeys(wanted, U16_MAX), **dict.fromkeys(takers, each)}


def _clipped(wanted: Mapping[int, Fraction], limits: Limits) -> tuple[dict[int, int], tuple[int, ...]]:
    """Values of shares that fit once the largest are cut, and whose were. There are enough uids for it."""
    limit, falling, rest = Fraction(limits.largest, U16_MAX), sorted(wanted.values(), reverse=True), Fraction(1)
    cut = 0  # so many shares are above the maximum; with enough uids the others hold it before it would be everybody
    while (most := limit * rest / (1 - cut * limit)) < falling[cut]:
        rest -= falling[cut]
        cut += 1
    top = most if cut else falling[0]
    parts = {uid: min(share, top) / top * U16_MAX for uid, share in wanted.items()}
    values = {uid: round(part) for uid, part in parts.items()}
    if not within(values, Limits(0, limits.largest)):  # rounding down took what the sum needs
        values = {uid: math.ceil(part) for uid, part in parts.items()}
    return values, tuple(sorted(uid for uid, share in wanted.items() if share > top))


def _seniority(neuron: Neuron) -> tuple[float, bool, bool, int, int]:
    """The order of reserves: by what validators together have paid them, then miners that serve, then by seniority."""
    return (
        -neuron.incentive,
        neuron.validator_permit,
        neuron.axon is None,
        neuron.registered_at_block,
        neuron.uid,
    )
