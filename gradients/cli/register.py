"""`gradients register`: put a hotkey on the subnet, after showing what it costs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Annotated

import typer

from gradients.cli.flags import SUBNET, Given, takes
from gradients.clock import SystemClock
from gradients.config import DaemonSettings
from gradients.domain.subnet import SubnetTerms
from gradients.errors import SetupError


@takes(SUBNET)
def register(
    given: Given,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before spending.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; implies --yes.")] = False,
) -> None:
    """Register a hotkey by burn: shows price, collateral, balance and whether the subnet is paid, asks, and prints the uid.

    A hotkey that is registered costs nothing.

    The coldkey is needed to pay: run this where the coldkey is, not on the GPU box.
    """
    outcome = asyncio.run(_register(given.load(DaemonSettings), ask=not (yes or as_json)))
    if as_json:
        typer.echo(json.dumps(outcome))
        return
    said = "was registered already, and nothing was paid: it" if outcome["was_registered"] else "is registered and"
    typer.echo(f"{outcome['hotkey']} {said} has uid {outcome['uid']} on {outcome['network']}")


async def _register(settings: DaemonSettings, *, ask: bool) -> dict[str, str | int | float | None]:
    from gradients.chain.network import Network
    from gradients.chain.sdk import SdkGateway
    from gradients.chain.view import ChainView
    from gradients.chain.wallet import open_wallet

    chain, wallet = settings.chain, settings.wallet
    Network.parse(chain.network).check(wallet=wallet.name)
    keys = open_wallet(wallet.name, wallet.hotkey, wallet.path, with_coldkey=True)
    gateway = SdkGateway(chain.network, chain.netuid, keys, timeout_seconds=chain.call_timeout_seconds)
    view = ChainView(gateway, SystemClock(), start_seconds=chain.start_seconds)
    try:
        await view.start()
        known = view.metagraph().by_hotkey(gateway.hotkey)
        terms, balance = await gateway.subnet_terms(), await gateway.balance_tao()
        price = terms.price_tao
        if known is None:
            if balance < price:
                raise SetupError(
                    f"Registering costs {price:g} TAO and {keys.coldkeypub.ss58_address} has {balance:g}",
                    fix="Send TAO to that address (on test networks: ask for test TAO), or wait for a lower price",
                )
            for line in _beside_the_price(terms):
                typer.echo(line, err=True)
            if ask:
                typer.confirm(
                    f"Register on subnet {chain.netuid} of {chain.network} for {price:g} of {balance:g} TAO?",
                    abort=True,
                )
        uid = known.uid if known else await gateway.register()
    finally:
        await gateway.close()
    paid = 0.0 if known else price
    return {
        "network": chain.network,
        "netuid": chain.netuid,
        "hotkey": gateway.hotkey,
        "uid": uid,
        "was_registered": known is not None,
        "paid_tao": paid,
        "of_which_locked_tao": paid * (terms.collateral_share or 0.0),
        "subnet_is_paid": terms.pays,
    }


def _beside_the_price(terms: SubnetTerms) -> Iterator[str]:
    """What who pays should know before; nothing of what this chain does not keep."""
    if terms.collateral_share:
        locked = terms.price_tao * terms.collateral_share
        yield f"{locked:g} of the {terms.price_tao:g} TAO are locked as collateral and come back with what is earned; the rest is burned"
    if terms.pays is False:
        why = "was not started by its owner" if terms.is_open is False else "has its emission switched off"
        yield f"Nobody on subnet {terms.netuid} is paid now: it {why}"
    elif terms.pays is None:
        yield f"This chain does not say whether subnet {terms.netuid} is paid"
