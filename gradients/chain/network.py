"""The networks that a daemon may be told to use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from gradients.errors import SetupError

KNOWN = ("finney", "test", "archive", "local")
LOCAL_URL = "ws://127.0.0.1:9944"
_LOCAL_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class Network:
    """A network by the SDK's name or by its endpoint."""

    name: str
    is_local: bool  # private addresses and development keys are in order

    @classmethod
    def parse(cls, given: str) -> Self:
        """The network that `given` names. Raises SetupError for anything that is none."""
        if given in KNOWN:
            return cls(LOCAL_URL if given == "local" else given, is_local=given == "local")
        url = urlsplit(given)
        if url.scheme not in ("ws", "wss") or not url.hostname:
            raise SetupError(f"'{given}' is no network", fix=f"Name {', '.join(KNOWN)}, or a ws:// or wss:// URL")
        return cls(given, is_local=url.hostname in _LOCAL_HOSTS)
