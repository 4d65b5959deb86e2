"""Files and folders that nobody but their owner can read."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

from gradients.files.private import make_private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_what_was_open_is_closed_and_what_the_owner_may_do_stays(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    folder.chmod(0o755)
    (folder / "inner").chmod(0o770)
    for name, before in (("rows", 0o644), ("blob", 0o444), ("script", 0o755), ("key", 0o600)):
        (folder / "inner" / name).write_text("")
        (folder / "inner" / name).chmod(before)

    assert make_private(folder) == 5  # two folders and three files

    assert (mode(folder), mode(folder / "inner")) == (0o700, 0o700)
    modes = {path.name: mode(path) for path in (folder / "inner").iterdir()}
    assert modes == {"rows": 0o600, "blob": 0o400, "script": 0o700, "key": 0o600}
    assert make_private(folder) == 0


def test_nothing_behind_a_link_is_touched(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_text("")
    for path in (elsewhere / "file", elsewhere):
        path.chmod(0o755)
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o700)
    (folder / "link").symlink_to(elsewhere)
    (folder / "dangling").symlink_to(tmp_path / "nowhere")

    assert make_private(folder) == 0
    assert (mode(elsewhere), mode(elsewhere / "file")) == (0o755, 0o755)


def test_a_file_alone_is_closed_and_one_that_is_not_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "file").chmod(0o664)

    assert make_private(tmp_path / "file") == 1
    assert mode(tmp_path / "file") == 0o600
    assert make_private(tmp_path / "missing") == 0


DAEMON = """
import asyncio, pathlib, subprocess, sys
from gradients.cli.daemon import run_daemon
from gradients.config import DaemonSettings

folder = pathlib.Path(sys.argv[1])

async def work():
    (folder / "made").mkdir()
    (folder / "made" / "file").write_text("")
    subprocess.run(["touch", str(folder / "made" / "by_a_child")], check=True)

run_daemon(DaemonSettings(folder=folder), work, what="validator")
"""


def test_a_daemon_keeps_all_it_makes_and_finds_to_its_owner_and_says_once_what_it_closed(tmp_path: Path) -> None:
    folder = tmp_path / "daemon"
    folder.mkdir()
    (folder / "ledger.db").write_text("")
    folder.chmod(0o755)
    (folder / "ledger.db").chmod(0o644)

    def run() -> str:
        done = subprocess.run([sys.executable, "-c", DAEMON, str(folder)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        for path in (folder / "made").iterdir():
            path.unlink()
        return done.stdout + done.stderr

    before = os.umask(0o022)
    try:
        first = run()
        (folder / "made").rmdir()
        second = run()
    finally:
        os.umask(before)
    assert first.count("folder_made_private") == 1
    assert "folder_made_private" not in second
    assert {mode(path) for path in folder.iterdir() if path.is_dir()} == {0o700}
    assert {mode(path) for path in folder.iterdir() if path.is_file()} == {0o600}
