"""What a decided epoch looks like on chain: which row, when, and whether silence has lasted too long."""

from __future__ import annotations

import hashlib

from gradients.chain.gateway import LIFETIME_BLOCKS
from gradients.domain.chain import Metagraph
from gradients.domain.json import JsonObject
from gradients.domain.task import Hotkey
from gradients.scoring.limits import Limits, Row

CLOSING_BLOCKS = 3  # no calls in the last blocks of an epoch
SHORTEST_LIFETIME_BLOCKS = 8


def record_of(row: Row, limits: Limits, *, version_key: int) -> JsonObject:
    """What goes to the chain, as the ledger keeps it: uids and u16 values in the order in which they are sent, and why they are so."""
    return {
        "uids": list(row.values),
        "values": list(row.values.values()),
        "limits": {"min_allowed_weights": limits.fewest, "max_weights_limit": limits.largest},
        "changes": row.changes(),
        "version_key": version_key,
    }


def due_block(metagraph: Metagraph, hotkey: Hotkey, *, spread: float) -> int:
    """When in this epoch the validator sends: one of the first blocks, up to the part `spread` of the epoch, by a hash.

    Validators that all sent in the same block would crowd it, and tell that they run the same code.
    """
    window = int((closing_block(metagraph) - metagraph.last_epoch_block) * spread)
    seed = hashlib.sha256(f"{metagraph.netuid}/{metagraph.last_epoch_block}/{hotkey}".encode()).digest()
    return metagraph.last_epoch_block + int.from_bytes(seed[:8], "big") % (window + 1)


def closing_block(metagraph: Metagraph) -> int:
    """From here on a call could land in the next epoch, which has its own."""
    margin = min(CLOSING_BLOCKS, metagraph.tempo_blocks // 4)
    return metagraph.last_epoch_block + metagraph.tempo_blocks - margin


def lifetime_of(metagraph: Metagraph) -> int:
    """For how many blocks a call may be included, a power of two: a lost one can be sent again in the same epoch."""
    most = max(SHORTEST_LIFETIME_BLOCKS, metagraph.tempo_blocks // 3)
    return min(LIFETIME_BLOCKS, 1 << (most.bit_length() - 1))


def must_speak(metagraph: Metagraph, hotkey: Hotkey) -> bool:
    """Whether a validator that sends nothing in this epoch could count as inactive before it can send in the next one."""
    ours = metagraph.by_hotkey(hotkey)
    last_update = ours.last_update_block if ours else 0
    return metagraph.last_epoch_block + 2 * metagraph.tempo_blocks > last_update + metagraph.activity_cutoff_blocks
