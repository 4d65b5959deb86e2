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


def gather(folder: Path) -> None:
    """Make the folder anew, with all documents, what they link to (pictures, examples, settings), and the pages of reference."""
    shutil.rmtree(folder, ignore_errors=True)
    for document in documents():
        text = document.read_text(encoding="utf-8")
        for link in dict.fromkeys(LINKS.findall(text)):
            linked = (document.parent / link).resolve()
            if linked.is_dir():  # which a site cannot show: its README.md, or a list of its files
                text = text.replace(f"]({link})", f"]({link.rstrip('/')}/README.md)")
                _list(linked, folder)
            elif linked.is_file() and linked.suffix != ".md":
                _copy(linked, folder)
        _write(folder / document.relative_to(ROOT), text)
    _copy(ROOT / "docs" / "site.css", folder)
    for name, page in {"commands": reference.commands, "settings": reference.settings, "api": reference.api}.items():
        _write(folder / "reference" / f"{name}.md", page())


def _list(listed: Path, folder: Path) -> None:
    """A page with the files of a directory that has no README.md."""
    if (listed / "README.md").is_file():
        return
    files = [file for file in sorted(listed.iterdir()) if file.is_file()]
    for file in files:
        _copy(file, folder)
    name = listed.relative_to(ROOT)
    lines = [f"# {name}", "", *(f"- [{file.name}]({file.name})" for file in files)]
    _write(folder / name / "README.md", "\n".join(lines) + "\n")


def _copy(file: Path, folder: Path) -> None:
    target = folder / file.relative_to(ROOT)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)


def _write(target: Path, text: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    gather(ROOT / ".site")
