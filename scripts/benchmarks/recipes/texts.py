"""Rows from what people wrote: message catalogues, the docstrings and bodies of functions, Debian's list of packages.

None of these is in the demonstration's data. The shipped base has read Python's documentation, which quotes some docstrings; what it knows
by that helps every arm alike.
"""

from __future__ import annotations

import ast
import gettext
import re
import subprocess
import sys
import sysconfig
import textwrap
import zipfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from gradients.errors import OutsideError, SetupError
from gradients.files.whole import whole_folder
from scripts.benchmarks.recipes.rows import LONGEST_TEXT, Pair, Preference

DJANGO = "django==5.2.8"
STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))
SOURCES = Path.home() / ".cache" / "gradients" / "bench"
_SECTIONS = ("admin", "devel", "doc", "fonts", "games", "graphics", "net", "science", "sound", "text", "utils", "web")
_DOWNLOAD_SECONDS = 300
_LEFT_OUT = ("test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "turtledemo", "__pycache__")


class Package(NamedTuple):
    """A line of Debian's list."""

    name: str
    section: str
    synopsis: str


def translation(language: str) -> Iterator[Pair]:
    """Django's messages in English and another language."""
    name = {"es": "Spanish", "lt": "Lithuanian", "pt": "Portuguese"}[language]
    for english, other in messages(language).items():
        yield Pair(f"Translate into {name}: {english}", other)


def spanish_not_portuguese() -> Iterator[Preference]:
    """Django's messages, for which the Spanish answer is preferred to the Portuguese one."""
    other = messages("pt")
    for english, spanish in messages("es").items():
        if english in other and other[english] != spanish:
            yield Preference(f"Say in Spanish: {english}", spanish, other[english])


def docstrings(root: Path) -> Iterator[Pair]:
    """A public function of the modules below a folder, and what its docstring says first."""
    for file, tree, _ in _modules(root):
        for node in _functions(tree):
            said = ast.get_docstring(node)
            first = " ".join(said.split("\n\n")[0].split()) if said else ""
            if 20 <= len(first) <= 200 and not node.name.startswith("_"):
                head = f"{node.name}({ast.unparse(node.args)})"
                if len(head) <= LONGEST_TEXT // 2:
                    yield Pair(f"What does {head} of {file.stem} do?", first)


def function_bodies(root: Path) -> Iterator[Pair]:
    """The head of a short function of the modules below a folder, and its body."""
    for file, tree, source in _modules(root):
        lines = source.splitlines()
        for node in _functions(tree):
            documented = ast.get_docstring(node) is not None
            body = node.body[1:] if documented else node.body
            if not body or len(body) > 6:
                continue
            head = "\n".join(lines[node.lineno - 1 : body[0].lineno - 1])
            text = "\n".join(lines[body[0].lineno - 1 : node.end_lineno])
            if 30 <= len(text) <= 200:
                yield Pair(f"Complete this function of {file.stem}:\n{textwrap.dedent(head)}", textwrap.dedent(text))


def package_summaries() -> Iterator[Pair]:
    """A Debian package, and its one-line description."""
    for package in packages():
        yield Pair(f"Describe the Debian package {package.name} (section {package.section}).", package.synopsis)


def package_sections() -> Iterator[Pair]:
    """A package's description, and the section that it belongs to."""
    for package in packages():
        if package.section in _SECTIONS:
            yield Pair(f"Which section is this package in? {package.name}: {package.synopsis}", package.section)


def package_questions() -> Iterator[Pair]:
    """Three passages, and a question that one of them answers, or none: every fifth."""
    found = packages()
    for number in range(0, len(found) - 4, 4):
        shown, hidden = found[number : number + 3], found[number + 3]
        asked = hidden if number % 5 == 0 else shown[number // 4 % 3]
        passages = "\n".join(f"[{place}] {each.name}: {each.synopsis}" for place, each in enumerate(shown, start=1))
        answer = f"[{shown.index(asked) + 1}] {asked.synopsis}" if asked in shown else "The passages do not say."
        yield Pair(f"{passages}\nWhat is {asked.name}?", answer)


def messages(language: str) -> Mapping[str, str]:
    """English messages of Django with their translations, but for those that are the same or hold a placeholder's mark-up."""
    found: dict[str, str] = {}
    for file in sorted((django() / "django").glob(f"**/locale/{language}/LC_MESSAGES/*.mo")):
        with file.open("rb") as stream:
            catalogue = gettext.GNUTranslations(stream)._catalog  # type: ignore[attr-defined]  # there is no other way to all of it
        for english, other in catalogue.items():
            if isinstance(english, str) and 3 <= len(english) <= 120 and other != english and "\x04" not in english:
                found.setdefault(" ".join(english.split()), " ".join(other.split()))
    return found


@cache
def packages() -> tuple[Package, ...]:
    """Debian's, as this machine knows them."""
    try:
        listing = subprocess.run(
            ["apt-cache", "dumpavail"], capture_output=True, check=True, timeout=120
        ).stdout.decode()
    except (OSError, subprocess.SubprocessError) as error:
        raise SetupError(
            "Debian's list of packages cannot be read",
            fix="Run on Debian after `apt-get update`, or leave its tasks out",
        ) from error
    return read_packages(listing)


def read_packages(listing: str) -> tuple[Package, ...]:
    """Those with a description, by name: of a family of packages (data, development files, languages) the first."""
    found: dict[str, Package] = {}
    stems = set[str]()
    for record in listing.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Section|Description(?:-en)?): (.+)$", record, flags=re.MULTILINE))
        name, synopsis = (
            str(fields.get("Package", "")),
            str(fields.get("Description-en", fields.get("Description", ""))),
        )
        stem = re.split(r"[-0-9.]", name.removeprefix("lib"), maxsplit=1)[0]
        if stem and stem not in stems and 20 <= len(synopsis) <= 90:
            stems.add(stem)
            found[name] = Package(name, str(fields.get("Section", "misc")).rpartition("/")[2], synopsis)
    return tuple(found[name] for name in sorted(found))


@cache
def django() -> Path:
    """Django's wheel, downloaded and unpacked once; it is never run."""
    folder = SOURCES / DJANGO.replace("==", "-")
    if not folder.is_dir():
        with whole_folder(folder) as made:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(made), DJANGO]
            if subprocess.run(pip, check=False, timeout=_DOWNLOAD_SECONDS).returncode:
                raise OutsideError(f"{DJANGO} could not be downloaded", fix="See that pip reaches its index")
            wheel = next(made.glob("*.whl"))
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(made)
            wheel.unlink()
    return folder


def _modules(root: Path) -> Iterator[tuple[Path, ast.Module, str]]:
    for file in sorted(root.rglob("*.py")):
        if not set(file.relative_to(root).parts) & set(_LEFT_OUT):
            source = file.read_text(encoding="utf-8", errors="replace")
            yield file, ast.parse(source), source


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
