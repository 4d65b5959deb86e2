"""What the chain pays subnets by, read through the SDK."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Any

from gradients.domain.emission import EmissionTerms, SubnetDemand

DEFAULT_GATE_EXPONENT = 3.0  # the runtime's, where the chain has none written


async def emission_terms_of(client: Any) -> EmissionTerms:  # noqa: ANN401 (bittensor's Client)
    """What the chain pays each subnet by; subnets that don't emit yet are left out."""
    import bittensor as bt

    st = bt.storage.SubtensorModule
    block = await client.block()
    maps = (
        st.FirstEmissionBlockNumber,
        st.SubtokenEnabled,
        st.NetworkRegistrationAllowed,
        st.SubnetMovingPrice,
        st.MinerBurned,
        st.SubnetEmissionEnabled,
    )
    started, open_, admits, price, burned, enabled = [
        {int(netuid): value for netuid, value in rows}
        for rows in await asyncio.gather(*(client.query_map(item, block=block) for item in maps))
    ]
    bar, exponent = await asyncio.gather(
        client.query(st.EmissionGateBar, block=block), client.query(st.EmissionGateExponent, block=block)
    )
    emitting = [netuid for netuid in started if netuid and open_.get(netuid) and admits.get(netuid, True)]
    return EmissionTerms(
        {
            netuid: SubnetDemand(
                price=fixed_point(price.get(netuid, 0), fraction_bits=32),
                miner_burned=fixed_point(burned.get(netuid, 0), fraction_bits=32),
                enabled=bool(enabled.get(netuid, True)),
            )
            for netuid in emitting
        },
        gate_bar=fixed_point(bar, fraction_bits=64),
        gate_exponent=fixed_point(exponent, fraction_bits=64) or DEFAULT_GATE_EXPONENT,
    )


def fixed_point(raw: Any, *, fraction_bits: int) -> float:  # noqa: ANN401 (a mapping or a number, as the SDK decodes it)
    """A fixed-point number of the chain's. The metadata tells its width, not where the point is."""
    bits = raw["bits"] if isinstance(raw, Mapping) else raw
    return math.ldexp(int(bits or 0), -fraction_bits)
