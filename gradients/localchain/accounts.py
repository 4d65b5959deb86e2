"""Balances and nonces of accounts."""

from __future__ import annotations

from dataclasses import replace

from gradients.localchain.pallets import storage
from gradients.localchain.state import Draft, View

EXISTENTIAL_DEPOSIT_RAO = 500


def free(state: View, account: bytes) -> int:
    """Free balance, rao."""
    return state.get(storage.ACCOUNT_INFO, account).data.free


def credit(state: Draft, account: bytes, rao: int) -> None:
    """Add to an account's balance."""
    _set_free(state, account, free(state, account) + rao)


def debit(state: Draft, account: bytes, rao: int) -> None:
    """Take from an account's balance, which the caller has checked to be enough."""
    _set_free(state, account, free(state, account) - rao)


def nonce(state: View, account: bytes) -> int:
    """How many transactions of the account stand in blocks."""
    return state.get(storage.ACCOUNT_INFO, account).nonce


def count_transaction(state: Draft, account: bytes) -> None:
    """Raise the account's nonce by one."""
    known = state.get(storage.ACCOUNT_INFO, account)
    state.put(storage.ACCOUNT_INFO, account, value=replace(known, nonce=known.nonce + 1))


def _set_free(state: Draft, account: bytes, rao: int) -> None:
    known = state.get(storage.ACCOUNT_INFO, account)
    state.put(storage.ACCOUNT_INFO, account, value=replace(known, providers=1, data=replace(known.data, free=rao)))
