"""`gradients audit`: check a validator from its public record and the chain alone."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import TYPE_CHECKING, Annotated

import typer

from gradients.cli.flags import SUBNET, Given, takes
from gradients.errors import SetupError

if TYPE_CHECKING:
    from gradients.audit.report import Report
    from gradients.config import DaemonSettings

EXIT_ALARMS = 3


@takes(SUBNET)
def audit(
    given: Given,
    place: Annotated[
        str, typer.Argument(metavar="URL|FOLDER", help="A validator's API, or a folder of `record export`.")
    ],
    hotkey: Annotated[str | None, typer.Option(help="Whose record it has to be.")] = None,
    chain: Annotated[bool, typer.Option("--chain/--no-chain", help="Compare with the chain of --network.")] = True,
    reevaluate: Annotated[int, typer.Option(min=0, help="Measure so many submissions again, drawn by lot.")] = 0,
    seed: Annotated[int | None, typer.Option(help="Of the lot; without it nobody foresees it.")] = None,
    sources: Annotated[
        bool, typer.Option("--sources/--no-sources", help="Read data sets and split them again.")
    ] = True,
    set_weights: Annotated[
        bool,
        typer.Option("--set-weights", help="Set the recomputed weights with our own hotkey, unless there is an alarm."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
) -> None:
    """Recompute what a validator has published: seals, commitments, splits, draws, places, shares, weights. Exit code 3 after an alarm."""
    from gradients.config import DaemonSettings

    if set_weights and not chain:
        raise SetupError("Weights are set on a chain", fix="Leave --no-chain away")
    report = asyncio.run(
        _audited(
            given.load(DaemonSettings),
            place,
            hotkey=hotkey,
            chain=chain,
            reevaluate=reevaluate,
            seed=secrets.randbits(32) if seed is None else seed,
            sources=sources,
            set_weights=set_weights,
        )
    )
    typer.echo(json.dumps(report.as_json()) if as_json else report.text())
    if report.alarms:
        raise typer.Exit(EXIT_ALARMS)


async def _audited(
    settings: DaemonSettings,
    place: str,
    *,
    hotkey: str | None,
    chain: bool,
    reevaluate: int,
    seed: int,
    sources: bool,
    set_weights: bool,
) -> Report:
    from gradients.audit.auditor import Auditor, Scope
    from gradients.audit.evaluation import Evaluator
    from gradients.audit.setting import set_recomputed
    from gradients.bases.bases import BaseModels
    from gradients.chain.network import Network
    from gradients.chain.sdk import SdkGateway
    from gradients.chain.wallet import nobodys_keys, open_wallet
    from gradients.config import device_environment
    from gradients.datasets.access import Access
    from gradients.execution.process import ProcessExecutor
    from gradients.record.reading import HttpSource, open_source
    from gradients.sandbox.trial import worker_refusal

    network, wallet = Network.parse(settings.chain.network), settings.wallet
    gateway = None
    if chain:
        if set_weights:
            network.check(wallet=wallet.name)
        keys = open_wallet(wallet.name, wallet.hotkey, wallet.path) if set_weights else nobodys_keys()
        gateway = SdkGateway(
            settings.chain.network, settings.chain.netuid, keys, timeout_seconds=settings.chain.call_timeout_seconds
        )
    if (refused := worker_refusal()) is not None:
        typer.echo(f"Models are measured without a sandbox: {refused}", err=True)
    source = open_source(place)
    try:
        bases = BaseModels.default(folders=network.is_local)
        evaluator = Evaluator(
            bases, ProcessExecutor(environment=device_environment(), sandboxed=refused is None), source
        )
        scope = Scope(
            sources=sources,
            reevaluate=reevaluate,
            seed=seed,
            validator=hotkey,
            access=Access(private_addresses=network.is_local),
        )
        report = await Auditor(source, scope, gateway, evaluator).run()
        if set_weights and report.alarms:
            report.notes.append("no weights were set: there are alarms")
        elif set_weights and gateway is not None:
            report.notes.append(await set_recomputed(list(report.bodies.values()), gateway))
        return report
    finally:
        if gateway is not None:
            await gateway.close()
        if isinstance(source, HttpSource):
            source.close()
