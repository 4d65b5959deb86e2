"""The table of docs/simulations.md: every market under every version of the rules.

Each case's object is kept in a folder, so that a run that was stopped goes on, and several processes may share the cases. The page names
the cases that it lacks.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gradients.scoring.chance import Chance
from gradients.scoring.rules import VERSIONS
from gradients.simulator.market import MARKETS, Operator
from gradients.simulator.report import Plan, simulate
from gradients.simulator.run import POOLS

PAGE = Path("docs/simulations.md")
LUCKS = (0.0, 0.005, 0.02)  # beside the rules' own
STEPS = (0.0, 0.01)  # beside the market's own
Said = Mapping[str, Any]  # JSON of ours


@dataclass(frozen=True, slots=True)
class Case:
    """One line of a table under one version."""

    name: str
    version: int
    plan: Plan


def cases(seeds: int) -> Iterator[Case]:
    """All of them, the markets first."""
    for version, rules in sorted(VERSIONS.items(), reverse=True):
        plan = Plan("honest", rules, seeds, pool=POOLS[version])
        for market in MARKETS:
            few = max(1, seeds // 3) if market == "validators" else seeds  # of five validators each
            yield Case(market, version, replace(plan, market=market, seeds=few))
        for skill in (1.0, 0.95):
            for hotkeys in (2, 4, 8):
                operator = Operator(hotkeys, skill)
                yield Case(f"one model, skill {skill:g}, {hotkeys} hotkeys", version, replace(plan, operator=operator))
        if isinstance(rules, Chance):
            for luck in LUCKS:
                lucky = replace(rules, luck=luck)
                yield Case(f"check points, luck {luck:g}", version, replace(plan, market="checkpoints", rules=lucky))
            for step in STEPS:
                operator = Operator(4, different=True, step=step)
                yield Case(f"check points, {step:.0%} of skill apart", version, replace(plan, operator=operator))


def page(said: Mapping[tuple[str, int], Said], seeds: int) -> str:
    """The page, from each case's object."""
    versions = sorted({version for _, version in said}, reverse=True)
    lost = [f"{case.name} (version {case.version})" for case in cases(seeds) if (case.name, case.version) not in said]
    parts = [INTRODUCTION.format(seeds=seeds), *([f"Not played yet: {'; '.join(lost)}.\n"] if lost else [])]
    for version in versions:
        parts.append(f"## Version {version}, pool {POOLS[version]}\n\n### Markets\n\n{_markets(said, version)}\n")
        parts.append(f"### What several hotkeys gain\n\n{_gains(said, version)}\n")
    return "\n".join(parts)


INTRODUCTION = """# Simulated markets

Written by `scripts/simulate` ({seeds} seeds; two of five validators each in the market `validators`); what is played is described in
[gradients/simulator](../gradients/simulator/README.md). Brackets hold 95 % intervals of the mean over seeds. Groups are hotkeys that do
the same; `pay` is the share of all pay that a group has in the weeks that count.
"""


def _markets(said: Mapping[tuple[str, int], Said], version: int) -> str:
    lines = [
        "| market | best paid most, of weeks | pay of groups | rank correlation | change a day | validator trust |",
        "|---|---|---|---|---|---|",
    ]
    for market in MARKETS:
        if (market, version) not in said:
            continue
        one = said[market, version]
        spread = one["intervals"]
        groups = ", ".join(
            f"{name} {_share(value, spread['pay'][name])}" for name, value in one["pay"].items() if name != "honest"
        )
        trust = one["validator_trust"]
        lines.append(
            f"| {market} | {_share(one['best_paid_most'], spread['best_paid_most'])} | {groups} | "
            f"{_number(one['spearman'], spread['spearman'])} | {_share(one['change_per_day'], spread['change_per_day'])} | "
            f"{'' if trust is None else f'{trust:.3f}'} |"
        )
    return "\n".join([*lines, "", *_sentences(said, version)])


def _sentences(said: Mapping[tuple[str, int], Said], version: int) -> Iterator[str]:
    if new := said.get(("newcomer", version)):
        days = {
            part: _number(each, new["intervals"]["newcomer_days"][part]) for part, each in new["newcomer_days"].items()
        }
        yield f"A new best miner has 50 % of its later share after {days['50']} days and 90 % after {days['90']}."
    if faults := said.get(("faults", version)):
        ratio = _number(faults["made_good"], faults["intervals"]["made_good"])
        yield "Four miners on whose submissions the validator breaks in 30 % of the cases, and in 5 % of everybody else's, are paid"
        yield f"{ratio} times what they are paid by one that never breaks."
    if validators := said.get(("validators", version)):
        copier = validators["weight_copier"]
        yield f"A validator that sends the others' weights of the day before has a trust of {copier['trust']:.3f} and, for its stake,"
        yield f"{copier['dividends']:.3f} times their dividends."


def _gains(said: Mapping[tuple[str, int], Said], version: int) -> str:
    lines = ["| operator | pay | times the pay of one hotkey |", "|---|---|---|"]
    for (name, of), one in said.items():
        if of == version and "gain" in one:
            pay, gain = one["pay"]["sybils"], one["gain"]
            spread = one["intervals"]
            told = "four check points of one run, 3% of skill apart" if name == "checkpoints" else name
            lines.append(f"| {told} | {_share(pay, spread['pay']['sybils'])} | {_number(gain, spread['gain'])} |")
    return "\n".join(lines)


def _share(value: float, spread: list[float]) -> str:
    return f"{value:.1%} [{max(spread[0], 0.0):.1%}, {min(spread[1], 1.0):.1%}]" if value else "0"


def _number(value: float, spread: list[float]) -> str:
    return f"{value:.3f} [{spread[0]:.3f}, {spread[1]:.3f}]"


def main() -> None:
    """Play what is not kept yet, and write the page when everything is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="case", help="of these cases only; by default all")
    parser.add_argument("--version", type=int, choices=list(VERSIONS), help="of this version of the rules only")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--keep", type=Path, default=Path(".simulations"), help="folder for the cases' objects")
    given = parser.parse_args()
    given.keep.mkdir(parents=True, exist_ok=True)
    files = {}
    for case in cases(given.seeds):
        files[case.name, case.version] = path = given.keep / f"{case.name}, version {case.version}.json"
        asked = case.name in (given.names or [case.name]) and case.version == (given.version or case.version)
        if asked and not path.exists():
            path.write_text(json.dumps(simulate(case.plan).said) + "\n")
            print(f"{case.name}, version {case.version}", flush=True)
    kept = {key: json.loads(path.read_text()) for key, path in files.items() if path.exists()}
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(kept, given.seeds))


if __name__ == "__main__":
    main()
