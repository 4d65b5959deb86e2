"""Mutation testing of the rules of pay: cosmic-ray's operators on a copy of the sources, one run of the tests for each mutant.

Each run is a fork of this process, which has the libraries loaded but nothing of ours, and begins with the tests of the changed file.

Left out are mutants that cannot change what runs: of annotations, which are never evaluated, of decorators, of words for people, and `is`
for `==` or the other way. A binary operator is replaced by one other, not by eleven, so that arithmetic does not crowd out decisions.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import numpy  # noqa: F401 (loaded once for all the runs that are forked off)
import pydantic  # noqa: F401 (as above)
import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).resolve().parents[1]
SOURCES, TESTS = Path("gradients/scoring"), Path("tests/unit/scoring")
BINARY = {"Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "Pow_Mul", "FloorDiv_Div", "Mod_Mul", "RShift_LShift"}
SKIPPED = ("RemoveDecorator", "ExceptionReplacer", "VariableReplacer", "VariableInserter")
FEW_EXAMPLES = 15  # of each property: a mutant that only the hundredth would notice counts as unnoticed
LOADED_ALREADY = ("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning")
TIMEOUT_SECONDS = 120  # a run of all tests takes a tenth of it; a mutant that goes on for ever is noticed by that


@dataclass(frozen=True)
class Mutant:
    """One small change of one file."""

    file: Path
    operator: str
    occurrence: int
    line: int


def main() -> int:
    """Print survivors, and fail below the floor."""
    parser = argparse.ArgumentParser(prog="scripts/mutants", description=__doc__)
    parser.add_argument("files", nargs="*", help="of gradients/scoring; by default all")
    parser.add_argument("--sample", type=int, default=200, help="so many mutants, drawn by the seed; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--floor", type=float, default=90.0, help="percent of mutants that tests must notice")
    asked = parser.parse_args()
    files = [SOURCES / Path(name).name for name in asked.files] or sorted(
        file.relative_to(ROOT) for file in (ROOT / SOURCES).glob("*.py")
    )
    mutants = [mutant for file in files for mutant in _mutants_of(file)]
    chosen = random.Random(asked.seed).sample(mutants, min(asked.sample or len(mutants), len(mutants)))
    print(f"{len(mutants)} mutants of {len(files)} files, of which {len(chosen)} are tried", flush=True)
    survivors = list[Mutant]()
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        copy = Path(name)
        shutil.copytree(ROOT / "gradients", copy / "gradients", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / TESTS, copy / TESTS, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        if not _tests_pass(copy):
            print("The tests fail without any change", file=sys.stderr)
            return 2
        for number, mutant in enumerate(chosen, start=1):
            if _survives(copy, mutant):
                survivors.append(mutant)
                text = (ROOT / mutant.file).read_text().splitlines()[mutant.line - 1].strip()
                print(
                    f"survives: {mutant.file}:{mutant.line} {mutant.operator} #{mutant.occurrence}: {text}", flush=True
                )
            if number % 20 == 0:
                print(f"{number} tried, {len(survivors)} survive", flush=True)
    killed = 100.0 * (1 - len(survivors) / len(chosen)) if chosen else 100.0
    print(f"{killed:.1f} % of {len(chosen)} mutants are noticed")
    return int(killed < asked.floor)


def _mutants_of(file: Path) -> Iterator[Mutant]:
    """Every change of a file that could change what it does."""
    text = (ROOT / file).read_text()
    silent = _silent_lines(text)
    nodes = list(ast_nodes(get_ast(text)))
    for name in operator_names():
        short = name.partition("/")[2]
        if (
            short in SKIPPED
            or short.endswith(("_Is", "_IsNot", "_Is_Eq", "_IsNot_NotEq"))
            or (short.startswith("ReplaceBinaryOperator_") and short.partition("_")[2] not in BINARY)
        ):
            continue
        operator, occurrence = get_operator(name)(), 0
        for node in nodes:
            for (line, _), _end in operator.mutation_positions(node):
                if line not in silent:
                    yield Mutant(file, name, occurrence, line)
                occurrence += 1


def _silent_lines(text: str) -> set[int]:
    """Lines of annotations, of decorators, of words for people, and of declarations without a value."""
    lines = set[int]()
    for node in ast.walk(ast.parse(text)):
        spans: list[ast.expr | ast.stmt] = []
        if isinstance(node, ast.ClassDef):
            spans = [*node.decorator_list]
        elif isinstance(node, ast.FunctionDef):
            spans = [each.annotation for each in ast.walk(node.args) if isinstance(each, ast.arg) and each.annotation]
            spans += [node.returns] if node.returns else []
        elif (
            (isinstance(node, ast.AnnAssign) and node.value is None)
            or isinstance(node, ast.JoinedStr)
            or (isinstance(node, ast.Constant) and isinstance(node.value, str))
        ):
            spans = [node]
        for span in spans:
            lines.update(range(span.lineno, (span.end_lineno or span.lineno) + 1))
    return lines


def _survives(copy: Path, mutant: Mutant) -> bool:
    """Whether all tests pass with the change."""
    file = copy / mutant.file
    before = file.read_text()
    try:
        file.write_text(mutate_code(before, get_operator(mutant.operator)(), mutant.occurrence))
        return _tests_pass(copy, first=TESTS / f"test_{mutant.file.name}")
    finally:
        file.write_text(before)


def _tests_pass(copy: Path, *, first: Path | None = None) -> bool:
    """Whether all tests of the copy pass, those of the file `first` tried before the others."""
    child = os.fork()
    if child == 0:
        signal.alarm(TIMEOUT_SECONDS)
        os._exit(_run_tests(copy, first))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0


def _run_tests(copy: Path, first: Path | None) -> int:
    """pytest's exit status, in a process that has seen nothing of ours yet."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    os.chdir(copy)
    sys.path[:0] = [str(copy)]
    sys.dont_write_bytecode = True
    hypothesis.settings.register_profile(
        "few", max_examples=FEW_EXAMPLES, phases=[hypothesis.Phase.generate], derandomize=True, database=None
    )
    hypothesis.settings.load_profile("few")
    tests = sorted(TESTS.glob("test_*.py"), key=lambda file: (file != first, file))
    return int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *LOADED_ALREADY, *map(str, tests)]))


if __name__ == "__main__":
    sys.exit(main())
