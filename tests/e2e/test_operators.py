"""docs/operators.md, followed word for word on a chain of one machine: its blocks marked `sh`, in their order, in one shell's words.

What a person does beside them is done here: coldkeys get TAO, questions get their answer, and a daemon that runs is stopped once the next
step needs it no more.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gradients.axon.ports import free_ports
from gradients.chain.wallet import open_wallet
from gradients.localchain.operator import operating
from gradients.testing.chain_process import chain_process
from gradients.testing.sandboxes import reason_to_skip
from tests.e2e.guides import DOCS, commands

REASON = reason_to_skip()
START_SECONDS = 300.0
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(REASON), reason=REASON or "there")]


def steps() -> list[str]:
    """The commands of the document that are to be followed, without the first line, which names what differs."""
    lines = commands(DOCS / "operators.md")
    assert lines[0].startswith("NETWORK=test NETUID=56 ADDRESS=")
    return lines[1:]


@dataclass
class Operator:
    """Somebody with a home, a shell, and this project on PATH."""

    home: Path
    variables: Mapping[str, str]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def environment(self, *, ports: Mapping[str, str]) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("GRADIENTS_", "BT_"))}
        path = f"{Path(sys.executable).parent}:{clean['PATH']}"
        return clean | {"HOME": str(self.home), "PATH": path, "OMP_NUM_THREADS": "1", **self.variables, **ports}

    def follow(self, line: str, ports: Mapping[str, str]) -> str:
        """Run a command and answer yes; what it says."""
        run = subprocess.run(
            ["bash", "-euc", line],
            env=self.environment(ports=ports),
            cwd=self.home,
            input="y\n",
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert run.returncode == 0, f"{line}\n{run.stdout}{run.stderr}"
        return run.stdout

    def begin(self, role: str, line: str, ports: Mapping[str, str]) -> None:
        """Start a daemon, and wait until it answers."""
        with (self.home / f"{role}.log").open("wb") as log:
            self.running[role] = subprocess.Popen(
                ["bash", "-euc", f"exec {line}"],
                env=self.environment(ports=ports),
                cwd=self.home,
                stdout=log,
                stderr=log,
            )
        url = f"http://127.0.0.1:{ports['GRADIENTS_AXON__PORT']}/livez"
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            assert self.running[role].poll() is None, (self.home / f"{role}.log").read_text()
            with suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
                assert answer.status == 200
                return
            time.sleep(0.2)
        pytest.fail(f"{role} did not answer: {(self.home / f'{role}.log').read_text()}")


@contextmanager
def operator(home: Path, variables: Mapping[str, str]) -> Iterator[Operator]:
    person = Operator(home, variables)
    try:
        yield person
    finally:
        for process in person.running.values():
            process.send_signal(signal.SIGTERM)
        codes = {role: process.wait(timeout=120) for role, process in person.running.items()}
        assert set(codes.values()) <= {0}, codes


def test_the_operators_guide_leads_from_nothing_to_a_running_miner_and_validator(tmp_path: Path) -> None:
    ports = {
        role: {"GRADIENTS_AXON__PORT": str(axon), "GRADIENTS_API__PORT": str(api)}
        for role, (axon, api) in {"miner": free_ports("127.0.0.1", 2), "validator": free_ports("127.0.0.1", 2)}.items()
    }
    ports["miner"].pop("GRADIENTS_API__PORT")
    said: dict[str, str] = {}
    with (
        chain_process(tmp_path / "chain", "--block-seconds=0.25") as chain,
        operator(tmp_path, {"NETWORK": chain.url, "NETUID": "1", "ADDRESS": "127.0.0.2"}) as person,
    ):
        for line in steps():
            role = "validator" if "validator" in line else "miner"
            if line.startswith("btcli wallet create"):
                (tmp_path / ".bittensor").mkdir(exist_ok=True)
                person.follow(f"{line} --no-password", ports[role])  # nobody is here to type one
                asyncio.run(_fund(chain.url, tmp_path))
            elif line.startswith("btcli wallet"):
                person.follow(line, ports[role])
            elif line.startswith("btcli"):
                person.follow(f"{line} --yes", ports[role])
                asyncio.run(_epoch(chain.url))
            elif " run " in line:
                person.begin(role, line, ports[role])
            else:
                said[line] = person.follow(line, ports[role])
        doctors = [text for line, text in said.items() if " doctor " in line]
        assert len(doctors) == 2
        assert all("MISSING" not in text and "registered" in text for text in doctors)
        (key,) = (text for line, text in said.items() if "validator key" in line)
        assert len(key.strip()) >= 32
        assert {process.poll() for process in person.running.values()} == {None}
        assert "weights_version" in said["gradients subnet check -n $NETWORK --netuid $NETUID"]


async def _fund(url: str, home: Path) -> None:
    keys = open_wallet("own", "miner", home / ".bittensor" / "wallets")
    async with operating(url) as operator_:
        await operator_.fund(keys.coldkeypub.ss58_address, 10**12)


async def _epoch(url: str) -> None:
    async with operating(url) as operator_:
        await operator_.trigger_epoch(1)
