"""What a subnet's owner has set, read through the SDK; what this chain does not keep is told apart from what is 0."""

from __future__ import annotations

from typing import Any

from gradients.chain.reading import U16_MAX
from gradients.domain.subnet import SubnetTerms
from gradients.errors import ChainRefused


async def subnet_terms_of(client: Any, netuid: int) -> SubnetTerms:  # noqa: ANN401 (bittensor's Client)
    """Raises ChainRefused (subnet_missing) where there is no such subnet."""
    import bittensor as bt

    told = await client.subnets.subnet_hyperparameters(netuid)
    if told is None:
        raise ChainRefused(f"There is no subnet {netuid}", code="subnet_missing")
    numbers = {str(name): int(value) for name, value in told.items() if isinstance(value, int)}
    share = numbers.get("collateral_lock_share")
    st = bt.storage.SubtensorModule
    return SubnetTerms(
        netuid=netuid,
        hyperparameters=numbers,
        price_tao=float((await client.subnets.burn(netuid)).tao),
        collateral_share=None if share is None else share / U16_MAX,
        is_open=await _switch(client, st.SubtokenEnabled, netuid),
        emission_enabled=await _switch(client, st.SubnetEmissionEnabled, netuid),
    )


async def _switch(client: Any, item: Any, netuid: int) -> bool | None:  # noqa: ANN401 (as above)
    """A switch of the subnet's, or None on a runtime that has none of this name."""
    import bittensor as bt

    try:
        value = await client.query(item, [netuid])
    except (bt.BittensorError, ValueError) as error:
        if "not found" in str(error).lower():
            return None
        raise
    return None if value is None else bool(value)
