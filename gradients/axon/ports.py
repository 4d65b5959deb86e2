"""Ports for servers that are about to start."""

from __future__ import annotations

import random
import socket

# Below what Linux (from 32768 on) and others (from 49152 on) give away by themselves, to whoever connects or asks for any port: such a
# port could be somebody else's by the time the server binds it.
_RANGE = range(20_000, 32_768)


def free_ports(host: str, count: int) -> list[int]:
    """Ports of `host` that nobody listens on at this moment, and that no system gives away by itself."""
    found, drawn = list[int](), random.SystemRandom().sample(_RANGE, len(_RANGE))
    while len(found) < count:
        with socket.socket() as listener:
            try:
                listener.bind((host, port := drawn.pop()))
            except OSError:
                continue
        found.append(port)
    return found
