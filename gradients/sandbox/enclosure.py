"""What our own worker sees while it reads strangers' bytes: Python, our packages, what its job names, and nothing else of this machine.

Covers: files (all but the named ones are not there), processes, memory and environment of everybody else, the network with loopback, rights
(none), new namespaces, and the system calls of `seccomp.py`. Does not cover: flaws of the kernel and of an accelerator's driver behind
what is left, how full it makes the disk that its folders lie on, and what it writes there: whoever reads that must not trust it.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gradients.sandbox.bubblewrap import NOBODY, bwrap, python_files
from gradients.sandbox.seccomp import Filter

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_ETC = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime")
_PROCESSORS = "/sys/devices/system"  # how many there are and what they can: libraries choose their code by it
_SCRATCH_BYTES = 64 * 1024 * 1024  # of memory, in /tmp; what is large goes to TMPDIR
# NVIDIA: all of nvidia0, nvidiactl, nvidia-uvm, nvidia-caps (NVIDIA's container toolkit binds the same); AMD: kfd and dri; WSL: dxg.
_DEVICES = ("nvidia*", "kfd", "dri", "dxg")
_DEVICE_FILES = ("/sys/bus", "/sys/devices", "/sys/module", "/run/nvidia-persistenced", "/etc/OpenCL", "/opt/rocm")


@dataclass(frozen=True, slots=True)
class Enclosure:
    """A sandbox for one worker."""

    reads: Sequence[Path] = ()  # files and folders
    writes: Sequence[Path] = ()  # folders that exist
    packages: Sequence[str] = ("gradients",)  # top-level packages outside of the environment's own folders
    accelerator: bool = False  # whether this machine's are shown to it
    runs_programs: bool = False  # whether it starts sandboxes of its own, for strangers' programs

    def filter(self) -> Filter:
        """Which system calls are left to it."""
        if self.runs_programs:
            return Filter.NESTING_WORKER
        return Filter.DEVICE_WORKER if self.accelerator else Filter.WORKER

    def arguments(self, *, dev: Path = Path("/dev")) -> list[str]:
        """bwrap and its arguments, to be followed by --seccomp, --json-status-fd and the command.

        Args:
            dev: where devices are looked for.

        Raises SetupError when there is no bubblewrap.
        """
        return [
            bwrap(),
            *("--unshare-user", "--unshare-all", "--uid", NOBODY, "--gid", NOBODY, "--hostname", "sandbox"),
            *(() if self.runs_programs else ("--disable-userns",)),
            *("--cap-drop", "ALL", "--die-with-parent"),
            *_system(),
            *("--proc", "/proc", "--dev", "/dev", "--ro-bind-try", _PROCESSORS, _PROCESSORS),
            *("--size", str(_SCRATCH_BYTES), "--tmpfs", "/tmp"),  # noqa: S108 (inside)
            *(_accelerator(dev) if self.accelerator else ()),
            *self._shown(),
            *("--remount-ro", "/"),
        ]

    def _shown(self) -> Iterator[str]:
        """Files and folders at their own paths, the outer ones first: what lies deeper has the last word."""
        shown = {
            **{_absolute(path): "--ro-bind-try" for path in (*_python(), *map(_package, self.packages), *self.reads)}
        }
        shown |= {_absolute(path): "--bind" for path in self.writes}
        for path in sorted(shown):
            yield from (shown[path], str(path), str(path))


def devices(dev: Path = Path("/dev")) -> list[Path]:
    """The accelerators of this machine, as files."""
    return sorted(found for pattern in _DEVICES for found in dev.glob(pattern))


def _system() -> Iterator[str]:
    for path in map(Path, _SYSTEM):
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), str(path))
        elif path.is_dir():
            yield from ("--ro-bind", str(path), str(path))
    for file in _ETC:
        yield from ("--ro-bind-try", file, file)


def _accelerator(dev: Path) -> Iterator[str]:
    for path in devices(dev):
        yield from ("--dev-bind", str(path), str(path))
    for place in _DEVICE_FILES:
        yield from ("--ro-bind-try", place, place)


def _python() -> Iterable[Path]:
    """The interpreter, its standard library, and the folders that packages were installed into."""
    installed = {Path(place) for place in sys.path if Path(place).name in ("site-packages", "dist-packages")}
    return {Path(sys.prefix), Path(sys.base_prefix), *python_files(), *installed}


def _package(name: str) -> Path:
    """The folder of a top-level package. Raises ModuleNotFoundError."""
    spec = importlib.util.find_spec(name)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    if not folders:
        raise ModuleNotFoundError(f"there is no package {name}")
    return Path(folders[0])


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 (a link keeps its name)
