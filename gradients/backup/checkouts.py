"""A checkout that the software runs from (pip's --editable): to another commit, and back.

Covers: work trees without changes of their own, on a branch that the new commit follows from, or on none (a tag). Everything else is
refused before anything is touched: nobody's work is lost here. Does not cover: what git does not track.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from gradients.config import environment_without
from gradients.errors import OutsideError, SetupError

BY_HAND = "Stop the daemon, `gradients backup`, change the checkout, install it again as README.md does, start it"
_SECONDS = 600.0  # for what a remote sends


@dataclass(frozen=True, slots=True)
class Move:
    """From one commit to another. Both ways raise OperatorError when git says no."""

    folder: Path
    before: str
    after: str
    version: str  # at the other commit

    def forth(self) -> None:
        """Have the other commit's files."""
        _git(self.folder, "reset", "--keep", self.after)  # stops where a change of somebody's would be lost

    def back(self) -> None:
        """Have the files that were there."""
        _git(self.folder, "reset", "--keep", self.before)


def move(folder: Path, to: str | None) -> Move:
    """The way to a commit, tag or branch, or to what the checkout's branch follows, which is fetched.

    Raises SetupError (in_checkout) where there is none without a loss, and OutsideError when a remote does not answer.
    """
    if shutil.which("git") is None or _asked(folder, "rev-parse", "--show-toplevel") != str(folder.resolve()):
        raise _refusal(f"This runs from {folder} itself, which is not a checkout of git")
    if changed := _asked(folder, "status", "--porcelain", "--untracked-files=no"):
        names = ", ".join(line.split(maxsplit=1)[-1] for line in changed.splitlines()[:5])
        raise _refusal(f"The checkout {folder} has changes of its own: {names}", fix="Commit or stash them (git stash)")
    if _asked(folder, "remote"):
        _git(folder, "fetch", "--tags", outside=True)
    wanted = to or "@{upstream}"
    after = _asked(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{wanted}^{{commit}}")
    if not after:
        missing = f"has no {to}" if to else "is on no branch that follows another"
        raise _refusal(f"The checkout {folder} {missing}", fix="Name a commit, tag or branch: --to")
    before = _git(folder, "rev-parse", "HEAD")
    is_ahead = _asked(folder, "merge-base", "--is-ancestor", before, after) is not None
    if not is_ahead and (branch := _asked(folder, "symbolic-ref", "--short", "--quiet", "HEAD")):
        raise _refusal(
            f"{wanted} is not ahead of the branch {branch} in {folder}",
            fix=f"Merge or rebase by hand; or leave the branch first: git -C {folder} checkout --detach",
        )
    text = _asked(folder, "show", f"{after}:gradients/__init__.py") or ""
    return Move(folder, before, after, version_in(text))


def version_in(text: str) -> str:
    """The version that the file gradients/__init__.py names."""
    found = re.search(r"^__version__ = [\"']([^\"']+)", text, flags=re.MULTILINE)
    return found[1] if found else "of no number"


def _refusal(found: str, *, fix: str = BY_HAND) -> SetupError:
    return SetupError(found, code="in_checkout", fix=fix)


def _asked(folder: Path, *arguments: str) -> str | None:
    """What git says, or None when it says no."""
    run = _run(folder, *arguments)
    return run.stdout.strip() if run.returncode == 0 else None


def _git(folder: Path, *arguments: str, outside: bool = False) -> str:
    run = _run(folder, *arguments)
    if run.returncode:
        failed = f"git {arguments[0]} in {folder} failed: {' '.join(run.stderr.split())[-400:]}"
        if outside:
            raise OutsideError(failed, code="git", fix="Check the network and the checkout's remote (git remote -v)")
        raise SetupError(failed, code="git")
    return run.stdout.strip()


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = environment_without("GIT_") | {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    command = ["git", "-C", str(folder), *arguments]
    try:
        return subprocess.run(  # noqa: S603 (our own)
            command, env=environment, capture_output=True, text=True, check=False, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise OutsideError(f"git {arguments[0]} took longer than {_SECONDS:.0f} s", code="git") from error
