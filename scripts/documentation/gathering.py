"""Gathers what the site shows in one folder, where everything lies as in the repository, so that the links of documents hold there too."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from scripts.documentation import reference

ROOT = Path(__file__).parents[2]
LINKS = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")


def documents() -> list[Path]:
    """Every document of the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / line for line in sorted(listed.stdout.splitlines()) if (ROOT / line).is_file()]


def linked(document: Path) -> list[Path]:
    """The files beside documents that one of them links to: pictures, examples, settings."""
    found = [(document.parent / link).resolve() for link in LINKS.findall(document.read_text(encoding="utf-8"))]
    return [file for file in found if file.is_file() and file.suffix != ".md"]


def gather(folder: Path) -> None:
    """Make the folder anew, with all documents, what they link to, and the pages of reference."""
    shutil.rmtree(folder, ignore_errors=True)
    for document in documents():
        for file in (document, *linked(document)):
            target = folder / file.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    (folder / "reference").mkdir()
    for name, page in {"commands": reference.commands, "settings": reference.settings, "api": reference.api}.items():
        (folder / "reference" / f"{name}.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    gather(ROOT / ".site")
