"""The customers' side of a validator's API: `MarketClient`, and `AsyncMarketClient` for asyncio.

Imported when they are asked for: a validator answers with this package's models and needs neither.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradients.client.aio import AsyncMarketClient
    from gradients.client.api import MarketClient

__all__ = ["AsyncMarketClient", "MarketClient"]
_HOMES = {"AsyncMarketClient": "gradients.client.aio", "MarketClient": "gradients.client.api"}


def __getattr__(name: str) -> Any:  # noqa: ANN401 (a class of either module)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
