"""Founds the market's subnet on a fresh chain: coins from the faucet, registrations, the validator's stake."""

from __future__ import annotations

import asyncio
import json

from websockets.asyncio.client import connect

from gradients.chain.sdk import SdkGateway
from gradients.chain.wallet import open_wallet
from gradients.domain.json import Json
from gradients.errors import ChainRefused
from gradients.localnet.plan import Participant, Plan

RAO_PER_TAO = 10**9
PURSE_TAO = 1_000
VALIDATOR_STAKE_TAO = 10_000


async def found(plan: Plan) -> str:
    """Register everybody and stake the validator; the validator's hotkey. Registering again changes nothing."""
    await asyncio.gather(*(_register(plan, who) for who in plan.participants))
    keys = open_wallet(plan.validator.coldkey, plan.validator.hotkey)
    stake = [keys.coldkey.ss58_address, keys.hotkey.ss58_address, 1, VALIDATOR_STAKE_TAO * RAO_PER_TAO]
    await dev_call(plan.chain_url, "dev_stake", *stake)
    return str(keys.hotkey.ss58_address)


async def _register(plan: Plan, who: Participant) -> None:
    wallet = open_wallet(who.coldkey, who.hotkey)
    gateway = SdkGateway(plan.chain_url, 1, wallet)
    try:
        if await gateway.balance_tao() < PURSE_TAO / 2:
            await dev_call(plan.chain_url, "dev_fund", wallet.coldkey.ss58_address, PURSE_TAO * RAO_PER_TAO)
        await gateway.register()
    finally:
        await gateway.close()


async def dev_call(url: str, method: str, *parameters: Json) -> Json:
    """One call that only a development chain answers. Raises ChainRefused."""
    async with connect(url) as socket:
        await socket.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}))
        answer = json.loads(await socket.recv())
    if "error" in answer:
        raise ChainRefused(f"{method} was refused: {answer['error']['message']}")
    result: Json = answer["result"]
    return result
