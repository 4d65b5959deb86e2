"""What we encode is what the SDK decodes, and the other way round: the SDK's codec is the judge."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

import bittensor_core
import pytest
from bittensor import calls
from bittensor._generated.errors import ERRORS
from bittensor._transport.codec import RuntimeCodec, StorageEntry
from hypothesis import given
from hypothesis import strategies as st

from gradients.localchain.answers import table
from gradients.localchain.catalogue import SPEC_NAME, TRANSACTION_VERSION, Runtime
from gradients.localchain.hashing import storage_key, twox_64, twox_128
from gradients.localchain.keys import address, public_key
from gradients.localchain.pallets import storage, subtensor
from gradients.localchain.pallets.declare import Storage
from gradients.localchain.pallets.subtensor_types import AxonInfo, CommitmentInfo, Registration
from gradients.localchain.scale.choices import Choice
from gradients.localchain.scale.compact import Reader, encode_compact
from gradients.localchain.scale.hints import ACCOUNT
from gradients.localchain.state import Draft, View

RUNTIME = Runtime(block_seconds=1.0)
CODEC = RuntimeCodec(
    RUNTIME.metadata,
    spec_version=RUNTIME.spec_version,
    transaction_version=TRANSACTION_VERSION,
    spec_name=SPEC_NAME,
)
ALICE = public_key("//Alice")
ITEMS = [(pallet.name, item) for pallet in RUNTIME.pallets for item in pallet.storage]


def entry_of(item: Storage[Any]) -> StorageEntry:
    return CODEC.storage_entry(item.pallet, item.name)


def decoded_by_the_sdk(item: Storage[Any], value: Any) -> Any:  # noqa: ANN401 (any item's value)
    return CODEC.decode(entry_of(item).value_type, item.type.encode(value))


def some_keys(item: Storage[Any]) -> tuple[int | bytes, ...]:
    return tuple(os.urandom(32) if key.type == ACCOUNT else 7 for key in item.keys)


def test_the_sdk_reads_our_metadata_as_version_15() -> None:
    assert CODEC.is_v15
    assert CODEC.constant("Aura", "SlotDuration") == 1000


def test_another_block_time_is_another_runtime() -> None:
    assert Runtime(block_seconds=0.25).spec_version != RUNTIME.spec_version


@pytest.mark.parametrize(("pallet", "item"), ITEMS, ids=[f"{pallet}.{item.name}" for pallet, item in ITEMS])
def test_storage_keys_and_defaults_are_the_ones_that_clients_compute(pallet: str, item: Storage[Any]) -> None:
    keys = some_keys(item)
    entry = entry_of(item)
    assert storage_key(item, keys) == CODEC.storage_key(entry, list(keys))
    assert storage_key(item, keys[:1]) == CODEC.storage_key(entry, list(keys[:1]))
    assert entry.default_bytes == item.default_bytes
    CODEC.decode(entry.decode_type(has_data=False), entry.default_bytes)


def test_the_hash_of_storage_keys_gives_the_published_vectors() -> None:
    """Of xxHash64 without a seed, and the prefixes that every Substrate chain has for System.Account."""
    assert twox_64(b"") == bytes.fromhex("ef46db3751d8e999")[::-1]
    assert twox_64(b"abc") == bytes.fromhex("44bc2cf5ad770999")[::-1]
    assert twox_128(b"System") == bytes.fromhex("26aa394eea5630e07c48ae0c9558cef7")
    assert twox_128(b"Account") == bytes.fromhex("b99d880ec681799c0cf30e8886371da9")


@given(st.binary(max_size=80), st.integers(min_value=0, max_value=1))
def test_the_hash_of_storage_keys_depends_on_every_byte(data: bytes, seed: int) -> None:
    assert twox_64(data, seed=seed) != twox_64(data + b"\0", seed=seed)


@given(st.integers(min_value=0, max_value=2**128 - 1))
def test_compact_integers_come_back(number: int) -> None:
    assert Reader(encode_compact(number)).compact() == number


@given(st.integers(min_value=0, max_value=2**30 - 1))
def test_compact_integers_are_what_the_sdk_writes(number: int) -> None:
    assert encode_compact(number) == CODEC.encode_compact(number)


def test_values_arrive_at_the_client_as_they_were_written() -> None:
    axon = AxonInfo(5, 1, 0x7F000002, 8091, 4, 4)
    assert decoded_by_the_sdk(subtensor.AXONS, axon) == dataclasses.asdict(axon)
    assert decoded_by_the_sdk(subtensor.KEYS, ALICE) == address(ALICE)
    assert decoded_by_the_sdk(subtensor.WEIGHTS, [(1, 2), (3, 65535)]) == [(1, 2), (3, 65535)]
    assert decoded_by_the_sdk(subtensor.ACTIVE, [True, False]) == [True, False]
    assert decoded_by_the_sdk(subtensor.EPOCH_CONSENSUS_MODE, Choice("Yuma")) == "Yuma"
    assert decoded_by_the_sdk(storage.NOW, 2**40) == 2**40


def test_a_commitment_that_the_sdk_composes_is_read_and_shown_to_it_unchanged() -> None:
    payload = bytes(range(128))
    info = {"fields": [[{"Raw128": "0x" + payload.hex()}]]}
    composed = CODEC.compose_call("Commitments", "set_commitment", {"netuid": 1, "info": info}).data
    call, arguments = RUNTIME.decode_call(composed)
    assert call.name == "set_commitment"
    assert arguments["info"] == CommitmentInfo([Choice("Raw128", (payload,))])
    registration = Registration(0, 9, arguments["info"])
    shown = decoded_by_the_sdk(storage.COMMITMENT_OF, registration)
    assert shown["info"]["fields"] == [{"Raw128": "0x" + payload.hex()}]


SERVE = {
    "netuid": 1,
    "version": 1,
    "ip": 2**100,
    "port": 8091,
    "ip_type": 6,
    "protocol": 4,
    "placeholder1": 0,
    "placeholder2": 0,
}
REMOVED = {"hotkey": ALICE, "netuid": 1, "amount_unstaked": 1}
PLACES = {"origin_netuid": 1, "destination_netuid": 2, "alpha_amount": 2**64 - 1}
MOVED = {"origin_hotkey": ALICE, "destination_hotkey": bytes(32), **PLACES}
SWAPPED = {"hotkey": ALICE, **PLACES}
LIMIT = {"limit_price": 10**9, "allow_partial": False}
COMPOSED: dict[str, dict[str, Any]] = {
    "burned_register": {"netuid": 1, "hotkey": ALICE},
    "serve_axon": SERVE,
    "serve_axon_tls": {**SERVE, "certificate": b"\1" + bytes(32)},
    "set_weights": {"netuid": 1, "dests": [0, 3], "weights": [65535, 1], "version_key": 2**40},
    "set_mechanism_weights": {"netuid": 1, "mecid": 0, "dests": [], "weights": [], "version_key": 0},
    "commit_timelocked_mechanism_weights": {
        "netuid": 1,
        "mecid": 0,
        "commit": b"0x61 looks like hex but is not",
        "reveal_round": 1000,
        "commit_reveal_version": 4,
    },
    "add_stake": {"hotkey": ALICE, "netuid": 1, "amount_staked": 10**12},
    "remove_stake": REMOVED,
    "remove_stake_limit": {**REMOVED, "limit_price": 10**9, "allow_partial": False},
    "move_stake": MOVED,
    "move_stake_limit": {**MOVED, **LIMIT},
    "swap_stake": SWAPPED,
    "swap_stake_limit": {**SWAPPED, **LIMIT},
    "transfer_stake": {"destination_coldkey": ALICE, **SWAPPED},
    "unstake_all": {"hotkey": ALICE},
    "unstake_all_alpha": {"hotkey": ALICE},
    "try_associate_hotkey": {"hotkey": ALICE},
    "register_network": {"hotkey": ALICE},
    "start_call": {"netuid": 2},
}


@pytest.mark.parametrize("name", sorted(COMPOSED))
def test_calls_that_the_sdk_composes_are_understood(name: str) -> None:
    module, function, parameters = getattr(calls.SubtensorModule, name)(**COMPOSED[name])
    sent = {key: list(value) if key in ("certificate", "commit") else value for key, value in parameters.items()}
    call, arguments = RUNTIME.decode_call(CODEC.compose_call(module, function, sent).data)
    assert call.name == name
    assert arguments == COMPOSED[name]


def test_bytes_that_are_not_a_call_are_refused() -> None:
    with pytest.raises(ValueError, match="no call"):
        RUNTIME.decode_call(b"\xff\xff")
    with pytest.raises(ValueError, match="wanted"):
        RUNTIME.decode_call(b"\x07\x07\x01")
    with pytest.raises(ValueError, match="ends before"):
        RUNTIME.decode_call(CODEC.compose_call("SubtensorModule", "start_call", {"netuid": 1}).data + b"\0")


def declared_errors() -> Iterator[tuple[tuple[int, int], str]]:
    for pallet in RUNTIME.pallets:
        for error in pallet.errors:
            yield (error.pallet_index, error.number), error.name


def test_every_error_has_the_number_and_the_name_that_the_sdk_knows() -> None:
    declared = dict(declared_errors())
    assert declared == {number: ERRORS[number].name for number in declared}
    assert {number[0]: ERRORS[number].pallet for number in declared} == {
        7: "SubtensorModule",
        18: "Commitments",
        19: "AdminUtils",
    }


def test_every_call_and_every_storage_item_exists_in_the_sdks_catalogue() -> None:
    from bittensor._generated import storage as generated

    # The SDK names the first two itself, beside its catalogue; only this chain reads from storage who holds which stake.
    beside = {"CollateralLockShare", "CollateralDrainRatio", "Alpha"}
    for pallet in RUNTIME.pallets:
        for call in pallet.calls:
            assert hasattr(getattr(calls, pallet.name), call.name), call.name
        for item in pallet.storage:
            assert item.name in beside or hasattr(getattr(generated, pallet.name), item.name), item.name


def test_runtime_apis_answer_in_the_shape_that_the_metadata_promises() -> None:
    state = Draft(View({}))
    state.put(subtensor.NETWORKS_ADDED, 1, value=True)
    for name, (method, _) in table.BY_NAME.items():
        inputs = b"".join(_sample(part.type) for part in method.inputs)
        output = CODEC.runtime_api_map[method.api][method.name]["output"]
        CODEC.decode(output, table.answer(state, name, inputs))


def _sample(type_: object) -> bytes:
    """An argument of the type: netuid 1, an account of zeros, nothing in lists and options."""
    width = getattr(type_, "width", None)
    if width:
        return (1).to_bytes(width, "little")
    return bytes(32) if type_ == ACCOUNT else b"\0"


def test_the_core_that_the_sdk_signs_with_is_the_one_that_we_verify_with() -> None:
    keypair = bittensor_core.Keypair.create_from_uri("//Alice")
    assert bytes(keypair.public_key) == ALICE
    assert address(ALICE) == keypair.ss58_address
