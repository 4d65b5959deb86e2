"""What a market on one machine consists of: its processes, their keys, ports and settings files."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
    folder = options.folder
    validator = Participant(
        name="validator",
        coldkey="//Validator",
        hotkey="//Validator//hot",
        host=VALIDATOR_HOST,
        port=free_ports(VALIDATOR_HOST, 1)[0],
        folder=folder / "validator",
    )
    return Plan(options, chain_port, api_port, validator, tuple(_miner(folder, i) for i in range(options.miners)))


def write_settings(plan: Plan) -> None:
    """Every daemon's settings file."""
    _write(plan.validator, _validator_settings(plan))
    for miner in plan.miners:
        _write(miner, _miner_settings(plan, miner))


def free_ports(host: str, count: int) -> list[int]:
    """Ports of `host` that nobody listens on at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((host, 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _miner(folder: Path, index: int) -> Participant:
    host = f"127.0.0.{FIRST_MINER_OCTET + index}"
    name = f"miner-{index + 1}"
    return Participant(
        name=name,
        coldkey=f"//Miner{index + 1}",
        hotkey=f"//Miner{index + 1}//hot",
        host=host,
        port=free_ports(host, 1)[0],
        folder=folder / name,
        recipe=DEMO_RECIPES[index % len(DEMO_RECIPES)],
    )


def _shared_settings(plan: Plan, who: Participant) -> dict[str, Mapping[str, Json]]:
    return {
        "": {"folder": str(who.folder)},
        "chain": {"network": plan.chain_url, "netuid": 1, "refresh_seconds": 2 * plan.options.block_seconds},
        "wallet": {"name": who.coldkey, "hotkey": who.hotkey},
        "axon": {"host": who.host, "port": who.port},
        "log": {"style": "json"},
    }


def _validator_settings(plan: Plan) -> dict[str, Mapping[str, Json]]:
    shared = _shared_settings(plan, plan.validator)
    shared[""] = {**shared[""], "seed": plan.options.seed, "allow_local_paths": True}
    return {
        **shared,
        "api": {"host": CHAIN_HOST, "port": plan.api_port},
        "estimate": {"reference": "here"},
        "offer": {"retry_seconds": 2.0},
        "collect": {"reveal_seconds": 120.0},
    }


def _miner_settings(plan: Plan, miner: Participant) -> dict[str, Mapping[str, Json]]:
    shared = _shared_settings(plan, miner)
    recipe = str(shipped_configs() / "recipes" / f"{miner.recipe}.toml")
    shared[""] = {**shared[""], "recipe": recipe, "allow_local_paths": True}
    return shared


def _write(who: Participant, tables: Mapping[str, Mapping[str, Json]]) -> None:
    """JSON's strings, numbers and booleans are TOML's too."""
    who.folder.mkdir(parents=True, exist_ok=True)
    lines = [line for name, table in tables.items() for line in _table(name, table)]
    who.settings_file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _table(name: str, table: Mapping[str, Json]) -> Sequence[str]:
    header = [f"\n[{name}]"] if name else []
    return header + [f"{key} = {json.dumps(value)}" for key, value in table.items()]
