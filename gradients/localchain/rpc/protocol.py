"""JSON-RPC 2.0: what comes in, what goes out, and errors in the words of a Substrate node."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from gradients.domain.json import Json, JsonObject
from gradients.localchain.pool import PoolRefusal

INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
PARSE_ERROR = -32700
UNKNOWN_BLOCK = 4003
RUNTIME_FAILED = 4003


class RpcError(Exception):
    """A request that gets an error for an answer."""

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    @classmethod
    def of_pool(cls, refusal: PoolRefusal) -> RpcError:
        """The pool's refusal, in a node's words."""
        return cls(*refusal.value)

    def as_json(self) -> JsonObject:
        error: dict[str, Json] = {"code": self.code, "message": self.message}
        if self.data is not None:
            error["data"] = self.data
        return error


class Request(BaseModel):
    """One call. `params` is a list, as every client of Substrate nodes sends it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: int | str | None = None
    method: str
    params: list[JsonValue] = Field(default_factory=list)


class Incoming(NamedTuple):
    """The calls in one message; a batch is answered by a list."""

    requests: list[Request]
    is_batch: bool


_REQUESTS: TypeAdapter[list[Request] | Request] = TypeAdapter(list[Request] | Request)


def read(text: str | bytes) -> Incoming:
    """The calls in a message. Raises RpcError."""
    try:
        calls = _REQUESTS.validate_json(text)
    except ValidationError as error:
        is_json = all(problem["type"] != "json_invalid" for problem in error.errors())
        raise RpcError(
            INVALID_REQUEST if is_json else PARSE_ERROR, "Invalid request" if is_json else "Parse error"
        ) from error
    return Incoming(calls, is_batch=True) if isinstance(calls, list) else Incoming([calls], is_batch=False)


def answered(request_id: int | str | None, result: Json) -> JsonObject:
    """A call's result."""
    return {"jsonrpc": "2.0", "id": request_id, "result": result}


def failed(request_id: int | str | None, error: RpcError) -> JsonObject:
    """A call's error."""
    return {"jsonrpc": "2.0", "id": request_id, "error": error.as_json()}


def notification(method: str, subscription: str, result: Json) -> str:
    """A message of a subscription, which answers no request."""
    return text({"jsonrpc": "2.0", "method": method, "params": {"subscription": subscription, "result": result}})


def text(message: Json) -> str:
    """A message as it goes out."""
    return json.dumps(message, separators=(",", ":"))


class Params:
    """A call's parameters, each checked where it is read. Every reader raises RpcError."""

    def __init__(self, values: Sequence[Json]) -> None:
        self._values = values

    def data(self, index: int) -> bytes:
        """Bytes, as hex with 0x or without."""
        return self._hex(self.text(index))

    def datas(self, index: int) -> list[bytes]:
        """A list of bytes."""
        value = self._at(index)
        if not isinstance(value, list):
            raise RpcError(INVALID_PARAMS, f"parameter {index} is not a list")
        return [self._hex(str(each)) for each in value]

    def block_hash(self, index: int) -> bytes | None:
        """A block's hash; None when it is left out, which means the newest block."""
        return None if self._at(index) is None else self.data(index)

    def text(self, index: int) -> str:
        """A string."""
        value = self._at(index)
        if not isinstance(value, str):
            raise RpcError(INVALID_PARAMS, f"parameter {index} is not a string")
        return value

    def integer(self, index: int, default: int | None = None) -> int:
        """A whole number."""
        value = self._at(index)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            raise RpcError(INVALID_PARAMS, f"parameter {index} is not a whole number")
        return value

    def switch_or_integer(self, index: int) -> bool | int:
        """True, false or a whole number."""
        value = self._at(index)
        return value if isinstance(value, bool) else self.integer(index)

    def has(self, index: int) -> bool:
        """Whether the parameter is there and not null."""
        return self._at(index) is not None

    def _at(self, index: int) -> Json:
        return self._values[index] if index < len(self._values) else None

    @staticmethod
    def _hex(digits: str) -> bytes:
        try:
            return bytes.fromhex(digits.removeprefix("0x"))
        except ValueError as error:
            raise RpcError(INVALID_PARAMS, f"{digits[:20]!r} is not hex") from error
