"""Storage that btcli reads by name of things that this chain does not have: locks, delegates, child keys, swaps of keys.

It is declared, with the real chain's keys and types, and never written. On a chain that lacks an item the SDK fails, and then at times
waits for ever.
"""

from __future__ import annotations

from gradients.localchain.pallets.declare import Hasher, Key, Storage
from gradients.localchain.pallets.storage import ACCOUNT_BLAKE, NETUID, item, optional
from gradients.localchain.pallets.subtensor import PALLET
from gradients.localchain.pallets.subtensor_types import LockState
from gradients.localchain.scale.hints import ACCOUNT, U16, U32, U64, U128, Account, Hash

COLDKEY = Key(Hasher.TWOX_64_CONCAT, ACCOUNT)

ITEMS: tuple[Storage[object], ...] = (
    optional(PALLET, "Lock", LockState, ACCOUNT_BLAKE, NETUID, ACCOUNT_BLAKE),
    optional(PALLET, "DecayingLock", bool, ACCOUNT_BLAKE, NETUID),
    item(PALLET, "AccountFlags", U128, 0, ACCOUNT_BLAKE),
    optional(PALLET, "AutoStakeDestination", Account, ACCOUNT_BLAKE, NETUID),
    item(PALLET, "Delegates", U16, 11_796, ACCOUNT_BLAKE),  # the take of who has not said another: 18 %
    item(PALLET, "MinDelegateTake", U16, 0),
    item(PALLET, "MaxDelegateTake", U16, 11_796),
    item(PALLET, "ChildKeys", list[tuple[U64, Account]], [], ACCOUNT_BLAKE, NETUID),
    item(PALLET, "ParentKeys", list[tuple[U64, Account]], [], ACCOUNT_BLAKE, NETUID),
    optional(PALLET, "ColdkeySwapAnnouncements", tuple[U32, Hash], COLDKEY),
    optional(PALLET, "ColdkeySwapDisputes", U32, COLDKEY),
    item(PALLET, "RootStakeUnlockInterval", U64, 0),
)
