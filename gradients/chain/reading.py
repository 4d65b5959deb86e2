"""The SDK's records as domain values."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from gradients.domain.chain import AxonAddress, Commitment, Metagraph, Neuron
from gradients.domain.task import Hotkey

RAO = 10**9  # of TAO and of alpha
U16_MAX = 65535


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
        min_allowed_weights=int(raw.raw["min_allowed_weights"]),
        max_weight_limit=int(raw.raw["max_weights_limit"]) / U16_MAX,
        activity_cutoff_blocks=int(raw.raw["activity_cutoff"]),
    )


def commitment_of(hotkey: str, record: Mapping[str, Any]) -> Commitment | None:
    """What a hotkey has committed in the open, or None when it is sealed."""
    nested = (record.get("info") or {}).get("fields") or []
    # The SDK nests fields in one-element lists.
    entries = [entry for field in nested for entry in (field if isinstance(field, list | tuple) else [field])]
    fields = [pair for entry in entries if isinstance(entry, Mapping) for pair in entry.items()]
    payload = bytearray()
    for variant, value in fields:
        if not variant.startswith("Raw"):
            return None
        payload += bytes.fromhex(value.removeprefix("0x")) if isinstance(value, str) else bytes(value)
    return Commitment(Hotkey(hotkey), bytes(payload), int(record["block"]))


def exceeds(shares: Mapping[int, float], metagraph: Metagraph, *, setter: Hotkey) -> str | None:
    """The chain's name for what is wrong with a row of weights, or None. A row of the setter's own uid alone may be anything."""
    given = [share for share in shares.values() if share > 0]
    ours = metagraph.by_hotkey(setter)
    if ours is not None and set(shares) == {ours.uid}:
        return None
    if len(given) < metagraph.min_allowed_weights:
        return "weight_vec_length_is_low"
    return "max_weight_exceeded" if given and max(given) / sum(given) > metagraph.max_weight_limit else None


def _neuron(raw: Any, axon: Mapping[str, Any]) -> Neuron:  # noqa: ANN401 (as above)
    address = None
    if number := int(axon["ip"]):  # an axon that was never served, or was taken back, has none
        kind = ipaddress.IPv6Address if int(axon["ip_type"]) == 6 else ipaddress.IPv4Address
        address = AxonAddress(str(kind(number)), int(axon["port"]))
    return Neuron(
        uid=raw.uid,
        hotkey=Hotkey(raw.hotkey),
        coldkey=raw.coldkey,
        axon=address,
        validator_permit=raw.validator_permit,
        stake_alpha=raw.total_stake.rao / RAO,
        incentive=raw.incentive,
        dividends=raw.dividends,
        emission_alpha=raw.emission.rao / RAO,
        last_update_block=raw.last_update,
        registered_at_block=raw.block_at_registration,
    )
