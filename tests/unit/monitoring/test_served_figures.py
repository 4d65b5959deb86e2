"""The page for operators lists what daemons serve and say, no more and no less, and the files name nothing else."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[3]
FILES = ROOT / "configs" / "monitoring"
PAGE = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
RULES: list[dict[str, Any]] = [  # Any: YAML
    rule
    for group in yaml.safe_load((FILES / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
DASHBOARDS = {name: json.loads((FILES / f"{name}.json").read_text(encoding="utf-8")) for name in ("validator", "miner")}
LEVELS = ("debug", "info", "warning", "error", "exception")
NAME = re.compile(r"[a-z]+(_[a-z]+)*")


@cache
def served(daemon: str) -> dict[str, str]:
    """Name -> kind of every figure of ours that the daemon's process has, with the endings that Prometheus sees."""
    program = f"import {daemon}.wiring, prometheus_client; print(prometheus_client.generate_latest().decode())"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=600, cwd=ROOT
    )
    kinds = {}
    for family in text_string_to_metric_families(run.stdout):
        if family.name.startswith("gradients_") and not family.name.endswith("_created"):
            kinds[family.name + ("_total" if family.type == "counter" else "")] = family.type
    return kinds


def series(daemon: str) -> set[str]:
    """Every name that an expression may use."""
    endings = {"histogram": ("_bucket", "_sum", "_count")}
    return {name + end for name, kind in served(daemon).items() for end in endings.get(kind, ("",))}


def table(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading of the page, without its head."""
    lines = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0].splitlines()
    rows = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return rows[2:]


def named_in(expression: str) -> set[str]:
    return set(re.findall(r"\bgradients_[a-z_]+", expression))


def expressions(dashboard: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


@pytest.mark.parametrize("daemon", ["validator", "miner"])
def test_the_page_lists_the_figures_that_a_daemon_serves(daemon: str) -> None:
    listed = {name for name, _, whose, _ in table("Figures") if whose in (daemon, "both")}
    assert listed == set(served(daemon))


@pytest.mark.parametrize("daemon", ["validator", "miner"])
def test_a_dashboard_shows_what_its_daemon_serves(daemon: str) -> None:
    shown = set().union(*map(named_in, expressions(DASHBOARDS[daemon])))
    assert shown - series(daemon) == set()
    variables = json.dumps(DASHBOARDS[daemon]["templating"])
    assert named_in(variables) == {"gradients_info"}


@pytest.mark.parametrize("daemon", ["validator", "miner"])
def test_a_dashboard_shows_every_figure_of_its_daemon_but_plain_ones(daemon: str) -> None:
    shown = {
        re.sub(r"_(bucket|sum|count)$", "", name)
        for name in set().union(*map(named_in, expressions(DASHBOARDS[daemon])))
    }
    unshown = set(served(daemon)) - shown
    common = {"gradients_chain_block", "gradients_sandboxed"}  # one grows, the other is an alert
    own = {
        "validator": {"gradients_incentive_ratio"},
        "miner": {"gradients_stake_alpha", "gradients_http_request_seconds"},
    }
    assert unshown - common - own[daemon] == set()


@pytest.mark.parametrize("daemon", ["validator", "miner"])
def test_panels_of_a_dashboard_have_their_own_place_and_number(daemon: str) -> None:
    panels = DASHBOARDS[daemon]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24  # Grafana's columns


def test_alerts_ask_for_what_is_served_and_the_page_has_each() -> None:
    asked = set().union(*(named_in(rule["expr"]) for rule in RULES))
    assert asked - series("validator") - series("miner") == set()
    assert [row[0] for row in table("Alerts")] == [f"{r['alert']}` ({r['labels']['severity']})" for r in RULES]
    assert [row[2] for row in table("Alerts")] == [rule["annotations"]["remedy"] for rule in RULES]


def events_of_the_code() -> dict[str, set[str]]:
    """Event -> its levels, of every call that logs one by a literal name."""
    found: dict[str, set[str]] = {}
    files = (file for root in ("gradients", "validator", "miner") for file in (ROOT / root).rglob("*.py"))
    for node in (node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))):
        if not (isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)):
            continue
        name, how = node.args[0].value, node.func
        level = (
            how.attr
            if isinstance(how, ast.Attribute)
            else {"OnceAMinute": "warning", "tell": "warning"}.get(ast.unparse(how))
        )
        is_log = isinstance(how, ast.Name) or "log" in ast.unparse(how).split(".")[0]
        if is_log and level in LEVELS and isinstance(name, str) and NAME.fullmatch(name):
            found.setdefault(name, set()).add("error" if level == "exception" else str(level))
    return found


def test_the_page_lists_every_event_of_the_code_with_its_level() -> None:
    """A new event gets its line in docs/monitoring.md: tools look for these names."""
    by_argument = {"weights_held_back", "weights_bent"}  # Emission._say is given the name
    listed = {event: level for event, level, _, _ in table("Log lines")}
    there = events_of_the_code()
    assert sorted(set(listed) - by_argument) == sorted(there)
    assert {event: levels for event, levels in there.items() if levels != {listed[event]}} == {}
    emission = (ROOT / "validator" / "pay" / "emission.py").read_text(encoding="utf-8")
    assert all(f'"{event}"' in emission for event in by_argument)


def test_events_are_listed_in_their_order() -> None:
    names = [row[0] for row in table("Log lines")]
    assert names == sorted(names)
