"""What the documents say is what there is: commands, flags, layers, packages, links."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from gradients.cli.main import SUBCOMMANDS
from scripts.packages import declared_layers
from tests.conftest import LONGEST

ROOT = Path(__file__).parents[3]
DOCUMENTS = sorted(
    file
    for pattern in (
        "*.md",
        "*/README.md",
        "gradients/**/README.md",
        "validator/**/README.md",
        "configs/**/*.md",
        "docs/*.md",
        "tests/README.md",
    )
    for file in ROOT.glob(pattern)
    if ".venv" not in file.parts
)


def commands(document: Path) -> list[list[str]]:
    """The lines of a document's code blocks that call `gradients` or one of our scripts, as words; continued lines are joined."""
    blocks = re.findall(r"```\n(.*?)```", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    calls = [line for line in lines if re.match(r"(\.venv/bin/)?gradients [a-z]|scripts/[a-z]", line)]
    return [shlex.split(line, comments=True) for line in calls]


README_COMMANDS = commands(ROOT / "README.md")


def test_the_readme_names_commands_of_every_kind() -> None:
    named = {Path(words[0]).name for words in README_COMMANDS}
    assert {"gradients", "localnet", "test"} <= named
    assert {words[1] for words in README_COMMANDS if Path(words[0]).name == "gradients"} >= {
        "register",
        "miner",
        "validator",
        "task",
    }


@pytest.mark.parametrize("words", [*README_COMMANDS, *commands(ROOT / "docs" / "delivery.md")], ids=" ".join)
def test_a_command_of_the_readme_or_of_delivery_exists_with_all_its_flags(words: list[str]) -> None:
    program, *rest = words
    if program.startswith("scripts/"):
        assert (ROOT / program).is_file()
        if program != "scripts/localnet":
            return
        rest = ["localnet", *rest]
    subcommands = [
        word
        for word in rest[:2]
        if re.fullmatch(r"[a-z]+", word)
        and (word in SUBCOMMANDS or rest[0] in ("task", "miner", "validator", "record"))
    ]
    help_ = subprocess.run(
        [sys.executable, "-m", "gradients.cli", *subcommands, "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    ).stdout
    known = set(re.findall(r"(?<![\w-])--?[A-Za-z][\w.-]*", help_))
    assert [word for word in rest if re.fullmatch(r"--?[A-Za-z][\w.-]*", word) and word not in known] == []


def test_flags_that_the_readme_mentions_belong_to_a_command() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    mentioned = set(re.findall(r"`(?:scripts/\w+ )?(--[a-z][\w.-]*)", text))
    help_ = ""
    for command in (["localnet"], ["register"], ["miner", "run"], ["validator", "run"], ["task", "submit"], ["doctor"]):
        help_ += subprocess.run(
            [sys.executable, "-m", "gradients.cli", *command, "--help"],
            capture_output=True,
            text=True,
            check=True,
            timeout=600,
        ).stdout
    usage = "".join((ROOT / "scripts" / name).read_text(encoding="utf-8") for name in ("test", "check", "localnet"))
    assert [flag for flag in sorted(mentioned) if flag not in help_ and flag not in usage] == []


def test_architecture_draws_the_layers_of_the_contract() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    block = text.partition("```\n")[2].partition("```")[0]
    rooms = r"(?:gradients\.[a-z]+|validator|miner)"
    drawn = [
        tuple(re.findall(rooms, match[1]))
        for match in re.finditer(rf"^({rooms}(?: \| {rooms})*)", block, flags=re.MULTILINE)
    ]
    assert drawn == [tuple(layer) for layer in declared_layers()]


def test_every_package_has_a_readme() -> None:
    """A package of one subject that stands below another (localchain's pallets, a task type's rewards) is told of in the one above."""
    missing = []
    for package in [
        *ROOT.glob("gradients/*/"),
        *ROOT.glob("gradients/tasks/*/"),
        ROOT / "validator",
        ROOT / "validator/ledger",
        ROOT / "miner",
    ]:
        if not (package / "__init__.py").is_file():
            continue
        readme = package / "README.md"
        text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
        if not text:
            missing.append(f"{package.relative_to(ROOT)}: no README.md")
    assert missing == []


@pytest.mark.parametrize(
    "package",
    [file.parent for file in DOCUMENTS if (file.parent / "__init__.py").is_file()],
    ids=lambda folder: str(folder.relative_to(ROOT)),
)
def test_the_table_of_a_packages_readme_lists_what_lies_there_no_less_and_no_more(package: Path) -> None:
    text = (package / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.+?) \|", text, flags=re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`([\w./]+(?:\.py|/))`", row)}
    if not listed:  # told of in prose
        return
    files = {file.name for file in package.glob("*.py")} - {"__init__.py", "__main__.py"}
    folders = {f"{each.parent.name}/" for each in package.glob("*/__init__.py")}
    assert sorted((files | folders) - listed) == []
    assert [name for name in sorted(listed) if not (package / name).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_and_files_that_a_document_names_are_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    links = [link.partition("#")[0] for link in re.findall(r"\]\((?!https?:)([^)#]*[^)]*)\)", text)]
    lost = [link for link in links if link and not (document.parent / link).exists() and not (ROOT / link).exists()]
    paths = set(re.findall(r"`((?:gradients|validator|miner|configs|scripts|tests|docker)/[\w./-]+)`", text))
    lost += [path for path in sorted(paths) if not (ROOT / path.rstrip("/")).exists()]
    assert lost == []


def test_the_changelog_stands_under_the_version_in_the_package() -> None:
    from gradients import __version__

    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "## Unreleased" in text or f"## {__version__}" in text


def test_pre_commit_runs_what_ci_runs() -> None:
    assert "entry: scripts/check" in (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert "scripts/check" in (ROOT / ".ci/run").read_text(encoding="utf-8")
    with (ROOT / "pyproject.toml").open("rb") as file:
        assert tomllib.load(file)["tool"]["mypy"]["strict"] is True


def test_the_files_that_take_longest_are_there() -> None:
    """Those of tests/conftest.py, which begin; a name that nothing has orders nothing."""
    assert [name for name in LONGEST if not list((ROOT / "tests").rglob(name))] == []
