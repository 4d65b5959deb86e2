"""Every random choice about a task, drawn from its secret salt: nobody can foresee one, and a step that runs again draws the same."""

from __future__ import annotations

import hashlib
import hmac


def seed(salt: bytes, *purpose: str) -> int:
    """A 63-bit seed for one purpose, such as ("start", hotkey) or ("measure",)."""
    digest = hmac.new(salt, "\x00".join(purpose).encode(), hashlib.sha256).digest()
    return int.from_bytes(digest[:8], "big") >> 1
