"""The flags that several commands share, each declared once beside the setting that it sets, and how they become settings.

Flags for wallet, network and subnet are spelt as btcli 11 spells them (-w, --wallet, -H, --wallet-hotkey, --wallet-path, -n, --network,
--netuid). What the argument parsers of bittensor 7 to 9 had too is also known by its spelling there (--wallet.name,
--subtensor.network, --axon.port, --logging.debug …).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from gradients.domain.json import Json

if TYPE_CHECKING:
    from gradients.config import DaemonSettings

Settings = TypeVar("Settings", bound="DaemonSettings")
Result = TypeVar("Result")
Flags = Mapping[
    str, Any
]  # "section__field" of the settings -> an annotation with a typer.Option, for which there is no type

Network = Annotated[
    str | None,
    typer.Option(
        "--network",
        "-n",
        "--subtensor.network",
        "--subtensor.chain_endpoint",
        help="finney, test, local, or a ws:// URL. [env: BT_NETWORK]",
    ),
]
_CONFIG = Annotated[Path | None, typer.Option("--config", "-c", help="TOML file with settings; see configs/.")]

CHAIN: Flags = {
    "chain__network": Network,
    "chain__netuid": Annotated[int | None, typer.Option("--netuid", help="The subnet's number. [env: BT_NETUID]")],
}
FOLDER: Flags = {"folder": Annotated[Path | None, typer.Option("--folder", help="Where everything is kept.")]}
SUBNET: Flags = {
    "wallet__name": Annotated[
        str | None,
        typer.Option(
            "--wallet",
            "-w",
            "--wallet-name",
            "--wallet.name",
            help="Coldkey's name, as btcli knows it. [env: BT_WALLET]",
        ),
    ],
    "wallet__hotkey": Annotated[
        str | None,
        typer.Option(
            "--wallet-hotkey", "-H", "--wallet.hotkey", help="Hotkey's name, as btcli knows it. [env: BT_WALLET_HOTKEY]"
        ),
    ],
    "wallet__path": Annotated[
        Path | None, typer.Option("--wallet-path", "--wallet.path", help="Folder of the wallets. [env: BT_WALLET_PATH]")
    ],
    **CHAIN,
}
DAEMON: Flags = {
    **FOLDER,
    **SUBNET,
    "axon__host": Annotated[str | None, typer.Option("--axon-host", "--axon.ip", help="Interface to listen on.")],
    "axon__port": Annotated[int | None, typer.Option("--axon-port", "--axon.port", help="Port to listen on.")],
    "axon__external_ip": Annotated[
        str | None, typer.Option("--external-ip", "--axon.external_ip", help="Public address to publish on chain.")
    ],
    "axon__external_port": Annotated[
        int | None,
        typer.Option(
            "--external-port", "--axon.external_port", help="Public port to publish on chain; by default the port."
        ),
    ],
    "log__style": Annotated[str | None, typer.Option("--log-style", help="text for people, json for machines.")],
    "log__level": Annotated[
        bool | None,
        typer.Option(
            "--debug",
            "--logging.debug",
            help="Log everything, down to the level debug.",
            callback=lambda given: "debug" if given else None,
        ),
    ],
}


@dataclass(frozen=True, slots=True)
class Given:
    """What the command line says of settings."""

    config: Path | None
    flags: Mapping[str, Json | Path]

    def load(self, kind: type[Settings], **own: Json | Path) -> Settings:
        """The settings with these flags, and a command's `own` ones, before every other source. Raises SetupError."""
        return kind.load(self.config, settings_of(**self.flags, **own))


def takes(shared: Flags, *, config: Any = _CONFIG) -> Callable[[Callable[..., Result]], Callable[..., Result]]:  # noqa: ANN401 (as in Flags)
    """Gives a command --config and the `shared` flags beside its own; what they say is its first argument, a Given."""

    def decorate(command: Callable[..., Result]) -> Callable[..., Result]:
        @functools.wraps(command)
        def taking(**values: Any) -> Result:  # noqa: ANN401 (each by its own annotation)
            given = Given(values.pop("config"), {name: values.pop(name) for name in shared})
            return command(given, **values)

        keyword = inspect.Parameter.KEYWORD_ONLY
        flags = {"config": config, **shared}
        _, *own = inspect.signature(command, eval_str=True).parameters.values()
        parameters = [
            *(inspect.Parameter(name, keyword, default=None, annotation=flag) for name, flag in flags.items()),
            *(parameter.replace(kind=keyword) for parameter in own),
        ]
        # What typer looks at.
        taking.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        taking.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return taking

    return decorate


def settings_of(**flags: Json | Path) -> dict[str, Json]:
    """Flags named "section__field" as nested settings; those that were not given are left out.

    settings_of(chain__netuid=3, folder=None) == {"chain": {"netuid": 3}}
    """
    nested: dict[str, Json] = {}
    for name, value in flags.items():
        if value is None:
            continue
        plain = str(value) if isinstance(value, Path) else value
        section, dot, field = name.partition("__")
        if not dot:
            nested[name] = plain
            continue
        inner = nested.setdefault(section, {})
        assert isinstance(inner, Mapping)  # noqa: S101 (sections and plain fields have different names)
        nested[section] = {**inner, field: plain}
    return nested
