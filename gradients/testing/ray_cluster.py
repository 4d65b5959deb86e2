"""A real Ray cluster of this machine's own: a head and nodes on loopback addresses, with a token, each to be killed and started."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from gradients.axon.ports import free_ports

_START_SECONDS = 300
_OBJECT_STORE_BYTES = 80 * 1024**2
CPUS = 2  # of a node
HEAD = "127.0.0.2"  # Ray takes 127.0.0.1 for any machine's own name


class RayCluster:
    """A cluster whose nodes are processes of this machine."""

    def __init__(self, folder: Path) -> None:
        """Args:
        folder: short, since sockets lie below it.
        """
        self._folder = folder
        self.token = secrets.token_hex(20)
        [self.port] = free_ports(HEAD, 1)
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def address(self) -> str:
        """Where drivers and nodes find the head."""
        return f"{HEAD}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What drivers need to be let in."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token, "HOME": str(self._folder)}

    def start(self, ip: str = HEAD, *, cpus: int = CPUS) -> None:
        """Start the head, or a node at another loopback address, and wait until it is up."""
        place = (
            ["--head", f"--port={self.port}", "--include-dashboard=false"]
            if ip == HEAD
            else [f"--address={self.address}"]
        )
        log = self._folder / f"{ip}.log"
        with log.open("wb") as output:
            self._nodes[ip] = subprocess.Popen(  # noqa: S603 (ours)
                [
                    *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"),
                    *place,
                    f"--node-ip-address={ip}",
                    f"--num-cpus={cpus}",
                    f"--object-store-memory={_OBJECT_STORE_BYTES}",
                    *([f"--temp-dir={self._folder / 'ray'}"] if ip == HEAD else []),
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={
                    **os.environ,
                    **self.environment,
                    "GRADIENTS_WORKER_FOLDER": str(self._folder / ip),
                    "RAY_worker_niceness": "0",  # at Ray's own 15 they starve beside whatever else a test machine does
                    "RAY_health_check_initial_delay_ms": "1000",
                    "RAY_health_check_period_ms": "500",
                    "RAY_health_check_failure_threshold": "4",
                },
            )
        over = time.monotonic() + _START_SECONDS
        while b"Ray runtime started" not in (said := log.read_bytes()):
            if time.monotonic() > over or self._nodes[ip].poll() is not None:
                raise AssertionError(f"The node {ip} did not start: {said.decode(errors='replace')}")
            time.sleep(0.2)

    def kill(self, ip: str = HEAD) -> None:
        """Kill a node with everything that it runs, as a power cut does."""
        process = self._nodes.pop(ip)
        for each in _family(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        process.wait()

    @contextlib.contextmanager
    def running(self) -> Iterator[RayCluster]:
        """The head for the body, and whatever is started in it."""
        try:
            self.start()
            yield self
        finally:
            for ip in list(self._nodes):
                self.kill(ip)


def _family(pid: int) -> list[int]:
    """A process and all that come from it, parents first."""
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)  # noqa: S603, S607
    return [pid, *(each for child in children.stdout.split() for each in _family(int(child)))]
