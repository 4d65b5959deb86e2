"""The SDK's errors as ours. Writing fails in two ways, by a result and by an exception; both end up here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gradients.errors import ChainRefused, ChainUnreachable

STALE_CODES = frozenset({"expired"})


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turns whatever the SDK raises in the body into ChainUnreachable or ChainRefused; `doing` says what was being done."""
    from bittensor import BittensorError, ChainError, PolicyError, RpcConnectionError

    try:
        yield
    except (RpcConnectionError, TimeoutError, OSError) as error:
        reason = str(error) or type(error).__name__
        raise ChainUnreachable(f"{doing}: the chain does not answer ({reason})", fix="Check the endpoint") from error
    except ChainError as error:
        if "connection" in error.message.lower():
            raise ChainUnreachable(f"{doing}: {error.message}", fix="Check the endpoint") from error
        raise refused(doing, error) from error
    except (PolicyError, BittensorError, ValueError) as error:
        raise ChainRefused(f"{doing}: {error}") from error


def refused(doing: str, error: Any) -> ChainRefused:  # noqa: ANN401 (a ChainError, imported late)
    """What the chain said, with its own error name as code and its advice."""
    code = snake_case(error.name) if error.name else str(getattr(error.code, "value", error.code)).lower()
    return ChainRefused(f"{doing}: {error.message}", code=code, fix=error.remediation or None)


def is_stale(error: ChainRefused) -> bool:
    """Whether the nonce was behind: SDK 11.3 forgets one after a shielded transaction, and the next try works."""
    return error.code in STALE_CODES or "stale" in error.message.lower()


def snake_case(name: str) -> str:
    """HotKeyNotRegisteredInSubNet -> hot_key_not_registered_in_sub_net."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
