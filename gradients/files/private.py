"""Folders that only their owner can read: they hold salts, keys, customers' rows and strangers' models.

Covers: what a process makes from now on, and what an earlier one left open to others in a folder. Does not cover: what lies behind symbolic
links, access lists, and whoever works as the same user or as root.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

OTHERS = 0o077  # what groups and strangers may do


def write_privately() -> None:
    """From now on this process and its children make files and folders for their owner alone."""
    os.umask(OTHERS)


def make_private(place: Path) -> int:
    """Take everybody else's rights from a file, or a folder and all that is in it; how many had any. What is not ours stays as it is."""
    inside = (Path(folder) / name for folder, folders, files in os.walk(place) for name in (*folders, *files))
    return sum(_close(path) for path in (place, *inside))


def _close(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError, PermissionError):  # gone meanwhile, or another user's
        if not path.is_symlink() and (mode := path.stat().st_mode) & OTHERS:
            path.chmod(mode & 0o7700)
            return True
    return False
