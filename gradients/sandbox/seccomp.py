"""Filters of system calls: what somebody's bytes never need is refused by the kernel.

Covers: sockets, shared memory that no limit counts, namespaces and mounts, keys, io_uring, bpf, perf, ptrace and the other parts of the
kernel that escapes have used; for programs of strangers also new processes and threads. Does not cover: what is left (files, memory,
signals to itself), which is allowed.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import NamedTuple

from gradients.errors import SetupError

# linux/filter.h, linux/seccomp.h
_LOAD_WORD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _REFUSE, _UNKNOWN = 0x7FFF0000, 0x80000000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
_NUMBER_OFFSET, _ARCHITECTURE_OFFSET, _FIRST_ARGUMENT_OFFSET = 0, 4, 16  # in struct seccomp_data, little-endian
_X32 = 0x40000000  # x86-64's second table of calls starts here
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID and NET, of linux/sched.h


class _Machine(NamedTuple):
    """An architecture and its numbers of the refused calls; the order is that of _NAMES."""

    audit: int  # linux/audit.h
    numbers: tuple[int | None, ...]  # None: it has no such call


_PROCESSES = ("clone", "fork", "vfork")
_SOCKETS = ("socket", "socketpair")
_UNCOUNTED_MEMORY = ("shmget", "semget", "msgget", "mq_open", "memfd_create")
_NAMESPACES = ("pivot_root", "chroot", "mount", "umount2", "unshare", "setns")
_KERNEL = (
    *("ptrace", "process_vm_readv", "process_vm_writev", "kcmp"),
    *("add_key", "request_key", "keyctl"),
    *("perf_event_open", "bpf", "userfaultfd"),
    *("init_module", "delete_module", "finit_module", "kexec_load", "kexec_file_load"),
    *("syslog", "personality", "name_to_handle_at", "open_by_handle_at"),
)
_NAMES = (*_PROCESSES, *_SOCKETS, *_UNCOUNTED_MEMORY, *_NAMESPACES, *_KERNEL)
_X86_64 = _Machine(
    0xC000003E,
    (
        *(56, 57, 58),
        *(41, 53),
        *(29, 64, 68, 240, 319),
        *(155, 161, 165, 166, 272, 308),
        *(101, 310, 311, 312),
        *(248, 249, 250),
        *(298, 321, 323),
        *(175, 176, 313, 246, 320),
        *(103, 135, 303, 304),
    ),
)
_AARCH64 = _Machine(
    0xC00000B7,
    (
        *(220, None, None),
        *(198, 199),
        *(194, 190, 186, 180, 279),
        *(41, 51, 40, 39, 97, 268),
        *(117, 270, 271, 272),
        *(217, 218, 219),
        *(241, 280, 282),
        *(105, 106, 273, 104, 294),
        *(116, 92, 264, 265),
    ),
)
_MACHINES = {"x86_64": _X86_64, "aarch64": _AARCH64}
_CLONE3 = 435  # its flags lie in memory, where no filter can see them
_NEW_EVERYWHERE = (
    *(425, 426, 427),  # io_uring
    *(428, 429, 430, 431, 432, 433, 442),  # open_tree, move_mount, fsopen, fsconfig, fsmount, fspick, mount_setattr
    *(434, 438),  # pidfd_open, pidfd_getfd
)


class Filter(Enum):
    """Which calls are left to whom."""

    PROGRAM = "a stranger's program: one process, one thread"
    WORKER = "our worker on strangers' bytes: threads and processes of its own namespaces"
    DEVICE_WORKER = "a worker on an accelerator, whose driver asks for shared memory and for sockets of this machine"
    NESTING_WORKER = (
        "a worker that starts sandboxes of its own for strangers' programs: namespaces and mounts of its own"
    )


_ALLOWED = {
    Filter.PROGRAM: frozenset[str](),
    Filter.WORKER: frozenset({*_PROCESSES, "socketpair"}),
    Filter.DEVICE_WORKER: frozenset({*_PROCESSES, *_SOCKETS, *_UNCOUNTED_MEMORY}),
    Filter.NESTING_WORKER: frozenset({*_PROCESSES, *_SOCKETS, *_UNCOUNTED_MEMORY, *_NAMESPACES}),
}


def filter_program(kind: Filter = Filter.PROGRAM, machine: str = "") -> bytes:
    """The filter as the kernel reads it (struct sock_filter[]). Raises SetupError on a machine whose calls we don't know."""
    machine = machine or platform.machine()
    if machine not in _MACHINES:
        raise SetupError(
            f"The sandbox knows no system calls of {machine}", code="sandbox_missing", fix="Use x86_64 or aarch64"
        )
    calls = calls_of(machine)
    refused = {number for name, number in calls.items() if name not in _ALLOWED[kind]} | {*_NEW_EVERYWHERE}
    starts_processes = "clone" in _ALLOWED[kind]
    return b"".join(
        [
            _instruction(_LOAD_WORD, _ARCHITECTURE_OFFSET),
            _instruction(_JUMP_EQUAL, _MACHINES[machine].audit, on_true=1),
            _instruction(_RETURN, _KILL),
            _instruction(_LOAD_WORD, _NUMBER_OFFSET),
            *_answering(_JUMP_AT_LEAST, [_X32]),
            *_answering(_JUMP_EQUAL, sorted(refused)),
            # where there is no clone3, the C library starts threads by clone, whose flags can be seen
            *_answering(_JUMP_EQUAL, [_CLONE3], answer=_UNKNOWN if starts_processes else _REFUSE),
            *(_own_namespaces_only(calls["clone"]) if starts_processes and kind is not Filter.NESTING_WORKER else ()),
            _instruction(_RETURN, _ALLOW),
        ]
    )


def calls_of(machine: str) -> Mapping[str, int]:
    """The numbers of the calls that filters name, on x86_64 or aarch64."""
    numbers = zip(_NAMES, _MACHINES[machine].numbers, strict=True)
    return {name: number for name, number in numbers if number is not None}


def _own_namespaces_only(clone: int) -> Iterable[bytes]:
    """Refuses clone with a flag that makes a namespace."""
    yield _instruction(_JUMP_EQUAL, clone, on_false=3)
    yield _instruction(_LOAD_WORD, _FIRST_ARGUMENT_OFFSET)
    yield from _answering(_JUMP_ANY_BIT, [_NEW_NAMESPACES])


def _answering(comparison: int, numbers: Iterable[int], *, answer: int = _REFUSE) -> Iterable[bytes]:
    for number in numbers:
        yield _instruction(comparison, number, on_false=1)
        yield _instruction(_RETURN, answer)


def _instruction(code: int, value: int, *, on_true: int = 0, on_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, on_true, on_false, value)
