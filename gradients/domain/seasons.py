"""Keys of fingerprints, as a validator derives them and as an auditor does once a season is over: validator/measuring/sketches.py."""

from __future__ import annotations

import hashlib
import hmac

SEASON_BLOCKS = 648_000  # 90 days of blocks of 12 seconds


def season_of(block: int) -> int:
    """The number of the season in which a block falls: a task's by its deadline block."""
    return block // SEASON_BLOCKS


def key_of(season_secret: str, base_digest: str) -> str:
    """The key of a base by the secret of its season, as hex."""
    return hmac.new(bytes.fromhex(season_secret), base_digest.encode(), hashlib.sha256).hexdigest()


def commitment_of(season_secret: str) -> str:
    """What binds a validator to a season's secret before it is open."""
    return hashlib.sha256(bytes.fromhex(season_secret)).hexdigest()
