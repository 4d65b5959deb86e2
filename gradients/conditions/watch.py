"""Taking looks again and again while a daemon runs: each by itself, so that one that hangs holds up no other.

A look that needs nothing but the metagraph is taken with each one that is read, others when they have rested. What goes wrong in a look is
told once, and leaves what it found before: a look decides by itself what of it is a finding.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from gradients.chain.view import ChainView
from gradients.conditions.state import Conditions
from gradients.doctor.findings import Finding
from gradients.errors import GradientsError
from gradients.log import get_logger

log = get_logger("conditions")


@dataclass(frozen=True, slots=True)
class Look:
    """Something to look at."""

    name: str
    take: Callable[[], Awaitable[Sequence[Finding]]]
    rest_seconds: float  # at most between two
    with_metagraph: bool = False  # taken with each metagraph that is read, too
    patience_seconds: float | None = None  # a look that takes longer finds its subject missing


@dataclass(frozen=True, slots=True)
class Watch:
    """Every look of a daemon, until it ends."""

    view: ChainView
    conditions: Conditions
    looks: Sequence[Look]
    problems: dict[str, str] = field(default_factory=dict)  # of looks that failed the last time

    async def run(self) -> None:
        """Take every look, and again, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for look in self.looks:
                group.create_task(self._repeat(look))

    async def _repeat(self, look: Look) -> NoReturn:
        while True:
            readings = self.view.readings
            await self._take(look)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(look.rest_seconds):
                    if look.with_metagraph:
                        await self.view.wait_for_reading(readings + 1)
                    else:
                        await asyncio.Event().wait()

    async def _take(self, look: Look) -> None:
        taking = asyncio.ensure_future(look.take())
        try:
            done, _ = await asyncio.wait({taking}, timeout=look.patience_seconds)
            if not done:
                found = f"looking at it has not ended within {look.patience_seconds:g} s"
                advice = "see whether its disk or its network still answers"
                self.conditions.update(look.name, [Finding(look.name, "missing", found, advice)])
            self.conditions.update(look.name, await taking)
            self.problems.pop(look.name, None)
        except GradientsError as error:
            self._failed(look, str(error), code=error.code)
        except Exception as error:  # the loop's outermost: a look that fails must not end the daemon
            self._failed(look, f"{type(error).__name__}: {error}", code="internal")
        finally:
            taking.cancel()

    def _failed(self, look: Look, problem: str, *, code: str) -> None:
        """Say that a look failed, when it had not the time before."""
        if look.name not in self.problems:
            log.warning("look_failed", look=look.name, code=code, problem=problem)
        self.problems[look.name] = problem
