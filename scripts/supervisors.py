"""What keeps daemons alive, each set up by the files of this project that are for it: pm2, systemd in a Debian of its own, containers."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import yaml  # type: ignore[import-untyped]

from gradients.config import shipped_configs
from gradients.localnet.plan import Participant

ROOT = Path(__file__).parents[1]
PM2 = "pm2@7.0.4"
ROLES = ("validator", "miner")
START_SECONDS = 60.0
CONTAINER_USER = 10001  # of docker/steps
MOST_SHARES = 262_144  # of processors, where others have 1,024
FIRST = "[Service]\nCPUSchedulingPolicy=rr\nCPUSchedulingPriority=5\nCPUSchedulingResetOnFork=yes\n"
# A Debian's own systemd as process 1 of namespaces that end with it; it shares the network, so that the chain is where it is for both.
BOOT = r"""
set -eu
mount --make-rprivate / && mount --bind "$1" "$1" && cd "$1"
mount -t proc proc proc && mount -t tmpfs -o mode=755 tmpfs run && mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev && mkdir dev/pts dev/shm && ln -s /proc/self/fd dev/fd
for device in null zero full random urandom tty; do touch "dev/$device" && mount --bind "/dev/$device" "dev/$device"; done
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts && mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t sysfs -o ro sysfs sys && mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
mkdir sys/fs/cgroup/systemd && mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
exec chroot . /usr/bin/env -i container=unshare PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=multi-user.target
"""


class Supervisor(Protocol):
    """Starts daemons by their role, and starts them again."""

    name: str

    def start(self, who: Participant, role: str) -> Path:
        """Begin to keep the daemon alive, with this participant's settings; the folder that it works in."""
        ...

    def process(self, role: str) -> int:
        """Its process, or 0 while there is none."""
        ...

    def kill(self, role: str, process: int) -> None:
        """End the process of this daemon by SIGKILL."""
        ...

    def end(self) -> None:
        """Everything that was started."""
        ...


class Pm2:
    """A pm2 of this run alone: its own home, its own daemon."""

    name = PM2

    def __init__(self, folder: Path, program: Path | None, home: Path) -> None:
        """By default npm fetches the program."""
        self._program = program or _fetched_pm2(folder)
        self._environment = os.environ | {
            "PM2_HOME": str(folder / "pm2"),
            "GRADIENTS_HOME": str(home),
            "GRADIENTS_BIN": str(Path(sys.executable).with_name("gradients")),
            "OMP_NUM_THREADS": "1",
        }
        self._home = home

    def start(self, who: Participant, role: str) -> Path:
        if (named := self._home / role) != who.folder:
            named.symlink_to(who.folder)
        self._run("start", str(ROOT / "configs" / "pm2" / "ecosystem.config.cjs"), "--only", f"gradients-{role}")
        return who.folder

    def process(self, role: str) -> int:
        listed = json.loads(self._run("jlist").partition("[")[2].join(("[", "")))
        return next(int(each["pid"] or 0) for each in listed if each["name"] == f"gradients-{role}")

    def kill(self, role: str, process: int) -> None:
        os.kill(process, signal.SIGKILL)

    def end(self) -> None:
        self._run("kill")

    def _run(self, *arguments: str) -> str:
        command = [str(self._program), "--silent", *arguments]
        run = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=True, timeout=120)
        return run.stdout


def _fetched_pm2(folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("npm is not installed; name a pm2 by --pm2")
    fetch = [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder / "npm"), PM2]
    subprocess.run(fetch, check=True, timeout=300)
    return folder / "npm" / "node_modules" / ".bin" / "pm2"


class Systemd:
    """A Debian's systemd with the units of configs/systemd as they are; the project is where they expect it, in /opt/gradients."""

    def __init__(self, root: Path, *, first: bool = False) -> None:
        """Boot it. Exits where the root lacks what docs/operators.md installs.

        Args:
            first: daemons, not their workers, go before everything else on this machine, as if they had its cores for themselves.
        """
        for needed in ("lib/systemd/systemd", "usr/bin/bwrap", "opt/gradients/.venv/bin/gradients"):
            if not (root / needed).exists():
                sys.exit(
                    f"{root} has no /{needed}: docs/operators.md, Install, in a Debian that `scripts/fresh --root {root}` makes"
                )
        self._root = root
        self._daemons = root / "var/lib/gradients"
        shutil.rmtree(self._daemons, ignore_errors=True)
        subprocess.run(
            ["chroot", root, "useradd", "--system", "--home-dir", "/var/lib/gradients", "gradients"], check=False
        )
        for file in (ROOT / "configs" / "systemd").glob("gradients-*"):
            shutil.copy(file, root / "etc/systemd/system")
        for role in ROLES:
            beside = root / f"etc/systemd/system/gradients-{role}.service.d"
            shutil.rmtree(beside, ignore_errors=True)
            if first:
                beside.mkdir()
                (beside / "first.conf").write_text(FIRST, encoding="ascii")
        apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--ipc", "--uts", "--cgroup"]
        self._boot = subprocess.Popen([*apart, "bash", "-c", BOOT, "boot", str(root)])
        self._first = _child_of(self._boot.pid)
        until = time.monotonic() + START_SECONDS
        while self._run("systemctl", "is-system-running").strip() not in ("running", "degraded"):
            if time.monotonic() > until or self._boot.poll() is not None:
                sys.exit("systemd did not come up")
            time.sleep(0.2)
        self.name = self._run("systemctl", "--version").partition("\n")[0]

    def start(self, who: Participant, role: str) -> Path:
        place = self._root / "etc/gradients"
        place.mkdir(exist_ok=True)
        (place / f"{role}.toml").write_text(_portable(who), encoding="utf-8")
        self._run("systemctl", "start", f"gradients-{role}")
        return self._daemons / role

    def process(self, role: str) -> int:
        return int(self._run("systemctl", "show", "--property=MainPID", "--value", f"gradients-{role}") or 0)

    def kill(self, role: str, process: int) -> None:
        self._run("kill", "-KILL", str(process))

    def end(self) -> None:
        print(self._run("journalctl", "--no-pager", "--lines=40", "--unit=gradients-*"), file=sys.stderr)
        os.kill(self._first, signal.SIGKILL)  # and with process 1 all others of its namespace
        self._boot.wait(60)

    def _run(self, *command: str) -> str:
        there = ["nsenter", "--target", str(self._first), "--mount", "--pid", "--uts", "--ipc", "--root", "--wd"]
        return subprocess.run([*there, *command], capture_output=True, text=True, check=False, timeout=60).stdout


class Compose:
    """The rules of docker/compose.yml for a service, kept by podman and runc; in place of the image that Debian with its /opt/gradients.

    Nothing of Docker's is here, nor the stores: the ledger is SQLite, the network the machine's.
    """

    def __init__(self, root: Path, folder: Path, *, first: bool = False) -> None:
        """Needs podman, runc and catatonit. With `first`, the validator goes before everything else on this machine."""
        self._root, self._folder, self._first = root, folder / "compose", first
        text = (ROOT / "docker" / "compose.yml").read_text(encoding="utf-8")
        self._services = yaml.safe_load(re.sub(r"\$\{\w+:-(\w+)\}", r"\1", text))["services"]
        self._containers = {role: f"gradients-{role}-{os.getpid()}" for role in ROLES}
        self.name = f"{_said('podman', '--version').strip()}, docker/compose.yml"

    def start(self, who: Participant, role: str) -> Path:
        place = self._folder / role
        (place / ".gradients").mkdir(parents=True)
        (place / "settings.toml").write_text(_portable(who), encoding="utf-8")
        for path in (place, *place.iterdir()):
            os.chown(path, CONTAINER_USER, CONTAINER_USER)
        command = ["/opt/gradients/.venv/bin/gradients", role, "run", "--config", "settings.toml"]
        named = ["--detach", f"--name={self._containers[role]}", f"--volume={place}:/home/gradients", "--network=host"]
        if self._first and role == "validator":
            named.append(f"--cpu-shares={MOST_SHARES}")
        there = [f"--user={CONTAINER_USER}", "--env=HOME=/home/gradients", "--workdir=/home/gradients", "--rootfs"]
        run = ["podman", "--runtime=runc", "run", *named, *_flags(self._services[role]), *there, f"{self._root}:O"]
        subprocess.run([*run, *command, "--folder", f"/home/gradients/{role}"], check=True, stdout=subprocess.DEVNULL)
        return place / role

    def process(self, role: str) -> int:
        first = int(_said("podman", "inspect", "--format={{.State.Pid}}", self._containers[role]) or 0)
        try:
            return int(Path(f"/proc/{first}/task/{first}/children").read_text(encoding="ascii").split()[0])
        except (OSError, IndexError):
            return 0

    def kill(self, role: str, process: int) -> None:
        os.kill(process, signal.SIGKILL)

    def end(self) -> None:
        for container in self._containers.values():
            _said("podman", "rm", "--force", "--time=20", "--ignore", container)


def _flags(service: Mapping[str, Any]) -> list[str]:
    """A service's rules as podman's options; of descriptors no more than this machine gives."""
    most_files = min(service["ulimits"]["nofile"], resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    security = [each.replace("seccomp=.", f"seccomp={ROOT}/docker") for each in service["security_opt"]]
    return [
        *(["--init"] if service["init"] else []),
        *(["--read-only"] if service["read_only"] else []),
        *(f"--cap-drop={each}" for each in service["cap_drop"]),
        *(f"--security-opt={each.replace('systempaths=unconfined', 'unmask=ALL')}" for each in security),
        *(f"--tmpfs={each}" for each in service["tmpfs"]),
        f"--shm-size={service['shm_size'].removesuffix('b')}",
        f"--memory={service['mem_limit']}",
        f"--pids-limit={service['pids_limit']}",
        f"--ulimit=nofile={most_files}:{most_files}",
        f"--ulimit=nproc={most_files}:{most_files}",
        f"--restart={service['restart']}",
        f"--stop-timeout={service['stop_grace_period'].removesuffix('s')}",
    ]


def _portable(who: Participant) -> str:
    """Settings without places of this checkout: a recipe by its name."""
    text = who.settings_file.read_text(encoding="utf-8").replace(f"{shipped_configs()}/recipes/", "")
    return text.replace('.toml"', '"')


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout


def _child_of(process: int) -> int:
    """The one process below, once it is there."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if found := Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii").split():
            return int(found[0])
        time.sleep(0.05)
    sys.exit("unshare has started nothing")
