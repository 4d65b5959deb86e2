"""Calls that change nothing: a remark, and the block's own time stamp."""

from __future__ import annotations

from gradients.localchain.dispatch import BAD_ORIGIN, Dispatch, RefusedError
from gradients.localchain.scale.hints import CompactU64


def remark(call: Dispatch, remark: bytes) -> None:
    """Say something in a block."""


def set_time(call: Dispatch, now: CompactU64) -> None:
    """Refused: only the block's author sets the time."""
    raise RefusedError(BAD_ORIGIN)
