"""A filter of system calls: what a program that only computes never needs is refused by the kernel.

Covers: new processes and threads, sockets, shared memory that no limit counts, namespaces and mounts, keys, io_uring, bpf, perf
and the other parts of the kernel that escapes have used. Does not cover: what is left (files, memory, signals to itself), which
is allowed.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Iterable
from typing import NamedTuple

from gradients.errors import SetupError

# linux/filter.h, linux/seccomp.h
_LOAD_WORD, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000 | errno.EPERM
_NUMBER_OFFSET, _ARCHITECTURE_OFFSET = 0, 4  # in struct seccomp_data
_X32 = 0x40000000  # x86-64's second table of calls starts here


class _Calls(NamedTuple):
    """Where an architecture keeps the refused calls."""

    architecture: int  # linux/audit.h
    refused: frozenset[int]


_NEW_EVERYWHERE = (
    *(425, 426, 427),  # io_uring
    *(428, 429, 430, 431, 432, 433, 442),  # open_tree, move_mount, fsopen, fsconfig, fsmount, fspick, mount_setattr
    *(434, 435, 438),  # pidfd_open, clone3, pidfd_getfd
)
_X86_64 = (
    *(56, 57, 58),  # clone, fork, vfork
    *(41, 53),  # socket, socketpair
    *(29, 64, 68, 240, 319),  # shmget, semget, msgget, mq_open, memfd_create
    *(155, 161, 165, 166, 272, 308),  # pivot_root, chroot, mount, umount2, unshare, setns
    *(101, 310, 311, 312),  # ptrace, process_vm_readv, process_vm_writev, kcmp
    *(248, 249, 250),  # add_key, request_key, keyctl
    *(298, 321, 323),  # perf_event_open, bpf, userfaultfd
    *(175, 176, 313, 246, 320),  # modules and kexec
    *(103, 135, 303, 304),  # syslog, personality, name_to_handle_at, open_by_handle_at
)
_AARCH64 = (
    220,  # clone
    *(198, 199),
    *(194, 190, 186, 180, 279),
    *(41, 51, 40, 39, 97, 268),
    *(117, 270, 271, 272),
    *(217, 218, 219),
    *(241, 280, 282),
    *(105, 106, 273, 104, 294),
    *(116, 92, 264, 265),
)
_CALLS = {
    "x86_64": _Calls(0xC000003E, frozenset(_X86_64 + _NEW_EVERYWHERE)),
    "aarch64": _Calls(0xC00000B7, frozenset(_AARCH64 + _NEW_EVERYWHERE)),
}


def filter_program(machine: str = "") -> bytes:
    """The filter as the kernel reads it (struct sock_filter[]). Raises SetupError on a machine whose calls we don't know."""
    machine = machine or platform.machine()
    if machine not in _CALLS:
        raise SetupError(
            f"The sandbox knows no system calls of {machine}", code="sandbox_missing", fix="Use x86_64 or aarch64"
        )
    calls = _CALLS[machine]
    return b"".join(
        [
            _instruction(_LOAD_WORD, _ARCHITECTURE_OFFSET),
            _instruction(_JUMP_EQUAL, calls.architecture, on_true=1),
            _instruction(_RETURN, _KILL),
            _instruction(_LOAD_WORD, _NUMBER_OFFSET),
            *_refusing(_JUMP_AT_LEAST, [_X32]),
            *_refusing(_JUMP_EQUAL, sorted(calls.refused)),
            _instruction(_RETURN, _ALLOW),
        ]
    )


def _refusing(comparison: int, numbers: Iterable[int]) -> Iterable[bytes]:
    for number in numbers:
        yield _instruction(comparison, number, on_false=1)
        yield _instruction(_RETURN, _REFUSE)


def _instruction(code: int, value: int, *, on_true: int = 0, on_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, on_true, on_false, value)
