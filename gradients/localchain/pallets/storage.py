"""Storage of every pallet but subtensor's own. Items are read and written through `state`; defaults are the chain's."""

from __future__ import annotations

from typing import TypeVar

from gradients.localchain.pallets.declare import Hasher, Key, Storage
from gradients.localchain.pallets.substrate_types import AccountInfo
from gradients.localchain.pallets.subtensor_types import Pulse, Registration, UsageTracker
from gradients.localchain.scale.hints import ACCOUNT, U16, U32, U64, Account, BoundedBytes, Hash, Hint, scale
from gradients.localchain.scale.types import Integer

T = TypeVar("T")

NETUID = Key(Hasher.IDENTITY, Integer(2))
ACCOUNT_BLAKE = Key(Hasher.BLAKE2_128_CONCAT, ACCOUNT)
ACCOUNT_TWOX = Key(Hasher.TWOX_64_CONCAT, ACCOUNT)


def item(pallet: str, name: str, hint: Hint, default: T, *keys: Key) -> Storage[T]:
    """An item that reads as `default` where nothing was written."""
    return Storage(pallet, name, scale(hint), default, keys)


def optional(pallet: str, name: str, hint: Hint, *keys: Key) -> Storage[T | None]:
    """An item that reads as None where nothing was written."""
    return Storage(pallet, name, scale(hint), None, keys, optional=True)


ACCOUNT_INFO = item("System", "Account", AccountInfo, AccountInfo(), ACCOUNT_BLAKE)
NUMBER = item("System", "Number", U32, 0)
PARENT_HASH = item("System", "ParentHash", Hash, bytes(32))
BLOCK_HASH = item("System", "BlockHash", Hash, bytes(32), Key(Hasher.TWOX_64_CONCAT, Integer(4)))

NOW = item("Timestamp", "Now", U64, 0)  # milliseconds since the Unix epoch

TOTAL_ISSUANCE = item("Balances", "TotalIssuance", U64, 0)

COMMITMENT_OF: Storage[Registration | None] = optional(
    "Commitments", "CommitmentOf", Registration, NETUID, ACCOUNT_TWOX
)
LAST_COMMITMENT: Storage[int | None] = optional("Commitments", "LastCommitment", U32, NETUID, ACCOUNT_TWOX)
USED_SPACE_OF: Storage[UsageTracker | None] = optional("Commitments", "UsedSpaceOf", UsageTracker, NETUID, ACCOUNT_TWOX)
REVEALED_COMMITMENTS: Storage[list[tuple[bytes, int]] | None] = optional(
    "Commitments", "RevealedCommitments", list[tuple[bytes, U64]], NETUID, ACCOUNT_TWOX
)
TIMELOCKED_INDEX: Storage[list[tuple[int, bytes]]] = item(
    "Commitments", "TimelockedIndex", list[tuple[U16, Account]], []
)
MAX_SPACE = item("Commitments", "MaxSpace", U32, 3100)

NEXT_KEY: Storage[bytes | None] = optional("MevShield", "NextKey", BoundedBytes)

PULSES: Storage[Pulse | None] = optional("Drand", "Pulses", Pulse, Key(Hasher.BLAKE2_128_CONCAT, Integer(8)))
LAST_STORED_ROUND = item("Drand", "LastStoredRound", U64, 0)

SYSTEM_ITEMS = (ACCOUNT_INFO, NUMBER, PARENT_HASH, BLOCK_HASH)
COMMITMENTS_ITEMS = (
    COMMITMENT_OF,
    LAST_COMMITMENT,
    USED_SPACE_OF,
    REVEALED_COMMITMENTS,
    TIMELOCKED_INDEX,
    MAX_SPACE,
)
DRAND_ITEMS = (PULSES, LAST_STORED_ROUND)
