"""Founds the market's subnet on a fresh chain: coins from the faucet, registrations, the validator's stake."""

from __future__ import annotations

import asyncio

from gradients.chain.sdk import SdkGateway
from gradients.chain.wallet import open_wallet
from gradients.localchain.operator import RAO_PER_TAO, operating
from gradients.localnet.plan import Participant, Plan

PURSE_TAO = 1_000
VALIDATOR_STAKE_TAO = 10_000


async def found(plan: Plan) -> str:
    """Register everybody and stake the validator; the validator's hotkey. Registering again changes nothing."""

    async def register(who: Participant) -> None:
        wallet = open_wallet(who.coldkey, who.hotkey)
        gateway = SdkGateway(plan.chain_url, 1, wallet)
        try:
            if await gateway.balance_tao() < PURSE_TAO / 2:
                async with operating(plan.chain_url) as operator:
                    await operator.fund(wallet.coldkey.ss58_address, PURSE_TAO * RAO_PER_TAO)
            await gateway.register()
        finally:
            await gateway.close()

    await asyncio.gather(*(register(who) for who in plan.participants))
    keys = open_wallet(plan.validator.coldkey, plan.validator.hotkey)
    coldkey, hotkey = keys.coldkey.ss58_address, keys.hotkey.ss58_address
    async with operating(plan.chain_url) as operator:
        await operator.stake(coldkey=coldkey, hotkey=hotkey, netuid=1, rao=VALIDATOR_STAKE_TAO * RAO_PER_TAO)
    return str(hotkey)
