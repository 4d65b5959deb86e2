"""A client for what only the operator of a local chain may do: money, stake, parameters and epochs out of nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from gradients.domain.json import Json
from gradients.errors import ChainRefused, ChainUnreachable
from gradients.localchain.pallets.subtensor import RAO_PER_TAO as RAO_PER_TAO


class Operator:
    """One connection. Every change stands in a block when its method returns. Raises ChainRefused and ChainUnreachable."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = count(1)

    async def fund(self, address: str, rao: int) -> None:
        """Give an account TAO."""
        await self.request("dev_fund", address, rao)

    async def stake(self, *, coldkey: str, hotkey: str, netuid: int, rao: int) -> None:
        """Put alpha on a hotkey for a coldkey, which becomes the hotkey's owner when it has none."""
        await self.request("dev_stake", coldkey, hotkey, netuid, rao)

    async def set_hyperparameter(self, netuid: int, name: str, value: int | bool) -> None:
        """Set a hyper-parameter by the name that btcli has for it."""
        await self.request("dev_set_hyperparameter", netuid, name, value)

    async def trigger_epoch(self, netuid: int) -> None:
        """Let the epoch run with the block after the one that this stands in."""
        await self.request("dev_trigger_epoch", netuid)

    async def request(self, method: str, *params: Json) -> Json:
        """Any JSON-RPC method's result."""
        message = {"jsonrpc": "2.0", "id": next(self._numbers), "method": method, "params": list(params)}
        try:
            await self._connection.send(json.dumps(message))
            answer = json.loads(await self._connection.recv())
        except WebSocketException as error:
            raise ChainUnreachable(f"The local chain went away during {method}") from error
        if "error" in answer:
            raise ChainRefused(f"{method}: {answer['error']['message']}", code=method)
        result: Json = answer["result"]
        return result


@asynccontextmanager
async def operating(url: str) -> AsyncIterator[Operator]:
    """An operator's connection to the local chain at `url`. Raises ChainUnreachable."""
    try:
        connection = await connect(url, compression=None)
    except (OSError, WebSocketException) as error:
        raise ChainUnreachable(f"No local chain answers at {url}", fix="Start one: gradients localchain") from error
    async with connection:
        yield Operator(connection)
