"""The networks that a daemon may be told to use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from gradients.chain.wallet import DEVELOPMENT
from gradients.config import local_endpoint
from gradients.errors import SetupError

KNOWN = ("finney", "test", "archive", "local")
_LOCAL_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class Network:
    """A network by the SDK's name or by its endpoint."""

    name: str
    is_local: bool  # private addresses and development keys are in order

    @classmethod
    def parse(cls, given: str) -> Self:
        """The network that `given` names. Raises SetupError for anything else."""
        if given == "local":
            given = local_endpoint()
        if given in KNOWN:
            return cls(given, is_local=False)
        url = urlsplit(given)
        if url.scheme not in ("ws", "wss") or not url.hostname:
            raise SetupError(f"'{given}' is not a network", fix=f"Name {', '.join(KNOWN)}, or a ws:// or wss:// URL")
        return cls(given, is_local=url.hostname in _LOCAL_HOSTS)

    def check(self, *, wallet: str, allow_local_paths: bool = False) -> None:
        """Raises SetupError for settings that are in order on a network of one machine only."""
        if self.is_local:
            return
        if wallet.startswith(DEVELOPMENT):
            raise SetupError(
                f"{wallet} is a development key, which everybody can make",
                fix=f"Name a wallet that `btcli wallet create` made; {self.name} is not a local network",
            )
        if allow_local_paths:
            raise SetupError(
                "With `allow_local_paths` others can ask what lies on this machine",
                fix=f"Remove it; {self.name} is not a local network",
            )
