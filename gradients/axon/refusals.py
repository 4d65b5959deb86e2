"""What an axon's operator hears of requests that were refused at the door: of each caller and code once in ten minutes.

Covers: a log that no caller can fill, and a clock that is off, which nobody else would tell this operator. Does not cover who it was: many
refusals come before the signature is checked, so whoever knows a hotkey can make it appear here.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from gradients.axon.auth import ALLOWED_SKEW_SECONDS, HEADER_HOTKEY, HEADER_NONCE, MAX_AGE_SECONDS
from gradients.axon.limits import RateLimiter
from gradients.errors import GradientsError
from gradients.log import get_logger
from gradients.texts import harmless

QUIET_SECONDS = 600.0
MOST_KNOWN = 10_000  # callers and codes
LINES_PER_MINUTE = 10  # of all callers together: anybody may use the names of those who are registered
STRANGER = "not_registered"  # of whom there may be any number
STALE = "StaleRequest"

log = get_logger("axon")


@dataclass
class RefusalLog:
    """Remembers what was told."""

    _told: OrderedDict[tuple[str, str], float] = field(default_factory=OrderedDict)
    _lines: RateLimiter = field(default_factory=lambda: RateLimiter(LINES_PER_MINUTE))

    def tell(self, error: GradientsError, headers: Mapping[str, str], *, now: float) -> None:
        """Log a refusal, unless the same was told a short time ago; `now` in seconds of a clock that never goes back."""
        key = (harmless(headers.get(HEADER_HOTKEY, ""), most=64), error.code)
        if error.code == STRANGER or now - self._told.get(key, -QUIET_SECONDS) < QUIET_SECONDS:
            return
        if not self._lines.allows("", now=now):
            return
        self._told[key] = now
        self._told.move_to_end(key)
        if len(self._told) > MOST_KNOWN:
            self._told.popitem(last=False)
        late = _seconds_late(headers) if error.code == STALE else None
        if late is None:
            log.info("request_refused", caller=key[0], code=error.code, problem=harmless(error.message, most=200))
        else:
            how = f"{late:,.0f} s old" if late > 0 else f"{-late:,.0f} s ahead of this machine's clock"
            fix = "Set this machine's clock if other callers look so too: timedatectl set-ntp true"
            allowed = f"they may be {MAX_AGE_SECONDS:g} s old, or {ALLOWED_SKEW_SECONDS:g} s ahead"
            log.warning(
                "clocks_differ", caller=key[0], seconds=round(late), problem=f"Its requests are {how}; {allowed}. {fix}"
            )


def _seconds_late(headers: Mapping[str, str]) -> float | None:
    """How old a request is by its nonce, which is the time at its sender; negative for one from the future."""
    nonce = headers.get(HEADER_NONCE, "")
    return (time.time_ns() - int(nonce)) / 1e9 if nonce.isdecimal() and len(nonce) < 24 else None
