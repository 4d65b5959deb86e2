"""Stake positions of coldkeys."""

from __future__ import annotations

from gradients.localchain import stake, subnets
from gradients.localchain.pallets import subtensor as st
from gradients.localchain.pallets.apis import StakeAvailability, StakeInfo
from gradients.localchain.state import View


def position(state: View, hotkey: bytes, coldkey: bytes, netuid: int) -> StakeInfo:
    """One position, also when nothing is on it."""
    return StakeInfo(
        hotkey=hotkey,
        coldkey=coldkey,
        netuid=netuid,
        stake=stake.position(state, hotkey=hotkey, coldkey=coldkey, netuid=netuid),
        emission=state.get(st.ALPHA_DIVIDENDS, netuid, hotkey),
        is_registered=state.has(st.UIDS, netuid, hotkey),
    )


def of_coldkey(state: View, coldkey: bytes) -> list[StakeInfo]:
    """All positions of a coldkey that hold something."""
    hotkeys = state.get(st.STAKING_HOTKEYS, coldkey)
    rows = [position(state, hotkey, coldkey, netuid) for netuid in subnets.existing(state) for hotkey in hotkeys]
    return [row for row in rows if row.stake]


def of_coldkeys(state: View, coldkeys: list[bytes]) -> list[tuple[bytes, list[StakeInfo]]]:
    """The same for several coldkeys."""
    return [(coldkey, of_coldkey(state, coldkey)) for coldkey in coldkeys]


def availability(
    state: View, coldkeys: list[bytes], netuids: list[int] | None
) -> list[tuple[bytes, list[tuple[int, StakeAvailability]]]]:
    """What each coldkey could take out of each subnet; subnets where it has nothing are left out."""
    asked = subnets.existing(state) if netuids is None else sorted(set(netuids))
    answer = []
    for coldkey in sorted(coldkeys):
        totals = dict.fromkeys(asked, 0)
        for row in of_coldkey(state, coldkey):
            if row.netuid in totals:
                totals[row.netuid] += row.stake
        held = [(netuid, StakeAvailability(total, 0, total)) for netuid, total in totals.items() if total]
        answer.append((coldkey, held))
    return answer
