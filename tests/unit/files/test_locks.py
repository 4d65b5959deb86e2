"""Locks: held by one, let go of when their holder dies, and a folder that cannot be used is not called busy."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gradients.errors import OperatorError, SetupError
from gradients.files.locks import in_turn, only_one, open_alone

HOLD = """
import sys, time
from pathlib import Path
from gradients.files.locks import only_one
with only_one(Path(sys.argv[1]), what="keeper"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_held_by_one_process_until_it_dies_however_it_dies(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as keeper:
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == "held\n"
        with pytest.raises(SetupError, match="Another keeper is at work in"), only_one(tmp_path, what="keeper"):
            pass
        keeper.send_signal(signal.SIGKILL)
        keeper.wait(timeout=600)
    with only_one(tmp_path, what="keeper"):
        pass


def test_a_folder_that_cannot_be_made_is_not_called_busy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(SetupError, match="cannot be used: Not a directory"),
        only_one(tmp_path / "file" / "x", what="keeper"),
    ):
        pass


def test_what_waits_for_its_turn_comes_after_the_other(tmp_path: Path) -> None:
    events: list[str] = []

    def second() -> None:
        with in_turn(tmp_path / "lock"):
            events.append("second")

    thread = threading.Thread(target=second)
    with in_turn(tmp_path / "lock"):
        thread.start()
        time.sleep(0.1)
        events.append("first")
    thread.join(timeout=600)
    assert events == ["first", "second"]


def test_a_lock_that_cannot_be_made_is_the_operators(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="cannot be written: No such file"), in_turn(tmp_path / "nowhere" / "lock"):
        pass


def test_a_file_that_is_open_alone_cannot_be_opened_so_again_and_keeps_what_it_holds(tmp_path: Path) -> None:
    with open_alone(tmp_path / "part") as first:
        first.write(b"held")
        with pytest.raises(BlockingIOError):
            open_alone(tmp_path / "part")
    with open_alone(tmp_path / "part") as again:
        assert again.read() == b"held"
