"""The drawing of the error tree at the head of gradients/errors.py is the tree, whole.

Classes are read from the source of all three packages, so that nothing needs to be imported and nothing that needs torch is missed.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple

import gradients.errors

ROOT = Path(__file__).parents[3]
HOME = "gradients/errors.py"
TOP = "GradientsError"
LINE = re.compile(r"^    (?P<branch>[│├└─ ]*)(?P<name>[A-Z]\w+)(?P<about>.*)$")
WIDTH = 4  # columns of one level


class Error(NamedTuple):
    """One class of the tree."""

    name: str
    parent: str
    file: str


def drawn() -> list[Error]:
    errors: list[Error] = []
    path: list[str] = []
    for line in (gradients.errors.__doc__ or "").splitlines():
        if (found := LINE.match(line)) is None or not (found["branch"] or found["name"] == TOP):
            continue
        path[len(found["branch"]) // WIDTH :] = [found["name"]]
        elsewhere = re.search(r"\w+(/\w+)+\.py", found["about"])
        errors.append(Error(found["name"], path[-2] if path[1:] else "Exception", elsewhere[0] if elsewhere else HOME))
    return errors


def defined() -> list[Error]:
    """Every class that descends from GradientsError by the names of its bases."""
    classes = [
        Error(node.name, base.id if isinstance(base, ast.Name) else base.attr, str(file.relative_to(ROOT)))
        for package in ("gradients", "validator", "miner")
        for file in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        for base in node.bases
        if isinstance(base, ast.Name | ast.Attribute)
    ]
    known, before = {TOP}, set[str]()
    while known != before:
        before = set(known)
        known |= {each.name for each in classes if each.parent in before}
    return [each for each in classes if each.name in known]


def test_the_drawing_is_the_tree() -> None:
    assert sorted(drawn()) == sorted(defined())


def test_a_name_stands_for_one_class() -> None:
    names = [each.name for each in defined()]
    assert len(names) == len(set(names)) > 20
