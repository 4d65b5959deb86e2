"""The SDK's records as domain values."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from gradients.domain.chain import AxonAddress, Commitment, Metagraph, Neuron
from gradients.domain.task import Hotkey

RAO = 10**9  # of TAO and of alpha


def metagraph_of(raw: Any) -> Metagraph:  # noqa: ANN401 (the SDK's Metagraph carries no types here)
    """A domain metagraph."""
    return Metagraph(
        netuid=raw.netuid,
        block=raw.block,
        tempo_blocks=raw.tempo,
        last_epoch_block=raw.last_step,
        neurons=tuple(_neuron(neuron, axon) for neuron, axon in zip(raw.neurons, raw.raw["axons"], strict=True)),
        owner_hotkey=Hotkey(raw.owner_hotkey),
        weights_version=int(raw.raw["weights_version"]),
        weights_rate_limit_blocks=int(raw.raw["weights_rate_limit"]),
        commit_reveal=bool(raw.raw["commit_reveal_weights_enabled"]),
    )


def commitment_of(hotkey: str, record: Mapping[str, Any]) -> Commitment | None:
    """What a hotkey has committed in the open, or None when it is sealed."""
    payload = bytearray()
    for variant, value in _fields((record.get("info") or {}).get("fields") or []):
        if not variant.startswith("Raw"):
            return None
        payload += bytes.fromhex(value.removeprefix("0x")) if isinstance(value, str) else bytes(value)
    return Commitment(Hotkey(hotkey), bytes(payload), int(record["block"]))


def _neuron(raw: Any, axon: Mapping[str, Any]) -> Neuron:  # noqa: ANN401 (as above)
    return Neuron(
        uid=raw.uid,
        hotkey=Hotkey(raw.hotkey),
        coldkey=raw.coldkey,
        axon=_axon(axon),
        validator_permit=raw.validator_permit,
        stake_alpha=raw.total_stake.rao / RAO,
        incentive=raw.incentive,
        dividends=raw.dividends,
        emission_alpha=raw.emission.rao / RAO,
        last_update_block=raw.last_update,
        registered_at_block=raw.block_at_registration,
    )


def _axon(record: Mapping[str, Any]) -> AxonAddress | None:
    """The served address; an axon that was never served, or was taken back, has no ip."""
    number = int(record["ip"])
    if not number:
        return None
    kind = ipaddress.IPv6Address if int(record["ip_type"]) == 6 else ipaddress.IPv4Address
    return AxonAddress(str(kind(number)), int(record["port"]))


def _fields(fields: Sequence[Any]) -> list[tuple[str, Any]]:
    """(variant, value) of every field; the SDK nests them in one-element lists."""
    entries = [entry for field in fields for entry in (field if isinstance(field, list | tuple) else [field])]
    return [pair for entry in entries if isinstance(entry, Mapping) for pair in entry.items()]
