"""Bases that only a validator has: the winner of another task, which it has merged. They come from its axon, by digest, into the cache.

Covers: what a hostile validator could send. The digest of the offer binds the names and digests of all files, and each file is compared
with its own; names are plain ones of files that hold data; sizes fit the number of weights that the offer says; the disk keeps some room.
What a base computes is not covered, nor is it for one of a hub.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from gradients.axon.client import AxonClient, Peer
from gradients.axon.messages import BaseListing
from gradients.bases.bases import digest_of
from gradients.bases.cache import drop, held
from gradients.bases.continued import is_pinned
from gradients.bases.hub import KEPT_FREE_BYTES, MOST_BYTES_PER_PARAMETER, SMALL_FILES_BYTES
from gradients.chain.view import ChainView
from gradients.errors import DiskFull, MinerError, OutsideError, PeerUnreachable
from gradients.files.whole import make_folder
from gradients.log import get_logger
from gradients.repo.fetch import fetch_files
from gradients.repo.manifest import RepoFile
from gradients.repo.materialise import place_files
from gradients.repo.store import ContentStore

UNUSED_SECONDS = 24 * 3600.0  # that one stays when no task needs it: the offer may come again

log = get_logger("bases")


@dataclass(frozen=True, slots=True)
class Given:
    """A base as an offer tells it."""

    name: str  # with its digest, see gradients/bases/continued.py
    digest: str
    parameters: int
    validator: str  # hotkey of who has it


@dataclass(frozen=True, slots=True)
class GivenBases:
    """Fetches them into the cache."""

    client: AxonClient
    view: ChainView
    cache: Path

    async def fetch(self, given: Given) -> None:
        """Put the base into the cache; a fetch that broke off is gone on with.

        Raises OutsideError when it cannot be had, or is not what the offer says, and DiskFull.
        """
        neuron = self.view.metagraph().by_hotkey(given.validator)
        if neuron is None or neuron.axon is None:
            raise PeerUnreachable(f"The validator {given.validator} serves no axon")
        peer = Peer(neuron.hotkey, neuron.axon)
        try:
            listing = await self.client.get(peer, f"/v1/bases/{given.digest}", answer=BaseListing)
            files = self._checked(given, listing)
            store = ContentStore(self.cache / f".{given.name}.part")
            source = hashlib.sha256(given.validator.encode()).hexdigest()[:16]
            named = {file.sha256: file for file in files.values()}
            await fetch_files(_Axon(self.client, peer), named, store, source=source)
        except MinerError as error:  # the words for a peer's fault; here the peer is a validator
            raise OutsideError(
                f"{given.validator} sends another base: {error.message}", code="base_not_given"
            ) from error
        await asyncio.to_thread(self._place, given, store, {path: file.sha256 for path, file in files.items()})
        log.info("base_given", base=given.name, validator=given.validator)

    def _checked(self, given: Given, listing: BaseListing) -> dict[str, RepoFile]:
        """The files. Raises OutsideError for a listing that is not that of the offered base, and DiskFull."""
        if digest_of({path: blob.sha256 for path, blob in listing.files.items()}) != given.digest:
            raise OutsideError("The validator lists the files of another base than it offers", code="base_not_given")
        size = sum(blob.size_bytes for blob in listing.files.values())
        most = given.parameters * MOST_BYTES_PER_PARAMETER + SMALL_FILES_BYTES
        if size > most:
            problem = f"The base has {size:,} bytes; one of {given.parameters:,} weights has {most:,} at most"
            raise OutsideError(problem, code="base_not_given")
        make_folder(self.cache)
        free = shutil.disk_usage(self.cache).free
        if size + KEPT_FREE_BYTES > free:
            raise DiskFull(f"It has {size:,} bytes, and {free:,} are free", fix="Free some space")
        return {path: RepoFile(sha256=each.sha256, size_bytes=each.size_bytes) for path, each in listing.files.items()}

    def _place(self, given: Given, store: ContentStore, digests: dict[str, str]) -> None:
        """Under their names at once, and nowhere else."""
        place_files(store, digests, self.cache / given.name)
        shutil.rmtree(store.root, ignore_errors=True)


def sweep_given(cache: Path, *, needed: Iterable[str], now: float | None = None) -> list[str]:
    """Take out of the cache what validators have given and nobody has needed for a day; the names.

    Args:
        needed: names of bases that stay.
    """
    oldest = (time.time() if now is None else now) - UNUSED_SECONDS
    unused = [each for each in held(cache) if is_pinned(each.name) and each.name not in set(needed)]
    swept = [each for each in unused if each.fetched_at < oldest]
    for each in swept:
        drop(each)
    return [each.name for each in swept]


@dataclass(frozen=True, slots=True)
class _Axon:
    """A validator's blobs as the fetcher reads them: by digest."""

    client: AxonClient
    peer: Peer

    def read(self, name: str, offset: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return self.client.stream(self.peer, f"/v1/data/{name}", offset=offset)
