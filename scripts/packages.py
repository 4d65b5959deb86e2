"""The packages in their layers, the arrows between them, circles, and modules that no layer covers; read from the imports themselves.

`scripts/structure [--json]` prints it; exit code 1 when there is a circle, an arrow upwards or an uncovered module.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import grimp

ROOT = Path(__file__).parents[1]
DAEMONS = ("validator", "miner")


class Structure(NamedTuple):
    """What the imports say."""

    layers: tuple[tuple[str, ...], ...]  # top first; rooms of one layer don't know each other
    modules: Counter[str]  # of each room
    arrows: Counter[tuple[str, str]]  # (importer, imported) -> import statements between two rooms
    circles: tuple[str, ...]  # imports without which no package would hold a circle
    upwards: tuple[tuple[str, str], ...]
    uncovered: tuple[str, ...]  # modules in no layer


def declared_layers() -> tuple[tuple[str, ...], ...]:
    """The layers of pyproject.toml's contract, the daemons above them."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    layers = next(each["layers"] for each in contracts if each.get("containers") == ["gradients"])
    return (DAEMONS, *(tuple(f"gradients.{room.strip()}" for room in layer.split("|")) for layer in layers))


def structure() -> Structure:
    """Built from scratch: every import of every module, those inside functions included."""
    graph = grimp.build_graph("gradients", *DAEMONS, cache_dir=None)
    layers = declared_layers()
    height = {room: -position for position, layer in enumerate(layers) for room in layer}

    def room_of(module: str) -> str | None:
        first, _, rest = module.partition(".")
        room = first if first in DAEMONS else f"{first}.{rest.partition('.')[0]}"
        return room if room in height else None

    modules, arrows, uncovered = Counter[str](), Counter[tuple[str, str]](), []
    for module in sorted(graph.modules):
        if (room := room_of(module)) is None:
            uncovered += [] if module == "gradients" else [module]
            continue
        modules[room] += 1
        for imported in graph.find_modules_directly_imported_by(module):
            if (other := room_of(imported)) and other != room:
                arrows[room, other] += 1
    packages = {module.rpartition(".")[0] for module in graph.modules if "." in module}
    circles = {pair for package in packages for pair in graph.nominate_cycle_breakers(package)}
    return Structure(
        layers=layers,
        modules=modules,
        arrows=arrows,
        circles=tuple(sorted(f"{importer} -> {imported}" for importer, imported in circles)),
        upwards=tuple(pair for pair in sorted(arrows) if height[pair[1]] >= height[pair[0]]),
        uncovered=tuple(uncovered),
    )


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser(prog="scripts/structure", description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    found, as_json = structure(), parser.parse_args().json
    if as_json:
        rooms = {
            room: {
                "modules": found.modules[room],
                "imports": {
                    to.removeprefix("gradients."): n for (of, to), n in sorted(found.arrows.items()) if of == room
                },
            }
            for layer in found.layers
            for room in layer
        }
        faults = {"circles": found.circles, "upwards": found.upwards, "uncovered": found.uncovered}
        print(json.dumps({"layers": found.layers, "rooms": rooms, **faults}))
    else:
        for layer in found.layers:
            for room in layer:
                below = [
                    f"{to.removeprefix('gradients.')} {n}" for (of, to), n in sorted(found.arrows.items()) if of == room
                ]
                print(
                    f"{room.removeprefix('gradients.'):<12}{found.modules[room]:>4} modules  -> {', '.join(below) or 'nothing'}"
                )
            print()
        print(
            f"{sum(found.modules.values())} modules, {len(found.arrows)} arrows between rooms, {len(found.circles)} circles, "
            f"{len(found.upwards)} arrows upwards, {len(found.uncovered)} uncovered modules"
        )
        print("\n".join((*found.circles, *(f"{of} -> {to}" for of, to in found.upwards), *found.uncovered)))
    sys.exit(bool(found.circles or found.upwards or found.uncovered))


if __name__ == "__main__":
    main()
