"""Which error codes the code can say, read from its source.

A code is the `default_code` of a class, or a text that is given as `code`: by keyword, or by position to whatever of ours has a parameter
of that name. Codes of others (the chain's error names, `http_` and a status) are not known before they are heard.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

from bittensor.http_auth import AuthError

from gradients.axon.server import CODE_OF_STATUS
from gradients.chain.sdk import WANTED

ROOT = Path(__file__).parents[2]
PACKAGES = ("gradients", "validator", "miner")
FAKES = ROOT / "gradients" / "testing"
TABLES = (*WANTED, *CODE_OF_STATUS.values(), *(each.__name__ for each in AuthError.__subclasses__()))


def codes() -> frozenset[str]:
    """Every code of every package that ships, but for those that only the fakes for tests say."""
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py") if FAKES not in file.parents]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    places = {name: place for node in nodes for name, place in _taking(node)}
    found = {text for node in nodes for value in _given(node, places) for text in _texts(value)}
    return frozenset({*found, *TABLES} - {""})


def _taking(node: ast.AST) -> Iterator[tuple[str, int]]:
    """The name of a function or class that takes a code by position, and at which."""
    names: list[str] = []
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        names = [argument.arg for argument in node.args.args]
    elif isinstance(node, ast.ClassDef):
        names = [
            each.target.id
            for each in node.body
            if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
        ]
        for each in node.body:
            if isinstance(each, ast.FunctionDef) and each.name == "__init__":
                names = [argument.arg for argument in each.args.args[1:]]
    if "code" in names:
        yield getattr(node, "name", ""), names.index("code")


def _given(node: ast.AST, places: Mapping[str, int]) -> Iterator[ast.expr]:
    """The values that one node gives as a code."""
    match node:
        case ast.Assign(targets=[ast.Name("default_code")], value=value):
            yield value
        case ast.FunctionDef(name="_how"):  # a code and a clause for how a worker ended: gradients/execution/endings.py
            yield from (
                each.value.elts[0]
                for each in ast.walk(node)
                if isinstance(each, ast.Return) and isinstance(each.value, ast.Tuple)
            )
        case ast.Call(func=ast.Name(name) | ast.Attribute(attr=name)):
            yield from (keyword.value for keyword in node.keywords if keyword.arg == "code")
            if name in places:
                yield from node.args[places[name] :][:1]


def _texts(value: ast.expr) -> Iterator[str]:
    """What a text, or a choice between two, can be."""
    match value:
        case ast.Constant(str(text)):
            yield text
        case ast.IfExp():
            yield from _texts(value.body)
            yield from _texts(value.orelse)
