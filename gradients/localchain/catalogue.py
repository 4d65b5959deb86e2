"""The runtime: all pallets with their calls, and what the metadata says besides."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any

from gradients.localchain.accounts import EXISTENTIAL_DEPOSIT_RAO
from gradients.localchain.calls import (
    balances,
    coldkeys,
    commitments,
    hyperparameters,
    registration,
    serving,
    shield,
    stake_moves,
    staking,
    system,
    weights,
)
from gradients.localchain.keys import SS58_PREFIX
from gradients.localchain.metadata.assemble import Outline, SignedExtension, assemble, outer_event
from gradients.localchain.pallets import absent, apis, errors, events, storage, subtensor
from gradients.localchain.pallets.declare import Call, Constant, Pallet, Storage, call
from gradients.localchain.pallets.substrate_types import ADDRESS, ERA, METADATA_MODE, PHASE, SIGNATURE
from gradients.localchain.scale.choices import OptionOf
from gradients.localchain.scale.compact import Reader
from gradients.localchain.scale.hints import HASH
from gradients.localchain.scale.types import UNIT, Compact, Field, FixedBytes, Integer, Record, Vector

SPEC_NAME = "node-subtensor"
TRANSACTION_VERSION = 1

EXTENSIONS = (
    SignedExtension("CheckNonZeroSender", UNIT, UNIT),
    SignedExtension("CheckSpecVersion", UNIT, Integer(4)),
    SignedExtension("CheckTxVersion", UNIT, Integer(4)),
    SignedExtension("CheckGenesis", UNIT, HASH),
    SignedExtension("CheckMortality", ERA, HASH),
    SignedExtension("CheckNonce", Compact(Integer(4)), UNIT),
    SignedExtension("CheckWeight", UNIT, UNIT),
    SignedExtension("ChargeTransactionPayment", Compact(Integer(8)), UNIT),
    SignedExtension("CheckMetadataHash", METADATA_MODE, OptionOf(FixedBytes(32))),
)

SUBTENSOR_CALLS = (
    call(0, weights.set_weights),
    call(2, staking.add_stake),
    call(3, staking.remove_stake),
    call(4, serving.serve_axon),
    call(7, registration.burned_register),
    call(40, serving.serve_axon_tls),
    call(59, registration.register_network),
    call(68, coldkeys.set_identity),
    call(83, staking.unstake_all),
    call(84, staking.unstake_all_alpha),
    call(85, stake_moves.move_stake),
    call(86, stake_moves.transfer_stake),
    call(87, stake_moves.swap_stake),
    call(88, staking.add_stake_limit),
    call(89, staking.remove_stake_limit),
    call(90, stake_moves.swap_stake_limit),
    call(91, coldkeys.try_associate_hotkey),
    call(92, registration.start_call),
    call(113, weights.commit_timelocked_weights),
    call(118, weights.commit_timelocked_mechanism_weights),
    call(119, weights.set_mechanism_weights),
    call(149, stake_moves.move_stake_limit),
)
BALANCES_CALLS = (
    call(0, balances.transfer_allow_death),
    call(3, balances.transfer_keep_alive),
    call(4, balances.transfer_all),
)
OWNER_CALLS = tuple(hyperparameters.setter(each) for each in hyperparameters.HYPERPARAMETERS if each.call_index)

SET_TIME = call(0, system.set_time, name="set")


def pallets(block_seconds: float) -> tuple[Pallet, ...]:
    """All pallets, in the order of the metadata."""
    inner = (
        Pallet("Timestamp", 2, (storage.NOW,), (SET_TIME,)),
        Pallet("Aura", 3, constants=(Constant("SlotDuration", Integer(8), round(block_seconds * 1000)),)),
        Pallet(
            "Balances",
            5,
            (storage.TOTAL_ISSUANCE,),
            BALANCES_CALLS,
            tuple(events.BALANCES.values()),
            constants=(Constant("ExistentialDeposit", Integer(8), EXISTENTIAL_DEPOSIT_RAO),),
        ),
        Pallet("TransactionPayment", 6, events=tuple(events.TRANSACTION_PAYMENT.values())),
        Pallet(
            subtensor.PALLET,
            7,
            (*subtensor.ITEMS, *absent.ITEMS),
            SUBTENSOR_CALLS,
            tuple(events.SUBTENSOR.values()),
            tuple(errors.SUBTENSOR.values()),
            (Constant("InitialStartCallDelay", Integer(8), 0),),
        ),
        Pallet(
            "Commitments",
            18,
            storage.COMMITMENTS_ITEMS,
            (call(0, commitments.set_commitment),),
            tuple(events.COMMITMENTS.values()),
            tuple(errors.COMMITMENTS.values()),
        ),
        Pallet(
            "AdminUtils",
            19,
            calls=(*OWNER_CALLS, call(51, hyperparameters.sudo_set_alpha_values)),
            errors=tuple(errors.ADMIN_UTILS.values()),
        ),
        Pallet("Drand", 26, storage.DRAND_ITEMS),
        Pallet(
            "MevShield",
            30,
            (storage.NEXT_KEY,),
            (call(1, shield.submit_encrypted),),
            tuple(events.MEV_SHIELD.values()),
        ),
    )
    return (_system(inner), *inner)


def _system(inner: tuple[Pallet, ...]) -> Pallet:
    """The system pallet, whose event log can hold every pallet's events, its own included."""
    own = tuple(events.SYSTEM.values())
    event = outer_event((Pallet("System", 0, events=own), *inner))
    fields = (Field("phase", PHASE), Field("event", event), Field("topics", Vector(HASH)))
    record: Record[dict[str, Any]] = Record(  # Any: events are only written here
        "frame_system::EventRecord", fields, dict, (("E", event), ("T", HASH))
    )
    log: Storage[list[Any]] = Storage("System", "Events", Vector(record), [])
    prefix = Constant("SS58Prefix", Integer(2), SS58_PREFIX)
    remarks = (call(0, system.remark), call(7, system.remark, name="remark_with_event"))
    return Pallet("System", 0, (*storage.SYSTEM_ITEMS, log), remarks, own, constants=(prefix,))


@dataclass(frozen=True)
class Runtime:
    """What a block is made with: the calls, and the metadata from which clients learn them."""

    block_seconds: float

    @cached_property
    def pallets(self) -> tuple[Pallet, ...]:
        """All pallets."""
        return pallets(self.block_seconds)

    @cached_property
    def metadata(self) -> bytes:
        """Metadata V15."""
        return assemble(Outline(self.pallets, apis.METHODS, EXTENSIONS, ADDRESS, SIGNATURE))

    @cached_property
    def digest(self) -> bytes:
        """What tells one metadata from another."""
        return blake2b(self.metadata, digest_size=32).digest()

    @cached_property
    def spec_version(self) -> int:
        """A number of its own for each metadata: clients cache metadata by genesis and this."""
        return int.from_bytes(self.digest[:3], "little") + 1000

    @cached_property
    def _calls(self) -> dict[tuple[int, int], Call]:
        return {(pallet.index, call.index): call for pallet in self.pallets for call in pallet.calls}

    def decode_call(self, data: bytes) -> tuple[Call, dict[str, Any]]:  # Any: arguments differ
        """The call and its arguments. Raises ValueError for bytes that are not a call of this runtime."""
        reader = Reader(data)
        number = (reader.take(1)[0], reader.take(1)[0])
        if number not in self._calls:
            raise ValueError(f"this runtime has no call {number}")
        named = self._calls[number]
        arguments = named.decode(reader)
        if not reader.finished:
            raise ValueError(f"{named.name} ends before its bytes do")
        return named, arguments
