"""One client's websocket: its calls in order, its subscriptions, and nothing of it left when it goes."""

from __future__ import annotations

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from gradients.domain.json import Json
from gradients.localchain import dev
from gradients.localchain.chain import Chain
from gradients.localchain.rpc.methods import METHODS, header_json, submit
from gradients.localchain.rpc.protocol import (
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    Params,
    RpcError,
    answered,
    failed,
    read,
    text,
)
from gradients.localchain.rpc.subscriptions import HEAD_METHODS, WATCH_METHOD, Subscriptions

UNSUBSCRIBE = ("author_unwatchExtrinsic", *(name.replace("subscribe", "unsubscribe") for name in HEAD_METHODS))

DEV_METHODS = {
    "dev_fund": lambda params: dev.fund(params.text(0), params.integer(1)),
    "dev_stake": lambda params: dev.add_stake(
        params.text(0), params.text(1), netuid=params.integer(2), rao=params.integer(3)
    ),
    "dev_set_hyperparameter": lambda params: dev.set_hyperparameter(
        params.integer(0), params.text(1), params.switch_or_integer(2)
    ),
    "dev_trigger_epoch": lambda params: dev.trigger_epoch(params.integer(0)),
}


class Service:
    """Answers clients of one chain."""

    def __init__(self, chain: Chain, subscriptions: Subscriptions) -> None:
        self._chain = chain
        self._subscriptions = subscriptions

    async def serve(self, connection: ServerConnection) -> None:
        """Answer one client until it goes."""
        try:
            async for message in connection:
                await connection.send(text(await self._answer(connection, message)))
        except ConnectionClosed:
            pass
        finally:
            self._subscriptions.leave(connection)

    async def _answer(self, connection: ServerConnection, message: str | bytes) -> Json:
        try:
            incoming = read(message)
        except RpcError as error:
            return failed(None, error)
        answers: list[Json] = []
        for request in incoming.requests:
            try:
                result = await self._call(connection, request.method, Params(request.params))
                answers.append(answered(request.id, result))
            except RpcError as error:
                answers.append(failed(request.id, error))
        return answers if incoming.is_batch else answers[0]

    async def _call(self, connection: ServerConnection, method: str, params: Params) -> Json:
        if method in METHODS:
            return METHODS[method](self._chain, params)
        if method in HEAD_METHODS:
            name = self._subscriptions.add_head(connection, method)
            # The newest block comes first, maybe before the answer, as from a Substrate node.
            self._subscriptions.send_head(name, header_json(self._chain.head))
            return name
        if method == WATCH_METHOD:
            submitted = submit(self._chain, params)
            return self._subscriptions.add_watch(connection, bytes.fromhex(submitted.removeprefix("0x")))
        if method in UNSUBSCRIBE:
            return self._subscriptions.remove(params.text(0))
        if method in DEV_METHODS:
            try:
                return await self._chain.operate(DEV_METHODS[method](params))  # answers with the block that carries it
            except ValueError as error:
                raise RpcError(INVALID_PARAMS, f"{method}: {error}") from error
        raise RpcError(METHOD_NOT_FOUND, f"Method not found: {method}")
