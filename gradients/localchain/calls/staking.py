"""Staking and unstaking, one TAO for one alpha (subtensor: staking/stake_utils/stake_validation.rs)."""

from __future__ import annotations

from gradients.localchain import accounts, stake, subnets
from gradients.localchain.dispatch import Dispatch, require
from gradients.localchain.pallets import errors, events
from gradients.localchain.pallets import subtensor as st
from gradients.localchain.scale.hints import U16, U64, Account

ERRORS = errors.SUBTENSOR
MIN_STAKE_RAO = 2_000_000  # the chain's DefaultMinStake


def add_stake(call: Dispatch, hotkey: Account, netuid: U16, amount_staked: U64) -> None:
    """Turn the signer's TAO into alpha on a hotkey."""
    state = call.state
    require(state.get(st.NETWORKS_ADDED, netuid), ERRORS["SubnetNotExists"])
    require(netuid == stake.ROOT or state.get(st.SUBTOKEN_ENABLED, netuid), ERRORS["SubtokenDisabled"])
    require(amount_staked >= MIN_STAKE_RAO, ERRORS["AmountTooLow"])
    require(accounts.free(state, call.signer) >= amount_staked, ERRORS["NotEnoughBalanceToStake"])
    require(state.has(st.OWNER, hotkey), ERRORS["HotKeyAccountNotExists"])
    accounts.debit(state, call.signer, amount_staked)
    stake.add(state, hotkey=hotkey, coldkey=call.signer, netuid=netuid, rao=amount_staked)
    call.emit(events.SUBTENSOR["StakeAdded"], call.signer, hotkey, amount_staked, amount_staked, netuid, 0)


def add_stake_limit(
    call: Dispatch, hotkey: Account, netuid: U16, amount_staked: U64, limit_price: U64, allow_partial: bool
) -> None:
    """As `add_stake`, unless one alpha may cost less than the one TAO that it always costs here."""
    require(limit_price >= st.RAO_PER_TAO, ERRORS["SlippageTooHigh"])
    add_stake(call, hotkey, netuid, amount_staked)


def remove_stake(call: Dispatch, hotkey: Account, netuid: U16, amount_unstaked: U64) -> None:
    """Turn the signer's alpha on a hotkey into TAO."""
    state = call.state
    require(state.get(st.NETWORKS_ADDED, netuid), ERRORS["SubnetNotExists"])
    require(amount_unstaked > 0, ERRORS["AmountTooLow"])
    held = stake.position(state, hotkey=hotkey, coldkey=call.signer, netuid=netuid)
    require(held >= amount_unstaked, ERRORS["NotEnoughStakeToWithdraw"])
    leaves_dust = amount_unstaked < MIN_STAKE_RAO and amount_unstaked != held
    require(not leaves_dust, ERRORS["AmountTooLow"])
    require(state.has(st.OWNER, hotkey), ERRORS["HotKeyAccountNotExists"])
    stake.remove(state, hotkey=hotkey, coldkey=call.signer, netuid=netuid, rao=amount_unstaked)
    accounts.credit(state, call.signer, amount_unstaked)
    call.emit(events.SUBTENSOR["StakeRemoved"], call.signer, hotkey, amount_unstaked, amount_unstaked, netuid, 0)


def remove_stake_limit(
    call: Dispatch, hotkey: Account, netuid: U16, amount_unstaked: U64, limit_price: U64, allow_partial: bool
) -> None:
    """As `remove_stake`, unless one alpha has to bring more than the one TAO that it always brings here."""
    require(limit_price <= st.RAO_PER_TAO, ERRORS["SlippageTooHigh"])
    remove_stake(call, hotkey, netuid, amount_unstaked)


def unstake_all(call: Dispatch, hotkey: Account) -> None:
    """Turn all that the signer has on a hotkey into TAO, in every subnet."""
    positions = _positions(call, hotkey)
    require(bool(positions), ERRORS["AmountTooLow"])
    for netuid, held in positions.items():
        remove_stake(call, hotkey, netuid, held)


def unstake_all_alpha(call: Dispatch, hotkey: Account) -> None:
    """Turn all alpha that the signer has on a hotkey into TAO that is staked on root."""
    positions = _positions(call, hotkey)
    positions.pop(stake.ROOT, None)
    require(bool(positions), ERRORS["AmountTooLow"])
    for netuid, held in positions.items():
        remove_stake(call, hotkey, netuid, held)
    total = sum(positions.values())
    require(total >= MIN_STAKE_RAO, ERRORS["AmountTooLow"])
    add_stake(call, hotkey, stake.ROOT, total)


def _positions(call: Dispatch, hotkey: bytes) -> dict[int, int]:
    """What the signer has on a hotkey, by subnet. Refuses a hotkey that nobody has registered."""
    state = call.state
    require(state.has(st.OWNER, hotkey), ERRORS["HotKeyAccountNotExists"])
    held = {
        netuid: stake.position(state, hotkey=hotkey, coldkey=call.signer, netuid=netuid)
        for netuid in subnets.existing(state)
    }
    return {netuid: rao for netuid, rao in held.items() if rao}
