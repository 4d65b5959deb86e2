"""Making a block: what happens by itself, then the operator's changes, then the transactions that wait."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gradients.localchain import accounts, blocks
from gradients.localchain.calls.shield import submit_encrypted
from gradients.localchain.catalogue import Runtime
from gradients.localchain.dispatch import Dispatch, RefusedError
from gradients.localchain.epoch import step
from gradients.localchain.extrinsics import Extrinsic, bare
from gradients.localchain.hashing import item_prefix
from gradients.localchain.pallets import events, storage
from gradients.localchain.pallets.substrate_types import FREE_OF_CHARGE
from gradients.localchain.scale.compact import encode_compact
from gradients.localchain.shield import Shield
from gradients.localchain.state import Draft, State

Operation = Callable[[Draft, int], None]  # a change that the chain's operator makes, given the block's number
Opener = Callable[[bytes], Extrinsic | None]

INITIALIZATION = b"\2"
NO_TOPICS = encode_compact(0)
SET_TIME = bytes([2, 0])


class Built(NamedTuple):
    """A block that is not published yet, and which of the waiting transactions it settles."""

    block: blocks.Block
    included: list[Extrinsic]
    dropped: list[Extrinsic]


@dataclass
class _Work:
    """A block in the making."""

    draft: Draft
    number: int
    extrinsics: list[bytes]
    log: list[bytes] = field(default_factory=list)
    included: list[Extrinsic] = field(default_factory=list)

    def record(self, event: bytes, phase: bytes = INITIALIZATION) -> None:
        self.log.append(phase + event + NO_TOPICS)


@dataclass(frozen=True)
class Author:
    """Makes blocks; keeps nothing between them."""

    runtime: Runtime
    shield: Shield
    event_log_key: bytes

    def build(
        self,
        state: State,
        parent: blocks.Header,
        *,
        waiting: Sequence[Extrinsic],
        operations: Sequence[Operation],
        now_ms: int,
        check_inner: Opener,
    ) -> Built:
        """The next block. `check_inner` gives the transaction that was hidden in an encrypted one, when it is good."""
        stamp = bare(SET_TIME + encode_compact(now_ms))
        work = _Work(Draft(state.head()), parent.number + 1, [stamp])
        work.draft.put(storage.NUMBER, value=work.number)
        work.draft.put(storage.PARENT_HASH, value=parent.hash)
        work.draft.put(storage.NOW, value=now_ms)
        step.run(work.draft, work.number, work.record)
        work.record(events.SYSTEM["ExtrinsicSuccess"].encode(FREE_OF_CHARGE), _phase(0))
        for operation in operations:
            operation(work.draft, work.number)
        dropped = self._include_all(work, list(waiting), check_inner)
        work.draft.put_raw(self.event_log_key, encode_compact(len(work.log)) + b"".join(work.log))
        extrinsics = tuple(work.extrinsics)
        header = blocks.Header(
            number=work.number,
            parent_hash=parent.hash,
            state_root=blocks.state_root(parent.state_root, work.draft.writes),
            extrinsics_root=blocks.extrinsics_root(extrinsics),
        )
        return Built(blocks.Block(header, extrinsics, work.draft.writes), work.included, dropped)

    def _include_all(self, work: _Work, waiting: list[Extrinsic], check_inner: Opener) -> list[Extrinsic]:
        """Include what is next for its signer, again and again until nothing is; the ones whose turn has passed."""
        dropped: list[Extrinsic] = []
        moved = True
        while moved:
            moved = False
            for extrinsic in list(waiting):
                turn = extrinsic.nonce - accounts.nonce(work.draft, extrinsic.signer)
                if turn <= 0:
                    waiting.remove(extrinsic)
                    moved = True
                    if turn == 0:
                        self._include(work, extrinsic, check_inner)
                    else:
                        dropped.append(extrinsic)
        return dropped

    def _include(self, work: _Work, extrinsic: Extrinsic, check_inner: Opener) -> None:
        phase = _phase(len(work.extrinsics))
        work.extrinsics.append(extrinsic.data)
        work.included.append(extrinsic)
        accounts.count_transaction(work.draft, extrinsic.signer)
        call, arguments = self.runtime.decode_call(extrinsic.call)
        saved, emitted = work.draft.savepoint(), list[bytes]()
        try:
            call.handler(Dispatch(work.draft, work.number, extrinsic.signer, emitted.append), **arguments)
        except RefusedError as refused:
            work.draft.rollback(saved)
            work.record(events.SYSTEM["ExtrinsicFailed"].encode(refused.dispatch_error, FREE_OF_CHARGE), phase)
            return
        emitted.append(events.TRANSACTION_PAYMENT["TransactionFeePaid"].encode(extrinsic.signer, 0, 0))
        emitted.append(events.SYSTEM["ExtrinsicSuccess"].encode(FREE_OF_CHARGE))
        for event in emitted:
            work.record(event, phase)
        if call.handler is submit_encrypted:
            data = self.shield.open(bytes(arguments["ciphertext"]))
            inner = check_inner(data) if data else None
            if inner and inner.nonce == accounts.nonce(work.draft, inner.signer):
                self._include(work, inner, check_inner)


def event_log_key(runtime: Runtime) -> bytes:
    """Where a block's events stand."""
    system = runtime.pallets[0]
    return next(item_prefix(item) for item in system.storage if item.name == "Events")


def _phase(index: int) -> bytes:
    return b"\0" + index.to_bytes(4, "little")
