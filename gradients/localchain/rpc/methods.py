"""The methods that answer at once."""

from __future__ import annotations

from collections.abc import Callable

from gradients.domain.json import Json, JsonObject
from gradients.localchain import keys
from gradients.localchain.answers import table
from gradients.localchain.blocks import Header
from gradients.localchain.catalogue import SPEC_NAME, TRANSACTION_VERSION
from gradients.localchain.chain import Chain, UnknownBlockError
from gradients.localchain.pool import RefusedByPoolError
from gradients.localchain.rpc.protocol import INVALID_PARAMS, RUNTIME_FAILED, UNKNOWN_BLOCK, Params, RpcError
from gradients.localchain.scale.compact import encode_compact
from gradients.localchain.state import StatePrunedError, View

Method = Callable[[Chain, Params], Json]

MAX_KEYS = 1000  # per page, as a Substrate node limits it
METADATA_CALLS = ("Metadata_metadata_at_version", "Metadata_metadata")
METADATA_VERSION = 15


def hexed(data: bytes) -> str:
    """Bytes as JSON-RPC has them."""
    return "0x" + data.hex()


def header_json(header: Header) -> JsonObject:
    """A header as JSON-RPC has it."""
    return {
        "parentHash": hexed(header.parent_hash),
        "number": hex(header.number),
        "stateRoot": hexed(header.state_root),
        "extrinsicsRoot": hexed(header.extrinsics_root),
        "digest": {"logs": []},
    }


def submit(chain: Chain, params: Params) -> str:
    """Let a transaction wait for a block; its hash."""
    try:
        return hexed(chain.submit(params.data(0)))
    except RefusedByPoolError as refused:
        raise RpcError.of_pool(refused.refusal) from refused


def _view(chain: Chain, block_hash: bytes | None) -> View:
    try:
        return chain.view(block_hash)
    except UnknownBlockError as error:
        raise RpcError(UNKNOWN_BLOCK, f"Client error: UnknownBlock: Header was not found: 0x{error}") from error
    except StatePrunedError as error:
        named = hexed(block_hash or b"")
        raise RpcError(UNKNOWN_BLOCK, f"Client error: UnknownBlock: State already discarded for {named}") from error


def _block_hash(chain: Chain, params: Params) -> Json:
    block_hash = chain.block_hash(params.integer(0)) if params.has(0) else chain.head.hash
    return hexed(block_hash) if block_hash else None


def _head(chain: Chain, params: Params) -> Json:
    return hexed(chain.head.hash)


def _header(chain: Chain, params: Params) -> Json:
    try:
        return header_json(chain.header(params.block_hash(0)))
    except UnknownBlockError:
        return None


def _block(chain: Chain, params: Params) -> Json:
    try:
        header = chain.header(params.block_hash(0))
    except UnknownBlockError:
        return None
    extrinsics: list[Json] = [hexed(data) for data in chain.extrinsics(header.number)]
    return {"block": {"header": header_json(header), "extrinsics": extrinsics}, "justifications": None}


def _storage(chain: Chain, params: Params) -> Json:
    value = _view(chain, params.block_hash(1)).raw(params.data(0))
    return None if value is None else hexed(value)


def _storage_of_many(chain: Chain, params: Params) -> Json:
    block_hash = params.block_hash(1)
    view = _view(chain, block_hash)
    values = [(key, view.raw(key)) for key in params.datas(0)]
    changes: list[Json] = [[hexed(key), None if value is None else hexed(value)] for key, value in values]
    return [{"block": hexed(block_hash or chain.head.hash), "changes": changes}]


def _keys_paged(chain: Chain, params: Params) -> Json:
    prefix = params.data(0)
    after = params.data(2) if params.has(2) else b""
    count = min(params.integer(1), MAX_KEYS)
    following = [key for key in _view(chain, params.block_hash(3)).raw_keys(prefix) if key > after]
    return [hexed(key) for key in following[:count]]


def _runtime_version(chain: Chain, params: Params) -> Json:
    return {
        "specName": SPEC_NAME,
        "implName": "gradients-localchain",
        "authoringVersion": 1,
        "specVersion": chain.runtime.spec_version,
        "implVersion": 1,
        "apis": [],
        "transactionVersion": TRANSACTION_VERSION,
        "stateVersion": 1,
    }


def _state_call(chain: Chain, params: Params) -> Json:
    name, arguments = params.text(0), params.data(1)
    if name in METADATA_CALLS:
        opaque = encode_compact(len(chain.runtime.metadata)) + chain.runtime.metadata
        known = name == "Metadata_metadata" or int.from_bytes(arguments[:4], "little") == METADATA_VERSION
        return hexed((b"\1" if name == METADATA_CALLS[0] else b"") + opaque) if known else "0x00"
    try:
        return hexed(table.answer(_view(chain, params.block_hash(2)), name, arguments))
    except table.UnknownApiError as error:
        message = f"Client error: Execution failed: Exported method {name} is not found"
        raise RpcError(RUNTIME_FAILED, message) from error
    except ValueError as error:
        raise RpcError(INVALID_PARAMS, f"{name}: {error}") from error


def _next_index(chain: Chain, params: Params) -> Json:
    try:
        return chain.next_nonce(keys.from_address(params.text(0)))
    except ValueError as error:
        raise RpcError(INVALID_PARAMS, f"{params.text(0)!r} is not an address") from error


METHODS: dict[str, Method] = {
    "account_nextIndex": _next_index,
    "author_submitExtrinsic": submit,
    "chain_getBlock": _block,
    "chain_getBlockHash": _block_hash,
    "chain_getFinalizedHead": _head,
    "chain_getHead": _head,
    "chain_getHeader": _header,
    "state_call": _state_call,
    "state_getKeysPaged": _keys_paged,
    "state_getMetadata": lambda chain, _: hexed(chain.runtime.metadata),
    "state_getRuntimeVersion": _runtime_version,
    "state_getStorage": _storage,
    "state_getStorageAt": _storage,
    "state_queryStorageAt": _storage_of_many,
    "system_accountNextIndex": _next_index,
    "system_chain": lambda _, __: "Gradients local chain",
    "system_health": lambda _, __: {"peers": 0, "isSyncing": False, "shouldHavePeers": False},
    "system_name": lambda _, __: "gradients-localchain",
    "system_properties": lambda _, __: {"ss58Format": keys.SS58_PREFIX, "tokenDecimals": 9, "tokenSymbol": "TAO"},
    "system_version": lambda _, __: "1",
}
