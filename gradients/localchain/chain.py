"""The chain: its newest block, the way back from it, and the transactions and changes that wait for the next one."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from gradients.clock import Clock
from gradients.localchain import accounts, blocks, genesis
from gradients.localchain.author import Author, Built, event_log_key
from gradients.localchain.blocks import Block, Header
from gradients.localchain.catalogue import TRANSACTION_VERSION, Runtime
from gradients.localchain.extrinsics import Extrinsic, SigningContext, is_signed_by_its_signer, parse
from gradients.localchain.hashing import blake2_256
from gradients.localchain.pallets import storage
from gradients.localchain.pool import Pool, PoolRefusal, RefusedByPoolError
from gradients.localchain.settings import LocalChainSettings
from gradients.localchain.shield import Shield
from gradients.localchain.state import Draft, State, View
from gradients.localchain.store import Saved, Store

T = TypeVar("T")

SEED_BYTES = 32
NO_PARENT = bytes(32)


class UnknownBlockError(Exception):
    """No block has this hash."""


@dataclass(slots=True)
class _Change(Generic[T]):
    """A change of the operator's, and who waits for it."""

    change: Callable[[Draft, int], T]
    done: asyncio.Future[T]
    outcome: T | ValueError | None = None

    def apply(self, draft: Draft, number: int) -> None:
        saved = draft.savepoint()
        try:
            self.outcome = self.change(draft, number)
        except ValueError as error:
            draft.rollback(saved)
            self.outcome = error

    def settle(self) -> None:
        if self.done.done():
            return  # its client is gone
        if isinstance(self.outcome, ValueError):
            self.done.set_exception(self.outcome)
        else:
            self.done.set_result(self.outcome)  # type: ignore[arg-type]  # set by `apply`; None only where T is None


class Chain:
    """One chain. Reading and submitting are plain calls; `advance` makes a block, and must not run twice at once."""

    def __init__(self, settings: LocalChainSettings, store: Store, clock: Clock) -> None:
        self.runtime = Runtime(settings.block_seconds)
        self._store = store
        self._clock = clock
        self._pool = Pool()
        self._changes: list[_Change[Any]] = []  # Any: changes give different results
        saved = store.load() or _begun(settings, store, self.runtime)
        self.head = saved.head
        self.state = State(saved.state, number=saved.head.number, undo=saved.undo)
        self._author = Author(self.runtime, Shield(saved.seed), event_log_key(self.runtime))
        self.signing = SigningContext(self.runtime.spec_version, TRANSACTION_VERSION, self.block_hash(0) or NO_PARENT)

    @property
    def genesis_hash(self) -> bytes:
        """What tells this chain from any other."""
        return self.signing.genesis_hash

    def block_hash(self, number: int) -> bytes | None:
        """The hash of a block; None when it is not made yet."""
        header = self.head if number == self.head.number else self._store.header(number)
        return header.hash if header else None

    def header(self, block_hash: bytes | None) -> Header:
        """A block's header, the newest one's without a hash. Raises UnknownBlockError."""
        if block_hash is None or block_hash == self.head.hash:
            return self.head
        number = self._store.number(block_hash)
        header = None if number is None else self._store.header(number)
        if header is None:
            raise UnknownBlockError(block_hash.hex())
        return header

    def extrinsics(self, number: int) -> list[bytes]:
        """A block's transactions."""
        return self._store.extrinsics(number)

    def view(self, block_hash: bytes | None) -> View:
        """The state that a block left. Raises UnknownBlockError and StatePrunedError."""
        return self.state.at(self.header(block_hash).number)

    def next_nonce(self, account: bytes) -> int:
        """The nonce for the account's next transaction, waiting ones counted."""
        return self._pool.next_nonce(account, accounts.nonce(self.state.head(), account))

    def submit(self, data: bytes) -> bytes:
        """Let a transaction wait for a block; its hash. Raises RefusedByPoolError."""
        extrinsic = self._checked(data)
        if extrinsic.nonce < accounts.nonce(self.state.head(), extrinsic.signer):
            raise RefusedByPoolError(PoolRefusal.STALE)
        self._pool.add(extrinsic)
        return extrinsic.hash

    def operate(self, change: Callable[[Draft, int], T]) -> asyncio.Future[T]:
        """Make a change of the operator's part of the next block; its result, once that block stands."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._changes.append(_Change(change, done))
        return done

    async def advance(self) -> Built:
        """Make the next block: build it, write it to disk, and only then make it the head."""
        changes, self._changes = self._changes, []
        built = self._author.build(
            self.state,
            self.head,
            waiting=self._pool.waiting(),
            operations=[change.apply for change in changes],
            now_ms=max(round(self._clock.now() * 1000), self.state.head().get(storage.NOW) + 1),  # never the same twice
            check_inner=self._inner,
        )
        undo = self.state.undo_of(built.block.changes)
        await asyncio.to_thread(self._store.append, built.block, undo)
        self.state.advance(built.block.changes, undo)
        self.head = built.block.header
        for change in changes:
            change.settle()
        block = self.head.number
        expired = [each for each in self._pool.waiting() if each.era.is_over(birth=each.era.birth(block), block=block)]
        settled = built._replace(dropped=[*built.dropped, *expired])
        for extrinsic in (*settled.included, *settled.dropped):
            self._pool.forget(extrinsic)
        return settled

    def _checked(self, data: bytes) -> Extrinsic:
        """The transaction, when its bytes, era, signature and call are good. Raises RefusedByPoolError."""
        try:
            extrinsic = parse(data)
            self.runtime.decode_call(extrinsic.call)
        except ValueError as error:
            raise RefusedByPoolError(PoolRefusal.UNKNOWN_CALL) from error
        birth = extrinsic.era.birth(self.head.number)
        birth_hash = self.block_hash(birth)
        if birth_hash is None or extrinsic.era.is_over(birth=birth, block=self.head.number):
            raise RefusedByPoolError(PoolRefusal.ANCIENT)
        if not is_signed_by_its_signer(extrinsic, self.signing, birth_hash=birth_hash):
            raise RefusedByPoolError(PoolRefusal.BAD_SIGNATURE)
        return extrinsic

    def _inner(self, data: bytes) -> Extrinsic | None:
        try:
            return self._checked(data)
        except RefusedByPoolError:
            return None


def _begun(settings: LocalChainSettings, store: Store, runtime: Runtime) -> Saved:
    """A new chain. Its genesis hash covers the metadata and a random seed: no two chains share it."""
    seed = secrets.token_bytes(SEED_BYTES)
    draft = Draft(View({}))
    genesis.write(draft, settings, shield_key=Shield(seed).public_key)
    header = Header(0, NO_PARENT, blocks.state_root(NO_PARENT, draft.writes), blake2_256(runtime.digest + seed))
    store.begin(seed, Block(header, (), draft.writes))
    return Saved(seed, header, draft.writes, {})
