"""A daemon's loops: whatever goes wrong in one turn is told, and costs a rest and nothing more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn

from gradients.errors import GradientsError
from gradients.log import get_logger

REST_SECONDS = 5.0

log = get_logger("loops")


async def run_forever(
    turn: Callable[[], Awaitable[object]], *, name: str, rest_seconds: float = REST_SECONDS
) -> NoReturn:
    """Take turn after turn until cancelled."""
    while True:
        try:
            await turn()
        except GradientsError as error:
            log.warning("turn_failed", loop=name, code=error.code, problem=str(error))
        except Exception:  # the daemon's outer loop: no other part of it is to end for this
            log.exception("turn_crashed", loop=name)
        else:
            continue
        await asyncio.sleep(rest_seconds)
