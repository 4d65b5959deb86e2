"""Descriptors of this process, and how many of them strangers' connections may hold.

A process without a free descriptor can neither ask its chain nor open its ledger. So servers take a part, and the rest is kept for the
daemon's own work. Covers: this process. Does not cover: the machine's own limit, which `ulimit -n` leaves far away.
"""

from __future__ import annotations

import resource

MOST = 65_536  # more would cost memory in workers that inherit the limit, and serve nobody
KEPT = 384  # chain, ledger, outgoing calls, workers' pipes, and connections that are being dropped
SERVERS = 2  # axon and API
PER_CONNECTION = 2  # the socket, and a file that goes out over it
FEWEST_CONNECTIONS, MOST_CONNECTIONS = 16, 1024


def raise_limit() -> int:
    """Raise the soft limit of descriptors to the hard one, within reason; the limit that holds now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return limit()


def limit() -> int:
    """How many descriptors this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else soft


def connections_of_a_server() -> int:
    """How many connections a server of this process may hold."""
    share = (limit() - KEPT) // (SERVERS * PER_CONNECTION)
    return min(max(share, FEWEST_CONNECTIONS), MOST_CONNECTIONS)
