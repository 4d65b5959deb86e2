"""What a market on one machine consists of: its processes, their keys, ports and settings files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gradients.axon.ports import free_ports
from gradients.config import shipped_configs
from gradients.domain.json import Json

DEMO_RECIPES = ("full-tuned", "lora-tuned", "autotrain-default", "lora-plus")
CHAIN_HOST = "127.0.0.1"
VALIDATOR_HOST = "127.0.0.2"  # the chain refuses 127.0.0.1 as an axon's address
FIRST_MINER_OCTET = 10


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for."""

    folder: Path
    types: tuple[str, ...]
    tasks: int  # per type
    miners: int
    seed: int
    hours: float
    block_seconds: float
    tempo_blocks: int
    base: str | None  # instead of the demo's own


@dataclass(frozen=True, slots=True)
class Participant:
    """One daemon: its keys (development URIs), where it serves, and its settings file."""

    name: str
    coldkey: str
    hotkey: str
    host: str
    port: int
    folder: Path
    recipe: str = ""
    page_port: int = 0  # of a miner's own page

    @property
    def page_url(self) -> str:
        """Where a miner's own page is."""
        return f"http://{self.host}:{self.page_port}/"

    @property
    def settings_file(self) -> Path:
        """The TOML that the daemon is started with."""
        return self.folder / "settings.toml"


@dataclass(frozen=True, slots=True)
class Plan:
    """All processes of one market."""

    options: Options
    chain_port: int
    api_port: int
    validator: Participant
    miners: tuple[Participant, ...]

    @property
    def chain_url(self) -> str:
        """Where SDK and btcli connect."""
        return f"ws://{CHAIN_HOST}:{self.chain_port}"

    @property
    def api_url(self) -> str:
        """The customers' API."""
        return f"http://{CHAIN_HOST}:{self.api_port}"

    @property
    def participants(self) -> tuple[Participant, ...]:
        """Everybody with a hotkey."""
        return (self.validator, *self.miners)


def plan_market(options: Options) -> Plan:
    """A plan with free ports; nothing is written yet."""
    chain_port, api_port = free_ports(CHAIN_HOST, 2)
    validator = Participant(
        name="validator",
        coldkey="//Validator",
        hotkey="//Validator//hot",
        host=VALIDATOR_HOST,
        port=free_ports(VALIDATOR_HOST, 1)[0],
        folder=options.folder / "validator",
    )
    miners = []
    for index in range(options.miners):
        name, host = f"miner-{index + 1}", f"127.0.0.{FIRST_MINER_OCTET + index}"
        port, page_port = free_ports(host, 2)
        miners.append(
            Participant(
                name=name,
                coldkey=f"//Miner{index + 1}",
                hotkey=f"//Miner{index + 1}//hot",
                host=host,
                port=port,
                page_port=page_port,
                folder=options.folder / name,
                recipe=DEMO_RECIPES[index % len(DEMO_RECIPES)],
            )
        )
    return Plan(options, chain_port, api_port, validator, tuple(miners))


def write_settings(plan: Plan) -> None:
    """Every daemon's settings file."""
    own: Mapping[str, Json] = {"seed": plan.options.seed}
    sections: Mapping[str, Mapping[str, Json]] = {
        "api": {"host": CHAIN_HOST, "port": plan.api_port},
        "estimate": {"reference": "here"},
        "offer": {
            "retry_seconds": 2.0,
            "quiet_seconds": 5.0,
        },  # all share this machine, so some answer long after others
        "collect": {"reveal_seconds": 120.0},
    }
    _write(plan, plan.validator, own=own, sections=sections)
    for miner in plan.miners:
        recipe = str(shipped_configs() / "recipes" / f"{miner.recipe}.toml")
        own_ports: Mapping[str, Mapping[str, Json]] = {
            "monitoring": {"host": miner.host},
            "page": {"host": miner.host, "port": miner.page_port},
        }
        _write(plan, miner, own={"recipe": recipe}, sections=own_ports)


def _write(
    plan: Plan, who: Participant, *, own: Mapping[str, Json], sections: Mapping[str, Mapping[str, Json]]
) -> None:
    """The settings file of a participant: what all have, and its own. JSON's strings, numbers and booleans are TOML's too."""
    tables: Mapping[str, Mapping[str, Json]] = {
        "": {"folder": str(who.folder), "allow_local_paths": True, **own},
        "chain": {"network": plan.chain_url, "netuid": 1, "refresh_seconds": 2 * plan.options.block_seconds},
        "wallet": {"name": who.coldkey, "hotkey": who.hotkey},
        "axon": {"host": who.host, "port": who.port},
        "log": {"style": "json"},
        **sections,
    }
    lines = []
    for name, table in tables.items():
        lines += [f"\n[{name}]"] if name else []
        lines += [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    who.folder.mkdir(parents=True, exist_ok=True)
    who.settings_file.write_text("\n".join(lines) + "\n", encoding="utf-8")
