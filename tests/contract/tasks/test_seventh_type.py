"""A type that no part of the project has heard of: one folder, installed as packages are, keeps every rule and earns its pay.

It runs in processes of its own, since what is installed is looked up once, when a process first asks for the types.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gradients.tasks.registry import TYPES

ROOT = Path(__file__).parents[3]
NAME = "continuation"
RULES_OF_ALL_TYPES = (
    "tests/contract/tasks/test_types.py",
    "tests/unit/localnet/test_demo.py",
    "tests/unit/tasks/test_registry.py",
)
# Who may know a type by name: the table of types, the versions of the rules of pay, defaults of a command, and the doctor, who
# looks for the packages of either family.
KNOW_TYPES = {
    "gradients/tasks/registry.py",
    "gradients/scoring/chance.py",
    "gradients/scoring/paper.py",
    "gradients/cli/localnet.py",
    "gradients/doctor/software.py",
}


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """The environment of a process in which a package with the type is installed: pip leaves just this folder."""
    about = tmp_path / "site" / "seventh_type-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: seventh-type\nVersion: 1\n")
    (about / "entry_points.txt").write_text(
        "[gradients.task_types]\n"
        f"{NAME} = tests.contract.tasks.seventh_type.spec:CONTINUATION\n"
        "chat = tests.contract.tasks.seventh_type.spec:CONTINUATION\n"
    )
    return {**os.environ, "PYTHONPATH": f"{about.parent}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}


def test_it_is_known_where_it_is_installed_and_takes_no_shipped_types_place(installed: dict[str, str]) -> None:
    program = "from gradients.tasks.registry import all_types; print(sorted(kind.name for kind in all_types()))"
    run = subprocess.run(
        [sys.executable, "-c", program], env=installed, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == str(sorted([*TYPES, NAME]))
    assert NAME not in TYPES


def test_a_type_that_cannot_be_loaded_is_named_before_anything_runs(installed: dict[str, str]) -> None:
    """Otherwise pay would stop with the first epoch."""
    site = Path(installed["PYTHONPATH"].partition(os.pathsep)[0])
    [points] = site.glob("*/entry_points.txt")
    points.write_text(f"[gradients.task_types]\n{NAME} = no_such_package.spec:CONTINUATION\n")
    program = "from validator.pay.emission import Emission; Emission(*[None] * 4)"
    run = subprocess.run(
        [sys.executable, "-c", program], env=installed, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert f"SetupError: The task type '{NAME}' cannot be loaded: No module named 'no_such_package'" in run.stderr


def test_it_keeps_what_all_declarations_must_keep(installed: dict[str, str]) -> None:
    _passes(installed, *RULES_OF_ALL_TYPES, "-k", NAME)


def test_it_goes_from_a_request_to_pay_through_the_real_stages(installed: dict[str, str]) -> None:
    _passes(installed, "tests/contract/tasks/seventh_type/market_run.py")


@pytest.mark.slow
def test_it_is_prepared_trained_and_measured_by_the_rules_of_all_types(installed: dict[str, str]) -> None:
    _passes(installed, "tests/contract/tasks/test_every_type.py", "-k", NAME)


def test_nobody_knows_a_type_by_name_but_its_own_folder_and_the_tables() -> None:
    found = {f"{file}: {name}" for file, name in _names_in_code() if file not in KNOW_TYPES}
    assert found == set()


def _passes(environment: dict[str, str], *arguments: str) -> None:
    """Run these tests where the type is installed; there must be some."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    run = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]


def _names_in_code() -> Iterator[tuple[str, str]]:
    """(file, type) for every text in our code that is a type's name, but for the type's own folder and sample."""
    for package in ("gradients", "validator", "miner"):
        for file in (ROOT / package).rglob("*.py"):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
            for name in {*TYPES, NAME} & texts:
                where = file.relative_to(ROOT)
                if where.parts[:3] != ("gradients", "tasks", name):
                    yield str(where), str(name)
