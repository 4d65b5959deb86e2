"""Settings: how they are read, and the parts that both daemons share. The only module that reads the environment.

Order, later wins: defaults < TOML file < BT_* variables < GRADIENTS_* variables < flags. Nested fields are joined by two underscores
(GRADIENTS_CHAIN__NETUID). Paths are absolute once they are read. Rules of the game (margins, shares, windows) are not settings: see
gradients/scoring/rules.py.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from gradients.domain.chain import AxonAddress
from gradients.domain.json import JsonObject
from gradients.errors import SetupError

# btcli's variables, and BT_NETUID in their manner -> section and field.
BT_VARIABLES = {
    "BT_NETWORK": ("chain", "network"),
    "BT_NETUID": ("chain", "netuid"),
    "BT_WALLET": ("wallet", "name"),
    "BT_WALLET_HOTKEY": ("wallet", "hotkey"),
    "BT_WALLET_PATH": ("wallet", "path"),
}
DEVICE_VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "NVIDIA_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "LD_LIBRARY_PATH",  # where images keep the driver's libraries, some of them nowhere else
)


def _absolute(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except RuntimeError as error:  # no home to put in the place of ~
        raise ValueError(f"the home folder in {path} is not known; write the whole path") from error


# A file or folder. Made absolute when settings are read: workers have working directories of their own, and a daemon's next start may too.
Place = Annotated[Path, AfterValidator(_absolute)]


class Section(BaseModel):
    """A group of settings: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class ChainSettings(Section):
    """Which subnet of which network."""

    network: str = Field(default="local", description="finney, test, local, or a ws:// or wss:// URL")
    netuid: int = Field(default=1, ge=0, le=65535, description="the subnet's number")
    start_seconds: float = Field(default=15.0, gt=0, le=600, description="time for the chain to answer at the start")
    refresh_seconds: float = Field(default=30.0, gt=0, le=600, description="oldest metagraph to act on")
    call_timeout_seconds: float = Field(default=60.0, gt=0, le=600, description="time limit of one call to the chain")


class WalletSettings(Section):
    """Whose keys. A name that starts with // is a development key made from that URI, for local networks."""

    name: str = Field(default="default", description="coldkey's name, as btcli knows it")
    hotkey: str = Field(default="default", description="hotkey's name, as btcli knows it")
    path: Place = Field(default=Path("~/.bittensor/wallets"), description="folder of the wallets")


class AxonSettings(Section):
    """Where a daemon serves, and what it tells the chain."""

    host: str = Field(default="0.0.0.0", description="interface to listen on")  # noqa: S104 (peers come from everywhere)
    port: int = Field(default=8091, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    external_ip: str | None = Field(
        default=None, description="address to publish on chain; by default the host, if that is one"
    )
    external_port: int | None = Field(default=None, ge=1, le=65535, description="port to publish; by default the port")
    requests_per_minute: int = Field(default=600, ge=1, description="requests that one caller may send in a minute")

    nonces_url: str | None = Field(
        default=None, description="redis://host:port/0 where several processes answer for one hotkey"
    )

    def published(self, listening: AxonAddress) -> AxonAddress:
        """What to tell the chain about an axon that listens there. Raises SetupError when that is every interface."""
        address = AxonAddress(self.external_ip or listening.ip, self.external_port or listening.port)
        if address.ip in ("0.0.0.0", "::"):  # noqa: S104 (refused, not bound)
            raise SetupError(
                f"{address.ip} is not an address that others can call",
                fix="Give this machine's public one: --external-ip",
            )
        return address


class MonitoringSettings(Section):
    """Where a daemon tells its operator's tools how it is: /livez, /readyz, /version and /metrics, for whoever can reach the port."""

    host: str = Field(default="127.0.0.1", description="interface to listen on; keep it out of strangers' reach")
    port: int = Field(default=8092, ge=0, le=65535, description="port to listen on; 0 takes a free one")


class TracingSettings(Section):
    """Where a daemon sends traces of what it does; needs the extra `tracing`."""

    endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description="OpenTelemetry collector's URL, such as http://127.0.0.1:4318/v1/traces; by default nobody is told",
    )
    share: float = Field(default=1.0, ge=0, le=1, description="part of the traces that is sent")


class LogSettings(Section):
    """How a daemon speaks."""

    style: Literal["text", "json"] = Field(default="text", description="text for people, json for machines")
    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="the least that is told")


class DaemonSettings(BaseSettings):
    """What every daemon has; a daemon's own model inherits from it."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix="GRADIENTS_", env_nested_delimiter="__", env_ignore_empty=True
    )

    folder: Place = Field(default=Path("~/.gradients"), description="everything that this daemon keeps")
    chain: ChainSettings = ChainSettings()
    wallet: WalletSettings = Field(default_factory=WalletSettings)
    axon: AxonSettings = AxonSettings()
    log: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()

    @classmethod
    def load(cls, file: Path | None, flags: JsonObject) -> Self:
        """Settings from all sources. Raises SetupError that names the file or variable and the field."""
        if file is not None and not file.is_file():
            raise SetupError(
                f"There is no settings file {file}", fix="Name an existing TOML file or leave the option out"
            )
        sources = type(cls.__name__, (cls,), {"model_config": SettingsConfigDict(toml_file=file)})
        try:
            settings = sources(**{key: value for key, value in flags.items() if value is not None})
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}" for e in error.errors())
            raise SetupError(
                f"The settings{f' in {file}' if file else ''} are not usable: {problems}",
                fix="See configs/ for an example of every setting",
            ) from error
        except tomllib.TOMLDecodeError as error:
            raise SetupError(f"{file} is not valid TOML: {error}") from error
        assert isinstance(settings, cls)  # noqa: S101 (for the type checker: `sources` is a subclass)
        return settings

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        given: dict[str, dict[str, str]] = {}
        for variable, (section, field) in BT_VARIABLES.items():
            if value := os.environ.get(variable):
                given.setdefault(section, {})[field] = value
        bittensor = InitSettingsSource(settings_cls, dict(given))
        return init_settings, env_settings, bittensor, TomlConfigSettingsSource(settings_cls)


class CustomerSettings(BaseSettings):
    """Where a customer's validator is and with which key, and where models go; GRADIENTS_API_URL, GRADIENTS_API_KEY …"""

    model_config = SettingsConfigDict(env_prefix="GRADIENTS_", frozen=True, extra="ignore")

    api_url: str = Field(default="http://127.0.0.1:8090", description="the validator's API")
    api_key: str | None = Field(default=None, description="the customer's key")
    api_key_file: Place = Field(
        default=Path("~/.gradients/validator/api.key"), description="written by a validator on this machine"
    )
    models: Place = Field(default=Path("~/.gradients/models"), description="models that were downloaded")

    def given(self, *, url: str | None, key: str | None) -> Self:
        """These settings with the flags that were given."""
        flags = {"api_url": url, "api_key": key}
        return self.model_copy(update={name: value for name, value in flags.items() if value is not None})


def shipped_configs() -> Path:
    """The folder configs/ of the checkout, or the copy of it in an installed package."""
    checkout = Path(__file__).parent.parent / "configs"
    return checkout if checkout.is_dir() else Path(__file__).parent / "configs"


def hub_environment() -> dict[str, str]:
    """The environment of a process that talks to a hub: no wallet or API key; a hub token only for huggingface.co itself."""
    environment = environment_without("GRADIENTS_", "BT_", "AWS_")
    environment["HF_HUB_DISABLE_TELEMETRY"] = "1"
    if environment.get("HF_ENDPOINT", "https://huggingface.co") != "https://huggingface.co":
        environment |= {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1", "HF_HUB_DISABLE_XET": "1"}
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"):
            environment.pop(name, None)
    return environment


def upload_environment() -> dict[str, str]:
    """The environment of a process that uploads to the hub that its user names: with the user's hub token, and no key of ours."""
    return {**environment_without("GRADIENTS_", "BT_", "AWS_"), "HF_HUB_DISABLE_TELEMETRY": "1"}


def tracking_environment(folder: Path, *, online: bool) -> dict[str, str]:
    """The environment of a tracker's process: no wallet or key of ours, and keys and servers of its own only where it is online."""
    away = () if online else ("WANDB_API_KEY", "WANDB_BASE_URL", "TRACKIO_S", "TRACKIO_W", "HF_TOKEN", "HUGGING_FACE")
    environment = environment_without("GRADIENTS_", "BT_", "AWS_", *away)
    own = {"TRACKIO_DIR": str(folder / "trackio"), "WANDB_ERROR_REPORTING": "false", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return {**environment, **own}


def environment_without(*prefixes: str) -> dict[str, str]:
    """The environment to hand to a child process, less every variable that starts with one of `prefixes`."""
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}


def local_endpoint() -> str:
    """What `local` means, to btcli and the SDK too: the chain in BT_CHAIN_ENDPOINT, or the one on this machine."""
    return os.environ.get("BT_CHAIN_ENDPOINT") or "ws://127.0.0.1:9944"


def ray_environment() -> dict[str, str]:
    """The variables by which Ray lets this process into its cluster; tokens are on unless they are switched off."""
    own = {
        name: value for name, value in os.environ.items() if name.startswith(("RAY_AUTH_", "RAY_TLS_", "RAY_USE_TLS"))
    }
    return {"RAY_AUTH_MODE": "token", "HOME": str(Path.home()), **own}


def device_environment() -> dict[str, str]:
    """The variables that say which accelerators are this process's, as they were given; workers get them too."""
    return {name: os.environ[name] for name in DEVICE_VARIABLES if name in os.environ}
