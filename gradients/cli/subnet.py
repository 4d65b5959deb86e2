"""`gradients subnet check`: for a subnet's owner."""

from __future__ import annotations

import asyncio

import typer

from gradients.cli.doctor import AnySettings, AsJson, show
from gradients.cli.flags import CHAIN, Given, takes
from gradients.config import ChainSettings
from gradients.doctor.findings import Finding

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def subnet() -> None:
    """For the owner of a subnet."""


@app.command()
@takes(CHAIN)
def check(given: Given, *, as_json: AsJson = False) -> None:
    """Show what this software needs of a subnet's hyperparameters, what the subnet has, and what to change.

    Nothing is sent. The exit code is 1 when validators could not set weights, or miners could not come or be paid.
    """
    show(asyncio.run(_check(given.load(AnySettings).chain)), as_json=as_json)


async def _check(chain: ChainSettings) -> list[Finding]:
    from gradients.chain.sdk import SdkGateway
    from gradients.chain.wallet import nobodys_keys
    from gradients.doctor.hyperparameters import Scale, judge
    from gradients.scoring.rules import VERSIONS

    gateway = SdkGateway(chain.network, chain.netuid, nobodys_keys(), timeout_seconds=chain.call_timeout_seconds)
    try:
        terms, seconds = await gateway.subnet_terms(), await gateway.block_seconds()
    finally:
        await gateway.close()
    return list(judge(terms, Scale(seconds, max(VERSIONS))))
