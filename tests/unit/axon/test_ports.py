"""Ports that are given to servers before they start."""

from __future__ import annotations

import socket
from pathlib import Path

from gradients.axon.ports import free_ports

HOST = "127.0.0.2"


def test_no_port_is_named_twice_or_taken_or_one_that_the_system_gives_away() -> None:
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    with socket.create_server((HOST, free_ports(HOST, 1)[0])) as server:
        found = free_ports(HOST, 8000)
        assert len(set(found)) == 8000
        assert server.getsockname()[1] not in found
        assert not [port for port in found if low <= port <= high]
        assert min(found) >= 1024
