"""The local chain as a process of its own: what a test starts, kills and starts again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gradients.axon.ports import free_ports
from gradients.errors import SetupError

HOST = "127.0.0.1"


class ChainProcess:
    """`gradients localchain` with its chain in `folder`. Every start takes the same port."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self._folder = folder
        self._flags = flags
        self._process: subprocess.Popen[str] | None = None
        self.url = ""
        [self._port] = free_ports(HOST, 1)  # which stays free while a killed chain is down

    def start(self) -> int:
        """Start the chain and wait until it listens; the newest block then. Raises SetupError when it gives up."""
        self._folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "gradients.cli", "localchain", "--json", f"--port={self._port}"]
        with (self._folder / "chain.log").open("a") as log:
            self._process = subprocess.Popen(  # noqa: S603 (our own command)
                [*command, f"--data={self._folder}", *self._flags], stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self._process.stdout is not None  # noqa: S101 (for the type checker: it is a pipe)
        line = self._process.stdout.readline()
        if not line or "error" in (said := json.loads(line)):
            raise SetupError(f"The local chain gave up: {line}", fix=f"Read {self._folder / 'chain.log'}")
        self.url = said["url"]
        return int(said["block"])

    @property
    def process_id(self) -> int:
        """Of the running chain."""
        assert self._process is not None  # noqa: S101 (it was started)
        return self._process.pid

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Nobody gets an answer and no block comes, while connections stay open."""
        assert self._process is not None  # noqa: S101 (it was started)
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL: the process has no time to say or write anything more."""
        self._end(subprocess.Popen.kill)

    def stop(self) -> int:
        """SIGTERM, as an operator stops it; the exit code."""
        return self._end(subprocess.Popen.terminate)

    def _end(self, how: Callable[[subprocess.Popen[str]], None]) -> int:
        if self._process is None:
            return 0
        process, self._process = self._process, None
        how(process)
        process.communicate()
        return process.returncode


@contextmanager
def chain_process(folder: Path, *flags: str) -> Iterator[ChainProcess]:
    """A running chain; `flags` are options of `gradients localchain`."""
    chain = ChainProcess(folder, *flags)
    chain.start()
    try:
        yield chain
    finally:
        chain.kill()
