"""`gradients weights`: every number that led to a weight, for the validator's operator."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from gradients.cli.flags import FOLDER, SUBNET, Flags, Given, takes

if TYPE_CHECKING:
    from gradients.domain.emission import EmissionTerms
    from validator.settings import ValidatorSettings

CHAIN: Flags = {**FOLDER, **{name: SUBNET[name] for name in ("chain__network", "chain__netuid")}}
BURN_SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


@app.callback()
def weights() -> None:
    """Show every number that led to a validator's weights, from its ledger alone.

    Name the same --config or --folder as where the validator runs; it may be running.
    """


@app.command()
@takes(FOLDER)
def show(given: Given, as_json: AsJson = False) -> None:
    """Show the newest weights: the rules that decided them, what every task counts, everybody's share, and what went to the chain.

    A task's weight comes from its type, its size and its age in blocks; the winners' chances say who gets how much of it.
    """
    from validator.cli import known_ledger
    from validator.pay.explain import in_full, last_verdict
    from validator.settings import ValidatorSettings

    ledger, _ = known_ledger(given.load(ValidatorSettings))
    verdict = last_verdict(ledger)
    if as_json:
        typer.echo(json.dumps(in_full(verdict)))
    else:
        from validator.pay.text import show_verdict

        show_verdict(verdict)


@app.command()
@takes(CHAIN)
def explain(
    given: Given,
    hotkey: Annotated[str | None, typer.Option("--hotkey", help="The miner whose weight is explained.")] = None,
    burn: Annotated[bool, typer.Option("--burn", help="What burning costs the subnet, from the chain.")] = False,
    as_json: AsJson = False,
) -> None:
    """Explain one miner's weight task by task, or with --burn what a `burn_share` costs, before it is set.

    The larger the part of its miners' incentive that goes to its owner, the less of every block's TAO the chain gives to a subnet.
    """
    from validator.settings import ValidatorSettings

    if (hotkey is not None) is burn:
        raise typer.BadParameter("Name a --hotkey, or ask for the price of --burn, and not both")
    settings = given.load(ValidatorSettings)
    if hotkey is None:
        _explain_burning(settings, as_json=as_json)
        return

    from gradients.domain.task import Hotkey
    from validator.cli import known_ledger
    from validator.pay.explain import last_verdict, of_miner

    ledger, _ = known_ledger(settings)
    told = of_miner(last_verdict(ledger), ledger, Hotkey(hotkey))
    if as_json:
        typer.echo(json.dumps(told.in_full()))
    else:
        from validator.pay.text import show_miner

        show_miner(told)


def _explain_burning(settings: ValidatorSettings, *, as_json: bool) -> None:
    """What the subnet would be paid, by the part of the miners' incentive that its owner gets."""
    import asyncio

    from gradients.chain.sdk import SdkGateway
    from gradients.chain.wallet import open_wallet
    from gradients.errors import SetupError

    chain = settings.chain

    async def read() -> EmissionTerms:
        reader = open_wallet("//Reader", "//Reader")  # nothing is signed
        gateway = SdkGateway(chain.network, chain.netuid, reader, timeout_seconds=chain.call_timeout_seconds)
        try:
            return await gateway.emission_terms()
        finally:
            await gateway.close()

    terms = asyncio.run(read())
    if chain.netuid not in terms.subnets:
        raise SetupError(f"Subnet {chain.netuid} of {chain.network} is not paid any TAO yet, so burning costs nothing")
    now = terms.subnets[chain.netuid].miner_burned
    ours = settings.emission.burn_share
    steps = sorted({*BURN_SHARES, ours})
    parts = {step: terms.share_if(chain.netuid, miner_burned=step) for step in steps}
    if as_json:
        told = {
            "network": chain.network,
            "netuid": chain.netuid,
            "burned_now": now,
            "part_now": terms.shares()[chain.netuid],
            "burn_share": ours,
            "parts": [{"burned": step, "part": part} for step, part in parts.items()],
        }
        typer.echo(json.dumps(told))
    else:
        from validator.pay.text import show_burning

        show_burning(parts, burned_now=now, part_now=terms.shares()[chain.netuid], burn_share=ours)
