"""Who wants to hear of new blocks, and of transactions."""

from __future__ import annotations

from collections import defaultdict
from itertools import count
from typing import NamedTuple

from websockets.asyncio.server import ServerConnection, broadcast

from gradients.domain.json import Json
from gradients.localchain.author import Built
from gradients.localchain.rpc.methods import header_json, hexed
from gradients.localchain.rpc.protocol import notification

HEAD_METHODS = {
    "chain_subscribeNewHeads": "chain_newHead",
    "chain_subscribeFinalizedHeads": "chain_finalizedHead",
    "chain_subscribeAllHeads": "chain_allHead",
}
WATCH_METHOD = "author_submitAndWatchExtrinsic"
WATCH_NOTIFICATION = "author_extrinsicUpdate"


class Subscription(NamedTuple):
    """One listener: a connection, and the method that its messages carry."""

    connection: ServerConnection
    notification: str


class Subscriptions:
    """All listeners. Messages are handed to the sockets and not waited for: a slow client does not hold up the others."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._heads: dict[str, Subscription] = {}
        self._watches: dict[bytes, dict[str, Subscription]] = defaultdict(dict)

    def add_head(self, connection: ServerConnection, method: str) -> str:
        """Listen to new blocks; the subscription's name. Every block is final here the moment it stands."""
        name = self._name()
        self._heads[name] = Subscription(connection, HEAD_METHODS[method])
        return name

    def add_watch(self, connection: ServerConnection, extrinsic_hash: bytes) -> str:
        """Listen to what becomes of a transaction; the subscription's name."""
        name = self._name()
        self._watches[extrinsic_hash][name] = Subscription(connection, WATCH_NOTIFICATION)
        return name

    def remove(self, name: str) -> bool:
        """Stop listening; whether there was such a listener."""
        if self._heads.pop(name, None):
            return True
        return any(watchers.pop(name, None) for watchers in self._watches.values())

    def leave(self, connection: ServerConnection) -> None:
        """Forget everything that a closed connection listened to."""
        for table in (self._heads, *self._watches.values()):
            for name in [name for name, each in table.items() if each.connection is connection]:
                del table[name]

    def send_head(self, name: str, head: Json) -> None:
        """Tell one listener of a block."""
        self._send(name, self._heads[name], head)

    def publish(self, built: Built) -> None:
        """Tell everybody of a new block and of the transactions that it settles."""
        header = built.block.header
        head = header_json(header)
        for name in list(self._heads):
            self.send_head(name, head)
        for extrinsic in built.included:
            for name, watcher in self._watches.pop(extrinsic.hash, {}).items():
                self._send(name, watcher, {"inBlock": hexed(header.hash)})
                self._send(name, watcher, {"finalized": hexed(header.hash)})
        for extrinsic in built.dropped:
            for name, watcher in self._watches.pop(extrinsic.hash, {}).items():
                self._send(name, watcher, "invalid")

    def _name(self) -> str:
        return f"subscription-{next(self._numbers)}"

    @staticmethod
    def _send(name: str, subscription: Subscription, result: Json) -> None:
        broadcast([subscription.connection], notification(subscription.notification, name, result))
