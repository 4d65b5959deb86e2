"""`gradients localnet --stay` as a process of its own: what it reports, where it serves, what it holds, and commands that use it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOURS = 0.012
MINERS = 2
LONGEST_RUN_SECONDS = 1200
LONGEST_STOP_SECONDS = 300


@dataclass(frozen=True)
class Run:
    """A market that has paid and still stands."""

    types: Sequence[str]
    report: dict[str, Any]
    chain_url: str
    api_url: str
    miner_urls: Sequence[str]  # of the miners' own pages
    peak_bytes: int  # of memory, all processes together, until it had paid
    home: Path

    @property
    def key(self) -> str:
        """The customers' key that the market has made."""
        return next(self.home.rglob("api.key")).read_text().strip()

    def follow(self, command: str, folder: Path) -> str:
        """What a customer's command says, in a shell whose home and working directory are the folder."""
        variables = {"GRADIENTS_API_URL": self.api_url, "GRADIENTS_API_KEY": self.key, "OMP_NUM_THREADS": "1"}
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        done = subprocess.run(
            ["bash", "-euc", command],
            cwd=folder,
            env={"HOME": str(folder), "PATH": path, **variables},
            capture_output=True,
            text=True,
            timeout=LONGEST_RUN_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout


@contextmanager
def running_market(types: Sequence[str], home: Path) -> Iterator[Run]:
    """The market in a home of its own, so that nobody's models are touched; it has to end well when it is told to."""
    flags = ["--types", ",".join(types), "--miners", str(MINERS), "--hours", str(HOURS), "--stay", "--json"]
    with (home / "errors").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "gradients.cli", "localnet", *flags],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={"HOME": str(home), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        )
    watch = threading.Timer(LONGEST_RUN_SECONDS, process.kill)
    watch.start()
    memory = Memory(process.pid)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()  # the only one, when everything is done
        said = (home / "errors").read_text()
        assert line, said[-2000:]
        report = json.loads(line)
        assert "error" not in report, report
        url, api = re.search(r"ws://[\d.]+:\d+", said), re.search(r"http://[\d.]+:\d+", said)
        assert url is not None
        assert api is not None
        pages = re.findall(r"http://127\.0\.0\.\d\d:\d+/", said)  # miners' addresses begin at 127.0.0.10
        yield Run(types, report, url.group(), api.group(), pages, memory.stop(), home)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONGEST_STOP_SECONDS) == 0
    finally:
        watch.cancel()
        memory.stop()
        process.kill()
        if process.stdout is not None:
            process.stdout.close()


class Memory:
    """Watches what a process and all below it hold; what they share counts once (proportional set size)."""

    def __init__(self, pid: int) -> None:
        self._pid, self._peak = pid, 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """The most that was seen, in bytes."""
        self._stopped.set()
        self._thread.join()
        return self._peak

    def _watch(self) -> None:
        while not self._stopped.wait(2.0):
            self._peak = max(self._peak, sum(map(_held_bytes, _family(self._pid))))


def _family(pid: int) -> Iterator[int]:
    yield pid
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in _text(file).split():
            yield from _family(int(child))


def _held_bytes(pid: int) -> int:
    found = re.search(r"^Pss: +(\d+) kB", _text(Path(f"/proc/{pid}/smaps_rollup")), re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0


def _text(file: Path) -> str:
    """Nothing once the process is gone."""
    try:
        return file.read_text()
    except OSError:
        return ""
