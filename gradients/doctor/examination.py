"""The looks that are the same for both daemons, in the order in which an operator would mend what they find."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from gradients.chain.network import Network
from gradients.chain.wallet import DEVELOPMENT, WalletKeys, open_wallet
from gradients.clock import Clock
from gradients.config import AxonSettings, ChainSettings, DaemonSettings, WalletSettings
from gradients.doctor import axon, machine, storage, subnet
from gradients.doctor.findings import Finding, Look, take
from gradients.doctor.software import software
from gradients.domain.task import Hotkey
from gradients.errors import GradientsError, SetupError
from gradients.files.private import OTHERS


@dataclass(frozen=True, slots=True)
class Daemon:
    """Whose doctor asks."""

    name: str  # validator or miner
    settings: DaemonSettings
    caches: Path
    sandboxed: bool  # whether its workers may not begin without a sandbox on a public network
    version_key: int | None = None  # of the weights that it sends

    @property
    def at_work(self) -> bool:
        """Whether one runs in the folder now."""
        return storage.is_at_work(self.settings.folder)

    @property
    def is_public(self) -> bool:
        """Whether strangers take part; a network that has no such name is one where they might."""
        try:
            return not Network.parse(self.settings.chain.network).is_local
        except SetupError:
            return True


def examine(daemon: Daemon, own: Sequence[Look], clock: Clock, *, libraries: Sequence[str] = ()) -> list[Finding]:
    """Everything that a daemon needs; `own` are the looks that only its role takes, with the `libraries` that they work with."""
    settings = daemon.settings
    with heard(settings.chain, libraries) as silence:
        looks: list[Look] = [
            software,
            machine.memory,
            machine.gpu,
            lambda: machine.sandbox(needed=("workers",) if daemon.sandboxed and daemon.is_public else ()),
            lambda: storage.own_folder(settings.folder),
            lambda: storage.folder(daemon.caches, name="caches", flag="caches in the settings (GRADIENTS_CACHES)"),
            lambda: identity(daemon, clock, silence),
            *own,
        ]
        return take(looks)


@contextmanager
def heard(chain: ChainSettings, libraries: Sequence[str]) -> Iterator[Future[GradientsError | None]]:
    """What is wrong with a chain that says nothing, while it is waited for; meanwhile everything slow is imported, by this one thread.

    Threads that import the same thing at once may see it half made.
    """
    with ThreadPoolExecutor(max_workers=1) as beside:
        try:
            silence: Future[GradientsError | None] = beside.submit(subnet.hear, subnet.endpoint_of(chain))
        except SetupError as error:  # there is no such network
            silence = Future()
            silence.set_result(error)
        for library in ("bittensor", "gradients.doctor.peers", *libraries):
            import_module(library)
        yield silence


def identity(daemon: Daemon, clock: Clock, silence: Future[GradientsError | None]) -> Iterator[Finding]:
    """Wallet and chain, what the one is on the other, and the way in from outside."""
    settings, at_work = daemon.settings, daemon.at_work
    with ThreadPoolExecutor(max_workers=1) as beside:
        trying = beside.submit(lambda: list(doors(settings.axon, at_work=at_work)))
        keys, findings = wallet(settings.wallet)
        seen = chain(settings.chain, silence)
    tried = trying.result()
    yield from findings
    if isinstance(seen, Finding):
        yield seen
        yield from tried
        return
    hotkey = Hotkey(keys.hotkey.ss58_address) if keys else None
    role = subnet.Role(daemon.name, settings.wallet, settings.chain, hotkey, daemon.version_key)
    yield subnet.shown(seen, settings.chain)
    yield subnet.clock(seen, clock)
    yield from subnet.membership(seen, role)
    address = axon.address_of(settings.axon)
    port, *ways = tried
    yield port
    if keys is None or isinstance(address, Finding) or port.level != "ok":
        yield from ways
        return
    yield from subnet.on_chain(seen, role, address)
    from gradients.doctor import peers  # with the SDK and a server, for which `heard` leaves time

    caller = peers.Caller(settings.axon, keys, at_work=at_work, is_local=not daemon.is_public)
    yield from (caller.ask(address, way, seen.metagraph) for way in ways)


def chain(settings: ChainSettings, silence: Future[GradientsError | None]) -> subnet.Seen | Finding:
    """What the chain says once it has been heard."""
    error = silence.result()
    return subnet.see(settings) if error is None else subnet.refusal(error, settings)


def wallet(named: WalletSettings) -> tuple[WalletKeys | None, list[Finding]]:
    """The keys, where they can be opened, and what there is to say of them."""
    try:
        keys = open_wallet(named.name, named.hotkey, named.path)
    except GradientsError as error:
        return None, [Finding("wallet", "missing", error.message, error.fix or "")]
    findings = [Finding("wallet", "ok", f"{keys.name}: hotkey {keys.hotkey.ss58_address}")]
    if named.name.startswith(DEVELOPMENT):
        return keys, findings
    file = named.path / named.name / "hotkeys" / named.hotkey
    if stat.S_IMODE(file.stat().st_mode) & OTHERS:
        found = f"other users of this machine can read {file}"
        findings.append(Finding("hotkey", "note", found, f"chmod 600 {file}, or --fix", lambda: storage.close(file)))
    return keys, findings


def doors(settings: AxonSettings, *, at_work: bool) -> Iterator[Finding]:
    """The axon's port, and the address that is published for it."""
    yield (free := axon.port("axon", settings.host, settings.port, flag="--axon-port", at_work=at_work))
    address = axon.address_of(settings)
    if isinstance(address, Finding):
        yield address
    elif free.level == "ok":
        yield axon.reached(settings, address, at_work=at_work)
