"""The import contracts refuse what they promise to refuse: a wrong import is planted in a copy of the tree, and import-linter names it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from scripts.packages import DAEMONS, declared_layers, structure

ROOT = Path(__file__).parents[3]
LAYERS = declared_layers()
STAGES = ("prepare", "offer", "collect", "measure", "score")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what the contracts are about."""
    for package in ("gradients", *DAEMONS):
        for file in (ROOT / package).rglob("*.py"):
            target = tmp_path / file.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    shutil.copyfile(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    return tmp_path


def plant(tree: Path, module: str, *imports: str) -> None:
    """A module at the dotted name that imports others; one that stands there keeps what it holds."""
    base = tree.joinpath(*module.split("."))
    file = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    lines = "".join(f"import {name}\n" for name in imports)
    file.write_text((file.read_text() if file.is_file() else "") + "\n" + lines)


def verdict(tree: Path) -> tuple[bool, str]:
    """Whether all contracts are kept, and what import-linter says, unwrapped."""
    run = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": str(tree), "COLUMNS": "400"},
        capture_output=True,
        text=True,
        check=False,
    )
    return run.returncode == 0, run.stdout + run.stderr


def broken(said: str) -> set[str]:
    """Names of the contracts that are broken."""
    return {line.partition(" BROKEN")[0] for line in said.splitlines() if " BROKEN" in line}


def test_the_tree_keeps_every_contract_and_every_module_stands_in_a_layer(tree: Path) -> None:
    kept, said = verdict(tree)
    assert kept, said
    found = structure()
    assert (found.circles, found.upwards, found.uncovered) == ((), (), ())


def test_an_import_of_the_layer_above_is_refused_in_every_layer(tree: Path) -> None:
    planted = []
    for above, below in pairwise(LAYERS[1:]):
        for room in below:
            single = tree.joinpath(*room.split(".")).with_suffix(".py").is_file()
            module = room if single else f"{room}.planted"
            plant(tree, module, above[0])
            planted.append((module, above[0]))
    plant(tree, f"{LAYERS[1][0]}.planted", "validator.settings")
    kept, said = verdict(tree)
    assert not kept
    assert {"Every part looks downwards only", "The daemons stand above everything and apart"} <= broken(said)
    assert [pair for pair in planted if f"{pair[0]} -> {pair[1]}" not in said] == []
    assert f"{LAYERS[1][0]}.planted -> validator.settings" in said


@pytest.mark.parametrize("layer", [layer for layer in LAYERS if len(layer) > 1], ids=" | ".join)
def test_rooms_of_one_layer_do_not_know_each_other(tree: Path, layer: tuple[str, ...]) -> None:
    one, other = layer[0], layer[1]
    single = tree.joinpath(*one.split(".")).with_suffix(".py").is_file()
    plant(tree, one if single else f"{one}.planted", other)
    kept, said = verdict(tree)
    assert not kept
    assert f"{one if single else one + '.planted'} -> {other}" in said


def test_a_module_or_package_that_no_layer_covers_is_refused(tree: Path) -> None:
    plant(tree, "gradients.stray", "gradients.errors")
    kept, said = verdict(tree)
    assert not kept
    assert "Every part looks downwards only" in broken(said)
    assert "stray" in said


def test_a_circle_inside_a_package_is_refused(tree: Path) -> None:
    plant(tree, "gradients.axon.planted_here", "gradients.axon.planted_there")
    plant(tree, "gradients.axon.planted_there", "gradients.axon.planted_here")
    kept, said = verdict(tree)
    assert not kept
    assert broken(said) == {"No circles, anywhere"}
    assert "planted" in said


@pytest.mark.parametrize(
    "module", ["gradients.datasets.planted", "gradients.chain.planted", "validator.stages.planted", "miner.planted"]
)
def test_torch_is_kept_out_of_the_control_plane_by_whatever_way(tree: Path, module: str) -> None:
    plant(tree, module, "gradients.ml.device" if module != "miner.planted" else "gradients.tasks.workers.training")
    kept, said = verdict(tree)
    assert not kept
    assert "The control plane never imports torch" in broken(said)


def test_task_types_and_stages_do_not_know_their_like(tree: Path) -> None:
    plant(tree, "gradients.tasks.chat.planted", "gradients.tasks.dpo.spec")
    plant(tree, "gradients.tasks.rag.spec", "gradients.tasks.workers.training")
    for one, other in pairwise(STAGES):
        plant(tree, f"validator.stages.{one}", f"validator.stages.{other}")
    kept, said = verdict(tree)
    assert not kept
    names = {
        "Task types don't know each other",
        "A type's declaration never imports torch",
        "Stages don't know each other",
    }
    assert names <= broken(said)
    assert "gradients.tasks.chat.planted -> gradients.tasks.dpo.spec" in said
    assert all(f"validator.stages.{one} -> validator.stages.{other}" in said for one, other in pairwise(STAGES))
