"""The SDK's errors as ours. Writing fails in two ways, by a result and by an exception; both end up here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gradients.errors import ChainRefused, ChainUnreachable

STALE_CODES = frozenset({"expired", "stale", "usurped"})
NONCE_TAKEN = ("stale", "outdated", "priority is too low", "marked the extrinsic invalid")


@contextmanager
def explained(doing: str, *, network: str) -> Iterator[None]:
    """Turns whatever the SDK raises in the body into ChainUnreachable or ChainRefused; `doing` says what was being done."""
    from bittensor import BittensorError, ChainError, PolicyError, RpcConnectionError

    try:
        yield
    except (RpcConnectionError, OSError) as error:  # a TimeoutError is an OSError
        raise unreachable(doing, network, str(error) or "no answer in time") from error
    except ChainError as error:
        raise failure_of(error, doing, network=network) from error
    except (PolicyError, BittensorError, ValueError) as error:
        raise ChainRefused(f"{doing}: {_bare(str(error))}") from error


def failure_of(error: Any, doing: str, *, network: str) -> ChainUnreachable | ChainRefused:  # noqa: ANN401 (a ChainError)
    """What the SDK's error means. A connection that broke after sending comes as an error of the chain, which it is not."""
    if "connection" in error.message.lower():
        return unreachable(doing, network, error.message)
    return refused(doing, error)


def unreachable(doing: str, network: str, reason: str) -> ChainUnreachable:
    """Nobody answered at the network's endpoint."""
    fix = f"Check that {network} is the right endpoint and that its node runs"
    return ChainUnreachable(f"{doing}: {network} does not answer ({_bare(reason)})", fix=fix)


def refused(doing: str, error: Any) -> ChainRefused:  # noqa: ANN401 (a ChainError, imported late)
    """What the chain said, with its own error name as code and its advice."""
    code = snake_case(error.name) if error.name else str(getattr(error.code, "value", error.code)).lower()
    advice = (error.remediation or "").strip()
    return ChainRefused(f"{doing}: {_bare(error.message)}", code=code, fix=advice[:1].upper() + advice[1:] or None)


def lost_the_nonce(error: ChainRefused) -> bool:
    """Whether another transaction has, or waits with, the nonce that this one was given.

    Another process may use the same wallet, and SDK 11.3 forgets one nonce after a shielded transaction. The next try gets the next one.
    """
    return error.code in STALE_CODES or any(words in error.message.lower() for words in NONCE_TAKEN)


def snake_case(name: str) -> str:
    """HotKeyNotRegisteredInSubNet -> hot_key_not_registered_in_sub_net."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _bare(sentence: str) -> str:
    """Without the full stop: another sentence may follow."""
    return sentence.rstrip(". ")
