"""Every random choice about a task, drawn from its secret salt: nobody else can foresee one, and a step that runs again draws the same.

The salt is fixed with the task, so the validator itself could foresee them all. What decides about scores mixes in the hash of the
deadline block, which nobody knows before.
"""

from __future__ import annotations

import hashlib
import hmac


def seed(salt: bytes, *purpose: str) -> int:
    """A 63-bit seed for one purpose, such as ("start", hotkey) or ("measure", block_hash)."""
    digest = hmac.new(salt, "\x00".join(purpose).encode(), hashlib.sha256).digest()
    return int.from_bytes(digest[:8], "big") >> 1
