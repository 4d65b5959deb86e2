"""Transfers of TAO (Substrate's balances pallet)."""

from __future__ import annotations

from gradients.localchain import accounts
from gradients.localchain.dispatch import BELOW_MINIMUM, FUNDS_UNAVAILABLE, NOT_EXPENDABLE, Dispatch, require
from gradients.localchain.pallets import events
from gradients.localchain.pallets.substrate_types import Address
from gradients.localchain.scale.hints import CompactU64


def transfer_allow_death(call: Dispatch, dest: Address, value: CompactU64) -> None:
    """Send TAO; the sender may be left with nothing."""
    _transfer(call, bytes(dest.parts[0]), value)


def transfer_keep_alive(call: Dispatch, dest: Address, value: CompactU64) -> None:
    """Send TAO, unless the sender would be left with less than the existential deposit."""
    left = accounts.free(call.state, call.signer) - value
    require(left < 0 or left >= accounts.EXISTENTIAL_DEPOSIT_RAO, NOT_EXPENDABLE)
    _transfer(call, bytes(dest.parts[0]), value)


def transfer_all(call: Dispatch, dest: Address, keep_alive: bool) -> None:
    """Send everything, or everything but the existential deposit."""
    kept = accounts.EXISTENTIAL_DEPOSIT_RAO if keep_alive else 0
    _transfer(call, bytes(dest.parts[0]), max(accounts.free(call.state, call.signer) - kept, 0))


def _transfer(call: Dispatch, receiver: bytes, rao: int) -> None:
    require(accounts.free(call.state, call.signer) >= rao, FUNDS_UNAVAILABLE)
    require(accounts.free(call.state, receiver) + rao >= accounts.EXISTENTIAL_DEPOSIT_RAO, BELOW_MINIMUM)
    accounts.debit(call.state, call.signer, rao)
    accounts.credit(call.state, receiver, rao)
    call.emit(events.BALANCES["Transfer"], call.signer, receiver, rao)
