"""A package's README.md lists what lies in the package, no less and no more."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3] / "gradients"


@pytest.mark.parametrize("package", ["axon", "chain", "cli", "domain", "testing"])
def test_a_readme_lists_every_file_of_its_package(package: str) -> None:
    folder = ROOT / package
    rows = re.findall(r"^\| (`.+?) \|", (folder / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`([\w/]+(?:\.py|/))`", row)}
    files = {file.name for file in folder.glob("*.py")} - {"__init__.py"}
    folders = {f"{each.parent.name}/" for each in folder.glob("*/__init__.py")}
    assert listed == files | folders
