"""Bases that offers ask for: told at once when they are here, else fetched in the background while their offers are declined.

A fetch may take an hour, and a validator asks for an answer in seconds. So there is one fetch per name, in a thread of its own that
neither the pool of the event loop nor the end of the process waits for, and the next offer of the base finds what it left. A base that
only the offering validator has comes from its axon (given_bases.py), by a task of the loop.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field

from gradients.bases.bases import BaseInfo, BaseModels
from gradients.bases.continued import is_pinned, pinned
from gradients.errors import GradientsError, OutsideError
from gradients.log import get_logger
from miner.given_bases import Given, GivenBases

MOST_FETCHES = 2  # at a time; who offers more at once is told to come back
ANSWER_SECONDS = (
    1.0  # that an offer waits: enough for a base that is here; a validator waits little longer than for others
)

log = get_logger("bases")


@dataclass
class KnownBases:
    """Finds bases for offers."""

    models: BaseModels
    given: GivenBases | None = None  # None: nothing is taken from validators
    answer_seconds: float = ANSWER_SECONDS
    searches: dict[str, asyncio.Future[BaseInfo]] = field(
        default_factory=dict
    )  # until somebody has heard how they ended

    async def find(self, name: str, *, parameters: int, digest: str = "", validator: str = "") -> BaseInfo:
        """The base, which an offer says to have so many parameters: one that is far from it is not downloaded.

        Args:
            digest: what the offer says of it.
            validator: who has offered it, for a base that nobody else has.

        Raises OutsideError while it is being fetched, and as BaseModels.resolve does.
        """
        name = pinned(name, digest)
        given = Given(name, digest, parameters, validator)
        search = self.searches.get(name) or self._begin(name, parameters, given if is_pinned(name) else None)
        await asyncio.wait([search], timeout=self.answer_seconds)
        if not search.done():
            raise OutsideError("it is being fetched", code="being_fetched")
        self.searches.pop(name, None)
        return search.result()

    def _begin(self, name: str, parameters: int, given: Given | None) -> asyncio.Future[BaseInfo]:
        """Look for the base in a thread, or have the validator give it. Raises OutsideError while too many others are being fetched."""
        fetched = [
            each for each, search in self.searches.items() if not search.done() and not self.models.is_here(each)
        ]
        if len(fetched) >= MOST_FETCHES and not self.models.is_here(name):
            raise OutsideError(f"others are being fetched: {', '.join(fetched)}", code="being_fetched")
        if given is not None and self.given is not None and not self.models.is_here(name):
            return self._searching(name, asyncio.ensure_future(self._given(self.given, given)))
        found: Future[BaseInfo] = Future()

        def resolve() -> None:
            try:
                found.set_result(self.models.resolve(name, announced_parameters=parameters))
            except Exception as error:  # whoever asks for the base gets it
                found.set_exception(error)

        threading.Thread(target=resolve, name=f"base {name}", daemon=True).start()
        return self._searching(name, asyncio.wrap_future(found))

    def _searching(self, name: str, search: asyncio.Future[BaseInfo]) -> asyncio.Future[BaseInfo]:
        self.searches[name] = search
        search.add_done_callback(lambda ended: _tell(name, ended))
        return search

    async def _given(self, bases: GivenBases, given: Given) -> BaseInfo:
        await bases.fetch(given)
        return await asyncio.to_thread(self.models.resolve, given.name)


def _tell(name: str, search: asyncio.Future[BaseInfo]) -> None:
    """Log how a search ended; the next offer may come much later, or never."""
    if search.cancelled():
        return
    error = search.exception()
    if error is None:
        log.debug("base_found", base=name)
    elif isinstance(error, GradientsError):
        log.warning("base_not_found", base=name, code=error.code, problem=str(error))
    else:
        log.error("base_search_crashed", base=name, exc_info=error)
