"""`gradients simulate`: a market of simulated miners against the rules of pay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gradients.errors import SetupError
from gradients.simulator.market import MARKETS, Operator

if TYPE_CHECKING:
    from gradients.simulator.report import Plan, Report


def simulate(
    rules: Annotated[int, typer.Option(min=1, help="Version of the rules.")] = 2,
    market: Annotated[str, typer.Option(help=f"One of {', '.join(MARKETS)}.")] = "honest",
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Runs; each has tasks and draws of its own.")] = 1,
    days: Annotated[int, typer.Option(min=2, max=365, help="Of 20 tasks; the first 7 don't count.")] = 42,
    pool: Annotated[
        int | None, typer.Option(min=1, max=64, help="Miners per task; by default the version's own: 15, 32.")
    ] = None,
    sybils: Annotated[
        int | None, typer.Option(min=1, max=32, help="Hotkeys of one operator with one model; adds what that gains.")
    ] = None,
    skill: Annotated[float, typer.Option(min=0.0, max=2.0, help="The operator's; the best other miner's is 1.")] = 1.0,
    different: Annotated[
        bool, typer.Option("--different", help="The operator hands in different check points of one run.")
    ] = False,
    step: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="In skill, from one check point to the next, with --different.")
    ] = 0.03,
    luck: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Version 2's luck of training, instead of its own.")
    ] = None,
    plots: Annotated[Path | None, typer.Option(help="Folder for pictures of pay by day and by skill.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")] = False,
) -> None:
    """Play a market of 64 hotkeys against a version of the rules, and say who is paid.

    Tasks, miners and validators are simulated; draws, places and weights are made by the rules themselves, and the validators' agreement
    by Yuma.
    """
    from gradients.simulator.report import simulate as play

    operator = Operator(sybils, skill, different, step) if sybils else None
    plan = _plan(rules, market, seeds, days, pool, operator, luck)
    report = play(plan, told=lambda what: typer.echo(what, err=True))
    if plots:
        from gradients.simulator.plots import draw_plots

        for path in draw_plots(report, plots):
            typer.echo(f"wrote {path}", err=True)
    typer.echo(json.dumps(report.said) if as_json else _for_people(report))


def _plan(
    version: int,
    market: str,
    seeds: int,
    days: int,
    pool: int | None,
    operator: Operator | None,
    luck: float | None,
) -> Plan:
    from dataclasses import replace

    from gradients.scoring.chance import Chance
    from gradients.scoring.rules import rules_of
    from gradients.simulator.report import Plan
    from gradients.simulator.run import POOLS

    if market not in MARKETS:
        raise SetupError(f"There is no market '{market}'", fix=f"Choose from {', '.join(MARKETS)}")
    try:
        rules = rules_of(version)
    except ValueError as error:
        raise SetupError(str(error), fix="Choose one of these") from error
    if luck is not None:
        if not isinstance(rules, Chance):
            raise SetupError(f"Version {version} of the rules knows no luck", fix="Leave out --luck")
        rules = replace(rules, luck=luck)
    return Plan(market, rules, seeds, days, pool or POOLS[version], operator)


def _for_people(report: Report) -> str:
    lines = list[str]()
    for name, value in report.said.items():
        if name == "intervals":
            continue
        if isinstance(value, dict):
            lines.extend(f"{name} {part:<16} {each:.4g}" for part, each in value.items())
        else:
            lines.append(f"{name:<20} {value:.4g}" if isinstance(value, float) else f"{name:<20} {value}")
    return "\n".join(lines)
