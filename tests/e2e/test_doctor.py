"""Nineteen faults, planted one by one into a machine on which a doctor finds nothing: each is named alone, with the right mend.

A real chain, real wallets, real files, ports and programs; the commands are processes of their own. `level` "missing" goes with exit
code 1, "note" with 0.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from bittensor import Wallet

from gradients.axon.ports import free_ports
from gradients.cli.flags import settings_of
from gradients.clock import SystemClock
from gradients.localchain.operator import operating
from gradients.testing.chain_process import chain_process
from gradients.testing.clock import HandClock
from gradients.testing.sandboxes import reason_to_skip
from tests.unit.execution.test_accelerator import CPU_BUILD, CUDA_BUILD, plant
from validator.doctor import examine_validator
from validator.ledger.store import open_engine
from validator.settings import ValidatorSettings

HOST = "127.0.0.2"
REASON = reason_to_skip()
needs_bubblewrap = pytest.mark.skipif(bool(REASON), reason=REASON or "there")


@dataclass(frozen=True)
class Machine:
    """A box whose hotkeys "val", "poor" (no permit), "mine" and "new" (not registered) are known to a chain."""

    chain_url: str
    wallets: Path
    folder: Path
    tools: Path  # the only folder of PATH
    variables: dict[str, str] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    launcher: list[str] = field(default_factory=list)  # the command that the doctor's is an argument of

    def command(self, role: str) -> list[str]:
        ports = [f"--axon-host={HOST}", f"--axon-port={free_ports(HOST, 1)[0]}"]
        if role == "validator":
            ports.append(f"--api-port={free_ports('127.0.0.1', 1)[0]}")
        hotkey = {"validator": "val", "miner": "mine"}[role]
        known = ["-w", "own", "-H", hotkey, f"--wallet-path={self.wallets}", "-n", self.chain_url]
        program = [sys.executable, "-m", "gradients.cli", role, "doctor", "--json"]
        return [*self.launcher, *program, *known, *ports, f"--folder={self.folder}", *self.flags]

    def doctor(self, role: str, *flags: str) -> tuple[int, list[Mapping[str, str]]]:
        """The exit code, and what was found."""
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith(("GRADIENTS_", "BT_", "CUDA"))
        }
        here = {"PATH": str(self.tools), "HOME": str(self.folder.parent), "OMP_NUM_THREADS": "1"}
        run = subprocess.run(
            [*self.command(role), *flags],
            env=clean | here | self.variables,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert "Traceback" not in run.stderr, run.stderr[-2000:]
        if run.returncode and run.stdout.startswith('{"error"'):
            error = json.loads(run.stdout)["error"]
            return 1, [{"name": error["code"], "level": "missing", "found": error["message"], "advice": error["fix"]}]
        return run.returncode, json.loads(run.stdout)

    def tool(self, name: str, script: str) -> None:
        """A program of this name, or the real one's place taken."""
        (self.tools / name).unlink(missing_ok=True)
        (self.tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.tools / name).chmod(0o755)


@dataclass(frozen=True)
class Subnet:
    url: str
    wallets: Path


@pytest.fixture(scope="module")
def subnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subnet]:
    home = tmp_path_factory.mktemp("subnet")
    keys = {
        name: Wallet(name="own", hotkey=name, path=str(home / "wallets")) for name in ("val", "poor", "mine", "new")
    }
    keys["val"].create_new_coldkey(use_password=False, suppress=True)
    for wallet in keys.values():
        wallet.create_new_hotkey(use_password=False, suppress=True)
    coldkey = keys["val"].coldkeypub.ss58_address
    with chain_process(home / "chain", "--block-seconds=0.25") as chain:
        asyncio.run(_give(chain.url, coldkey))
        for name in ("val", "poor", "mine"):
            known = ("-w", "own", "-H", name, f"--wallet-path={home / 'wallets'}", "-n", chain.url)
            register = [sys.executable, "-m", "gradients.cli", "register", "--yes", *known]
            run = subprocess.run(register, capture_output=True, text=True, timeout=600, check=False)
            assert run.returncode == 0, run.stderr
        asyncio.run(_give(chain.url, coldkey, staked=keys["val"].hotkey.ss58_address))
        yield Subnet(chain.url, home / "wallets")


async def _give(url: str, coldkey: str, *, staked: str | None = None) -> None:
    async with operating(url) as operator:
        await operator.fund(coldkey, 10**12)
        if staked is not None:
            await operator.stake(coldkey=coldkey, hotkey=staked, netuid=1, rao=10**11)
            await operator.trigger_epoch(1)


@pytest.fixture
def machine(tmp_path: Path, subnet: Subnet) -> Machine:
    """One without a fault; what a test plants is its own."""
    (folder := tmp_path / "daemon").mkdir(mode=0o700)
    shutil.copytree(subnet.wallets, wallets := tmp_path / "wallets")
    (tools := tmp_path / "tools").mkdir()
    for name in ("sh", "bwrap", "dd", "chmod"):
        if real := shutil.which(name):
            (tools / name).symlink_to(real)
    return Machine(subnet.url, wallets, folder, tools)


@needs_bubblewrap
@pytest.mark.parametrize("role", ["validator", "miner"])
def test_a_machine_without_a_fault_passes(machine: Machine, role: str) -> None:
    code, found = machine.doctor(role)
    assert (code, [each for each in found if each["level"] == "missing"]) == (0, [])
    looked_at = {each["name"] for each in found}
    both = {"versions", "memory", "gpu", "sandbox", "folder", "caches", "wallet", "chain", "clock", "registered"}
    own = {"permit", "weights", "ledger", "api"} if role == "validator" else {"recipe"}
    assert both | own | {"axon", "address"} <= looked_at


@needs_bubblewrap
@pytest.mark.parametrize("role", ["validator", "miner"])
def test_a_machine_that_init_has_set_up_passes(machine: Machine, role: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    python, *flags = machine.command(role)
    flags[flags.index("doctor")] = role
    flags[flags.index(role)] = "init"
    subprocess.run([python, *flags, f"--config={file}"], check=True, capture_output=True, timeout=600)
    doctor = [python, "-m", "gradients.cli", role, "doctor", "--config", str(file), "--json"]
    run = subprocess.run(doctor, capture_output=True, text=True, check=False, timeout=600)
    found = {each["name"]: each["level"] for each in json.loads(run.stdout)}
    assert (run.returncode, [name for name, level in found.items() if level == "missing"]) == (0, [])
    assert found["registered"] == "ok"


def no_wallet(machine: Machine) -> None:
    shutil.rmtree(machine.wallets)


def no_coldkeypub(machine: Machine) -> None:
    (machine.wallets / "own" / "coldkeypub.txt").unlink()


def corrupt_hotkey(machine: Machine) -> None:
    for name in ("val", "mine"):
        (machine.wallets / "own" / "hotkeys" / name).write_text('{"secretPhrase": "half a fi')


def misspelt_network(machine: Machine) -> None:
    machine.flags.append("--network=finey")


def wrong_port(machine: Machine) -> None:
    machine.flags.append("--network=ws://127.0.0.1:1")


def no_such_subnet(machine: Machine) -> None:
    machine.flags.append("--netuid=77")


def not_registered(machine: Machine) -> None:
    machine.flags.extend(["-H", "new"])


def no_permit(machine: Machine) -> None:
    machine.flags.extend(["-H", "poor"])


def unreachable_address(machine: Machine) -> None:
    machine.flags.append("--external-ip=203.0.113.7")


def full_folder(machine: Machine) -> None:
    fill = f"dd if=/dev/zero of={machine.folder}/filled bs=4096 2>/dev/null; chmod 0700 {machine.folder}"
    disk = ("--size", str(1 << 20), "--tmpfs", str(machine.folder))
    machine.launcher.extend(["bwrap", "--dev-bind", "/", "/", *disk, "sh", "-c", f'{fill}; exec "$@"', "sh"])


def no_gpu(machine: Machine) -> None:
    assert not (machine.tools / "nvidia-smi").exists()


def torch_for_the_cpu(machine: Machine) -> None:
    _card(machine, torch=CPU_BUILD)


def broken_driver(machine: Machine) -> None:
    machine.tool("nvidia-smi", "echo 'Failed to initialize NVML: Driver/library version mismatch' >&2; exit 18")


def old_driver(machine: Machine) -> None:
    _card(machine, torch=CUDA_BUILD)


def no_bubblewrap(machine: Machine) -> None:
    (machine.tools / "bwrap").unlink()


def refused_namespaces(machine: Machine) -> None:
    machine.tool("bwrap", "echo 'bwrap: No permissions to create new namespace' >&2; exit 1")


def corrupt_ledger(machine: Machine) -> None:
    (machine.folder / "ledger.db").write_bytes(b"no ledger at all" * 512)


def damaged_ledger(machine: Machine) -> None:
    """Its head says that it is one, and a page of it is something else."""
    open_engine(f"sqlite:///{machine.folder}/ledger.db").dispose()
    with closing(sqlite3.connect(machine.folder / "ledger.db")) as ledger:
        ledger.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with (machine.folder / "ledger.db").open("r+b") as file:
        file.seek(2 * 4096)
        file.write(os.urandom(8 * 4096))


def newer_ledger(machine: Machine) -> None:
    open_engine(f"sqlite:///{machine.folder}/ledger.db").dispose()
    with closing(sqlite3.connect(machine.folder / "ledger.db")) as ledger:
        ledger.execute("UPDATE alembic_version SET version_num = '9999_future'")
        ledger.commit()


def recipe_gone(machine: Machine) -> None:
    machine.flags.append("--recipe=configs/recipes/lora_tuned.toml")


def _card(machine: Machine, *, torch: str) -> None:
    """A GPU by nvidia-smi, whose driver knows CUDA up to 11.4, and a planted torch."""
    cards = "*driver_version*) echo 'NVIDIA H100, 81559 MiB, 470.42';; *uuid*) echo '0, GPU-11aa, 81559';;"
    machine.tool("nvidia-smi", f'case "$*" in {cards} *) echo "| NVIDIA-SMI 470.42   CUDA Version: 11.4 |";; esac')
    plant(machine.tools, torch)
    machine.variables["PYTHONPATH"] = str(machine.tools)


Plant = Callable[[Machine], None]
FAULTS: Sequence[tuple[str, Plant, str, str, str, str, str]] = [
    # number, plant, role, name of the finding, level, words that say what it is, words of the mend
    ("1", no_wallet, "validator", "wallet", "missing", "There is no wallet file", "btcli wallet create -w own -H val"),
    ("2", no_coldkeypub, "miner", "wallet", "missing", "coldkeypub.txt", "Copy coldkeypub.txt, which is not a secret"),
    ("3", corrupt_hotkey, "miner", "wallet", "missing", "cannot be opened", "btcli wallet regen-hotkey"),
    ("4", misspelt_network, "validator", "chain", "missing", "'finey' is not a network", "Name finney, test"),
    ("5", wrong_port, "miner", "chain", "missing", "ws://127.0.0.1:1 does not answer", "host and port"),
    ("6", no_such_subnet, "validator", "chain", "missing", "There is no subnet 77", "name another --netuid"),
    (
        "7",
        not_registered,
        "miner",
        "registered",
        "missing",
        "has no uid on subnet 1",
        "gradients register -w own -H new",
    ),
    ("8", no_permit, "validator", "permit", "missing", "none, with a stake of 0.0", "btcli stake add --netuid 1"),
    ("10", unreachable_address, "miner", "address", "missing", "http://203.0.113.7:", "firewall"),
    ("12", no_gpu, "miner", "gpu", "note", "CPU cores", "fine for tiny models"),
    ("13", torch_for_the_cpu, "miner", "gpu", "missing", "torch is a build for the CPU", "pip install"),
    ("14", broken_driver, "validator", "gpu", "missing", "Driver/library version mismatch", "repair the NVIDIA driver"),
    (
        "14b",
        old_driver,
        "miner",
        "driver",
        "missing",
        "CUDA up to 11.4, and torch is built for 12.8",
        "update the NVIDIA",
    ),
    ("15", no_bubblewrap, "miner", "sandbox", "note", "workers cannot run in it", "bubblewrap"),
    ("16", refused_namespaces, "validator", "sandbox", "note", "No permissions to create new namespace", "namespaces"),
    (
        "18a",
        corrupt_ledger,
        "validator",
        "ledger",
        "missing",
        "is corrupt: file is not a database",
        "copy that is whole",
    ),
    ("18b", newer_ledger, "validator", "ledger", "missing", "has the schema 9999_future", "the version that wrote it"),
    ("18c", damaged_ledger, "validator", "ledger", "missing", "is corrupt", "copy that is whole"),
    ("19", recipe_gone, "miner", "recipe", "missing", "lora_tuned.toml cannot be read", "lora-tuned.toml"),
    pytest.param("11", full_folder, "miner", "folder", "missing", "no room", "free some space", marks=needs_bubblewrap),  # type: ignore[list-item]
]


@pytest.mark.parametrize(
    ("number", "fault", "role", "name", "level", "says", "mend"),
    FAULTS,
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_a_planted_fault_is_named_with_its_mend(
    machine: Machine, number: str, fault: Plant, role: str, name: str, level: str, says: str, mend: str
) -> None:
    fault(machine)
    code, found = machine.doctor(role)
    named = [each for each in found if each["name"] == name and says in each["found"]]
    assert {(each["level"], mend in each["advice"]) for each in named} == {(level, True)}, (number, found)
    assert code == (1 if level == "missing" else 0)
    others = [each for each in found if each["level"] == "missing" and each["name"] not in (name, "torch")]
    assert others == []


def test_9_a_port_in_use_is_named_by_its_number(machine: Machine) -> None:
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        machine.flags.append(f"--axon-port={port}")
        code, found = machine.doctor("miner")
    (axon,) = [each for each in found if each["name"] == "axon"]
    assert (code, axon["level"]) == (1, "missing")
    assert f"{HOST}:{port}" in axon["found"]
    assert f"sport = :{port}" in axon["advice"]


@needs_bubblewrap
@pytest.mark.parametrize(("fault", "public"), [(no_bubblewrap, "missing"), (refused_namespaces, "missing")])
def test_a_public_networks_validator_does_not_begin_without_a_sandbox(
    machine: Machine, fault: Plant, public: str
) -> None:
    machine.flags.append("--network=wss://192.0.2.1:9")
    fault(machine)
    _, found = machine.doctor("validator")
    assert [each["level"] for each in found if each["name"] == "sandbox"] == [public, "note"]


@pytest.mark.parametrize(("seconds", "says"), [(86_400, "ahead of"), (-86_400, "behind")])
def test_17_a_clock_that_is_a_day_off_is_named(machine: Machine, seconds: int, says: str) -> None:
    settings = ValidatorSettings.load(
        None,
        settings_of(
            folder=machine.folder,
            chain__network=machine.chain_url,
            wallet__name="own",
            wallet__hotkey="val",
            wallet__path=machine.wallets,
        ),
    )
    found = examine_validator(settings, HandClock(SystemClock().now() + seconds))
    (clock,) = [each for each in found if each.name == "clock"]
    assert clock.level == "missing"
    assert says in clock.found
    assert "timedatectl set-ntp true" in clock.advice


def test_18_a_ledger_that_another_program_holds_is_named(machine: Machine) -> None:
    open_engine(f"sqlite:///{machine.folder}/ledger.db").dispose()
    with closing(sqlite3.connect(machine.folder / "ledger.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        code, found = machine.doctor("validator")
    (ledger,) = [each for each in found if each["name"] == "ledger"]
    assert (code, ledger["level"]) == (1, "missing")
    assert "is locked by another program" in ledger["found"]
    assert "fuser" in ledger["advice"]


def test_a_chain_that_takes_calls_and_says_nothing_is_named(machine: Machine) -> None:
    with _mute() as port:
        machine.flags.append(f"--network=ws://127.0.0.1:{port}")
        code, found = machine.doctor("miner")
    (chain,) = [each for each in found if each["name"] == "chain"]
    assert (code, chain["level"]) == (1, "missing")
    assert "does not answer" in chain["found"]


def test_a_doctor_makes_nothing(machine: Machine) -> None:
    machine.folder.rmdir()
    machine.doctor("validator")
    machine.doctor("miner")
    assert not machine.folder.exists()


def test_fix_makes_the_folder_and_closes_what_others_can_read(machine: Machine) -> None:
    machine.folder.chmod(0o755)
    (machine.wallets / "own" / "hotkeys" / "mine").chmod(0o644)
    _, before = machine.doctor("miner")
    assert {each["name"] for each in before if each["level"] == "note"} >= {"rights", "hotkey"}
    code, after = machine.doctor("miner", "--fix")
    assert code == 0
    assert {"rights", "hotkey"} & {each["name"] for each in after} == set()
    assert machine.folder.stat().st_mode & 0o777 == 0o700
    machine.folder.rmdir()
    machine.doctor("miner", "--fix")
    assert machine.folder.stat().st_mode & 0o777 == 0o700


def test_a_doctor_reads_the_daemons_own_file(machine: Machine, tmp_path: Path) -> None:
    port = free_ports(HOST, 1)[0]
    (file := tmp_path / "validator.toml").write_text(
        f'folder = "{machine.folder}"\n[emission]\nburn_share = 0.1\n[axon]\nport = {port}\n'
    )
    known = [each for each in machine.command("validator") if not each.startswith(("--axon-port", "--folder"))]
    run = subprocess.run([*known, "-c", str(file)], capture_output=True, text=True, timeout=600, check=False)
    found = {each["name"]: each for each in json.loads(run.stdout)}
    assert found["axon"]["found"].startswith(f"{HOST}:{port} ")
    assert str(machine.folder) in found["ledger"]["found"]
    both = [sys.executable, "-m", "gradients.cli", "doctor", "--json", "-c", str(file)]
    run = subprocess.run(both, capture_output=True, text=True, timeout=600, check=False)
    assert str(machine.folder) in {each["name"]: each for each in json.loads(run.stdout)}["disk"]["found"]


def test_a_peer_says_whether_the_public_address_leads_here(machine: Machine) -> None:
    """Something answers at the second address too, and only a peer that looks for the doctor's word knows that it is another's."""
    with _validator(machine) as port:
        _asked(machine, "ok", "leads here, as 1 of 1 peers have tried")
        machine.flags.extend([f"--external-ip={HOST}", f"--external-port={port}"])
        _asked(machine, "missing", "was reached by none of 1 peers: somebody else answers there")


def _asked(machine: Machine, level: str, says: str) -> None:
    """The miner's finding on its address comes to this once a peer answers: none does in its first seconds, and none twice in five."""
    give_up_at = time.monotonic() + 300
    while True:
        _, found = machine.doctor("miner")
        (address,) = [each for each in found if each["name"] == "address"]
        url, _, rest = address["found"].partition(" ")
        if (address["level"], url.rstrip("0123456789"), rest) == (level, f"http://{HOST}:", says):
            return
        assert time.monotonic() < give_up_at, found
        time.sleep(0.5)


@contextmanager
def _validator(machine: Machine) -> Iterator[int]:
    """A validator that runs on the same box in a folder of its own; the port of its axon."""
    port, api = free_ports(HOST, 1)[0], free_ports("127.0.0.1", 1)[0]
    known = ["-w", "own", "-H", "val", f"--wallet-path={machine.wallets}", "-n", machine.chain_url]
    places = [
        f"--axon-host={HOST}",
        f"--axon-port={port}",
        f"--api-port={api}",
        f"--folder={machine.wallets.parent}/val",
    ]
    log = machine.wallets.parent / "validator.log"
    with log.open("w") as output:
        command = [sys.executable, "-m", "gradients.cli", "validator", "run", *known, *places, "--log-style=json"]
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        give_up_at = time.monotonic() + 600
        while "validator_ready" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < give_up_at, log.read_text()
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        assert process.wait(300) == 0, log.read_text()


@contextmanager
def _mute() -> Iterator[int]:
    """A port on which connections are taken and nothing is said."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]
