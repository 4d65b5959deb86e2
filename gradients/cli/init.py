"""`gradients init`: a settings file for a daemon, from flags, variables and a few questions.

What is written is what somebody chose. Everything else stands there commented out with its default, and follows it when an upgrade
changes it.
"""

from __future__ import annotations

import json
import shlex
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import typer

from gradients.cli.doctor import AsJson
from gradients.cli.flags import DAEMON, Given, settings_of, takes
from gradients.cli.roles import settings_of_role
from gradients.config import DaemonSettings, shipped_configs
from gradients.domain.json import Json, JsonObject
from gradients.errors import SetupError

HEAD = """\
# Settings of a {command}, written by `gradients init {command}`. What is commented out has its default.
# Later wins: defaults < this file < BT_* variables < GRADIENTS_* variables (GRADIENTS_CHAIN__NETUID) < flags.
"""
EVERY_INTERFACE = ("0.0.0.0", "::")  # noqa: S104 (told apart, not bound)
_FILE = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="File to write, which must not exist; FOLDER/settings.toml by default."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: take flags, variables and defaults.")]

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def init() -> None:
    """Write the settings file of a validator or a miner, and name the commands that come next."""


@app.command()
@takes(DAEMON, config=_FILE)
def validator(
    given: Given,
    *,
    api_host: Annotated[str | None, typer.Option(help="Interface of the customers' API.")] = None,
    api_port: Annotated[int | None, typer.Option(help="Port of the customers' API.")] = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Ask for what a validator must be told, and write it to a settings file. Nothing is sent anywhere; --json implies --yes."""
    flags = {**given.flags, "api__host": api_host, "api__port": api_port}
    _init("validator", Given(given.config, flags), QUESTIONS, ask=not (yes or as_json), as_json=as_json)


@app.command()
@takes(DAEMON, config=_FILE)
def miner(
    given: Given,
    *,
    recipe: Annotated[Path | None, typer.Option(help="How to train: a file of configs/recipes/ or your own.")] = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Ask for what a miner must be told, and write it to a settings file. Nothing is sent anywhere; --json implies --yes."""
    questions = (*QUESTIONS, Question("recipe", "Recipe: how to train", "--recipe"))
    flags = {**given.flags, "recipe": recipe}
    _init("miner", Given(given.config, flags), questions, ask=not (yes or as_json), as_json=as_json)


@dataclass(frozen=True, slots=True)
class Question:
    """One setting that an operator has to know."""

    name: str  # "section__field" of the settings
    asks: str
    flag: str
    default: Callable[[DaemonSettings], Json] | None = None  # by default the setting's own; None: there is none
    check: Callable[[DaemonSettings], object] = lambda settings: settings  # raises SetupError


def _nothing(_settings: DaemonSettings) -> None:
    """No default would be right."""


def _network(settings: DaemonSettings) -> bool:
    """Whether the network is one of this machine only. Raises SetupError when it is none, or the wallet is not for it."""
    from gradients.chain.network import Network

    network = Network.parse(settings.chain.network)
    network.check(wallet=settings.wallet.name)
    return network.is_local


def _subnet(settings: DaemonSettings) -> int | None:
    """A network of one machine has one subnet; elsewhere there are many."""
    return settings.chain.netuid if _network(settings) else None


def _public_address(settings: DaemonSettings) -> str | None:
    """The one interface that is listened on, or what this machine's own says where peers can call that."""
    if settings.axon.host not in EVERY_INTERFACE:
        return settings.axon.host
    if _network(settings):
        return "127.0.0.2"  # of this machine too, and one that the chain takes
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
        try:
            route.connect(("192.0.2.1", 9))  # asks for a route and sends nothing
            ours = str(route.getsockname()[0])
        except OSError:
            return None
    return ours if ip_address(ours).is_global else None


def _can_be_published(settings: DaemonSettings) -> None:
    """Raises SetupError when the axon's address is not one that the chain takes."""
    from gradients.doctor.axon import address_of
    from gradients.doctor.findings import Finding

    if isinstance(address := address_of(settings.axon), Finding):
        raise SetupError(address.found, fix=address.advice)


QUESTIONS = (
    Question(
        "chain__network", "Network: finney, test, local, or a ws:// URL", "--network", default=_nothing, check=_network
    ),
    Question("chain__netuid", "Number of the subnet", "--netuid", default=_subnet),
    Question("wallet__name", "Name of the coldkey", "--wallet", check=_network),
    Question("wallet__hotkey", "Name of the hotkey", "--wallet-hotkey"),
    Question("axon__port", "Port that the subnet calls", "--axon-port"),
    Question(
        "axon__external_ip",
        "Public address of this machine",
        "--external-ip",
        default=_public_address,
        check=_can_be_published,
    ),
    Question("folder", "Folder for everything that is kept", "--folder"),
)


def _init(role: str, given: Given, questions: Sequence[Question], *, ask: bool, as_json: bool) -> None:
    kind = settings_of_role(role)
    answers = _answers(kind, given, questions, ask=ask)
    chosen = kind.load(None, settings_of(**answers))
    for question in questions:
        question.check(chosen)
    file = (given.config or chosen.folder / "settings.toml").absolute()
    shadowed = _write(file, kind, role, _as_loaded(answers, chosen))
    known = shlex.join(("-w", chosen.wallet.name, "-H", chosen.wallet.hotkey, *_beside_default(chosen, kind)))
    network = shlex.join(("-n", chosen.chain.network, "--netuid", str(chosen.chain.netuid)))
    config = shlex.join(("-c", str(file)))
    commands = [
        f"gradients register {known} {network}",
        f"gradients {role} doctor {config}",
        f"gradients {role} run {config}",
    ]
    _tell(file, commands, _warnings(chosen, shadowed), as_json=as_json)


def _answers(
    kind: type[DaemonSettings], given: Given, questions: Sequence[Question], *, ask: bool
) -> dict[str, Json | Path]:
    """Settings by name: flags, variables that answer a question, and what is said. Raises SetupError where nobody says anything."""
    answers: dict[str, Json | Path] = {name: value for name, value in given.flags.items() if value is not None}
    lacking = []
    for question in (each for each in questions if each.name not in answers):
        settings = kind.load(None, settings_of(**answers))
        known, is_set = _value(settings, question.name)
        if not is_set and question.default is not None:
            known = question.default(settings)
        if ask:
            answers[question.name] = _asked(kind, answers, question, known)
        elif known is None:
            lacking.append(question.flag)
        else:
            answers[question.name] = known
    if lacking:
        raise SetupError(f"There is no answer for {', '.join(lacking)}", fix="Give these flags, or leave out --yes")
    return answers


def _asked(
    kind: type[DaemonSettings], answers: Mapping[str, Json | Path], question: Question, known: Json | Path
) -> str:
    """What a person answers, asked again until it can be meant."""
    while True:
        try:
            said: str = typer.prompt(question.asks, default=None if known is None else str(known))
        except typer.Abort as error:
            raise SetupError("Nobody answered, and nothing was written", fix="Give flags and --yes") from error
        try:
            question.check(kind.load(None, settings_of(**{**answers, question.name: said})))
        except SetupError as error:
            typer.secho(str(error), err=True, fg=typer.colors.RED)
        else:
            return said


def _value(settings: DaemonSettings, name: str) -> tuple[Json | Path, bool]:
    """A setting by its name, and whether any source has set it."""
    holder: object = settings
    section, dot, field = name.partition("__")
    if dot:
        holder = getattr(settings, section)
    own = field or section
    return getattr(holder, own), own in getattr(holder, "model_fields_set", ())


def _as_loaded(answers: Mapping[str, Json | Path], chosen: DaemonSettings) -> JsonObject:
    """Answers as settings have them (paths absolute, numbers as numbers), less those that say what their default says."""
    defaults = type(chosen).model_construct()
    kept: dict[str, Json | Path] = {}
    for name in answers:
        value = _value(chosen, name)[0]
        if name in ("chain__network", "chain__netuid") or str(value) != str(_absolute(_value(defaults, name)[0])):
            kept[name] = _by_name(value)
    return settings_of(**kept)


def _by_name(value: Json | Path) -> Json | Path:
    """A shipped recipe by its name: where it lies changes with the next installation."""
    if isinstance(value, Path) and value.parent == shipped_configs() / "recipes":
        return value.stem
    return value


def _absolute(value: Json | Path) -> Json | Path:
    return value.expanduser().absolute() if isinstance(value, Path) else value


def _write(file: Path, kind: type[DaemonSettings], role: str, given: JsonObject) -> list[str]:
    """Put the settings file in its place, read once; the settings in it that a variable of the environment changes.

    Raises SetupError when something stands there.
    """
    from gradients.cli.settings_example import example
    from gradients.files.whole import make_folder, write_file

    if file.exists():
        raise SetupError(f"{file} is there already", fix="Change it by hand, move it away, or name another: --config")
    if not file.parent.exists():
        make_folder(file.parent)
        file.parent.chmod(0o700)
    text = example(kind, command=role, head=HEAD, given=given)
    shadowed: list[str] = []

    def write(part: Path) -> None:
        part.touch(mode=0o600)
        part.write_text(text, encoding="utf-8")
        loaded = kind.load(part, {})
        for name, value in given.items():
            inner = value if isinstance(value, Mapping) else {"": value}
            for field, said in inner.items():
                if str(_by_name(_value(loaded, f"{name}__{field}" if field else name)[0])) != str(said):
                    shadowed.append(f"{name}.{field}".rstrip("."))

    write_file(file, write)
    return shadowed


def _beside_default(chosen: DaemonSettings, kind: type[DaemonSettings]) -> tuple[str, ...]:
    """The flag for wallets that lie elsewhere."""
    default = _absolute(kind.model_construct().wallet.path)
    return () if chosen.wallet.path == default else ("--wallet-path", str(chosen.wallet.path))


def _warnings(chosen: DaemonSettings, shadowed: Sequence[str]) -> list[str]:
    from gradients.chain.wallet import DEVELOPMENT

    wallet = chosen.wallet
    said = [f"A variable of the environment wins over {name} in the file" for name in shadowed]
    hotkey = wallet.path / wallet.name / "hotkeys" / wallet.hotkey
    if not wallet.name.startswith(DEVELOPMENT) and not hotkey.exists():
        verb = (
            "new-hotkey" if (wallet.path / wallet.name / "coldkey").exists() else "create"
        )  # which would replace the coldkey
        make = shlex.join(("btcli", "wallet", verb, "-w", wallet.name, "-H", wallet.hotkey))
        said.append(
            f"There is no hotkey at {hotkey} yet: `{make}` makes one, or copy hotkey and coldkeypub.txt from where they are"
        )
    return said


def _tell(file: Path, commands: Sequence[str], warnings: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"config": str(file), "next": list(commands), "warnings": list(warnings)}))
        return
    for warning in warnings:
        typer.secho(warning, err=True, fg=typer.colors.YELLOW)
    typer.echo(f"Settings are in {file}. Next:")
    for command, why in zip(
        commands, ("where the coldkey is", "until nothing is MISSING", "until it is stopped"), strict=True
    ):
        typer.echo(f"  {command}    # {why}")
