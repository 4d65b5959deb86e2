"""The chain as a daemon will see it: whether it answers, who we are on it, what it allows, and whether our clock is its own.

Covers: a node that accepts connections and says nothing is told from a slow one by its first answer, within `SILENCE_SECONDS`; only
then does the SDK get its own patience. Does not cover: a node that lies.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from gradients.chain.network import Network
from gradients.chain.sdk import SdkGateway
from gradients.chain.wallet import nobodys_keys
from gradients.clock import Clock
from gradients.config import ChainSettings, WalletSettings
from gradients.doctor.findings import Finding
from gradients.domain.chain import AxonAddress, Metagraph
from gradients.domain.task import Hotkey
from gradients.errors import ChainUnreachable, GradientsError

SILENCE_SECONDS = 1.5  # of a node, before its first answer
PATIENCE_SECONDS = 15.0  # with one that speaks
EARLY_SECONDS = 2.0  # by which a block may seem to come from the future; peers refuse requests that do by more
_SILENT = logging.Logger(
    "wire"
)  # else the library shows a trace of a connection that ends while it is closed; `hear` says what counts
_SILENT.addHandler(logging.NullHandler())
LATE_SECONDS, LATE_BLOCKS = 10.0, 5  # no newest block is older, together, while the chain lives


@dataclass(frozen=True, slots=True)
class Seen:
    """What the chain says."""

    metagraph: Metagraph
    block_seconds: float
    head_time: float  # of the newest block, in seconds since the Unix epoch
    price_tao: float | None  # of registering; None where nobody asked


@dataclass(frozen=True, slots=True)
class Role:
    """Who asks, and what that one needs to be."""

    name: str  # validator or miner
    wallet: WalletSettings
    chain: ChainSettings
    hotkey: Hotkey | None  # None where the wallet cannot be opened
    version_key: int | None = None  # of the weights that a validator sends


def hear(endpoint: str) -> ChainUnreachable | None:
    """What is wrong where a node does not answer a question, whatever it is, in time; None where it does."""
    question = json.dumps({"id": 1, "jsonrpc": "2.0", "method": "system_chain", "params": []})
    until = time.monotonic() + SILENCE_SECONDS
    try:
        with connect(endpoint, open_timeout=SILENCE_SECONDS, close_timeout=0.1, logger=_SILENT) as wire:
            wire.send(question)
            wire.recv(timeout=max(until - time.monotonic(), 0.0))
    except (OSError, EOFError, WebSocketException, ValueError) as error:  # a TimeoutError is an OSError
        return ChainUnreachable(
            f"{endpoint} does not answer: {str(error) or 'silence'}",
            fix="Check --network (its host and port), that its node runs, and this machine's way to it",
        )
    return None


def endpoint_of(chain: ChainSettings) -> str:
    """The URL of a network that may be given by a name. Raises SetupError where it is not one."""
    network = Network.parse(chain.network)
    if "://" in network.name:
        return network.name
    from bittensor.settings import NETWORKS  # the SDK takes a second to import

    return str(NETWORKS[network.name])


def see(chain: ChainSettings) -> Seen | Finding:
    """What a chain that can be heard says, or why it says nothing."""
    try:
        return asyncio.run(_look(chain))
    except GradientsError as error:
        return refusal(error, chain)


def refusal(error: GradientsError, chain: ChainSettings) -> Finding:
    """The finding on a chain that cannot be worked with."""
    advice = error.fix or "name another --network"
    if error.code == "subnet_missing":
        advice = f"name another --netuid; `btcli subnets list --network {chain.network}` shows those there are"
    return Finding("chain", "missing", error.message, advice)


async def _look(chain: ChainSettings) -> Seen:
    gateway = SdkGateway(chain.network, chain.netuid, nobodys_keys(), timeout_seconds=PATIENCE_SECONDS)
    try:
        metagraph = await gateway.metagraph()
        return Seen(
            metagraph,
            await gateway.block_seconds(),
            await gateway.head_time(),
            await gateway.registration_price_tao(),
        )
    finally:
        await gateway.close()


def shown(seen: Seen, chain: ChainSettings) -> Finding:
    """The chain, in one line."""
    graph = seen.metagraph
    found = (
        f"{chain.network}: block {graph.block}, {len(graph.neurons)} neurons on subnet {graph.netuid}, "
        f"an epoch each {graph.tempo_blocks + 1} blocks of {seen.block_seconds:.1f} s"
    )
    return Finding("chain", "ok", found)


def clock(seen: Seen, now: Clock) -> Finding:
    """Whether this machine's clock is the chain's."""
    ahead = now.now() - seen.head_time
    sync = "timedatectl set-ntp true"
    if ahead < -EARLY_SECONDS:
        found = f"{-ahead:,.0f} s behind the chain's newest block: signed requests of others look as if from the future"
        return Finding("clock", "missing", found, f"set it: {sync}")
    if ahead > LATE_SECONDS + LATE_BLOCKS * seen.block_seconds:
        found = f"{ahead:,.0f} s ahead of the chain's newest block"
        return Finding(
            "clock", "missing", found, f"set it: {sync}; if it is right, the node stands still: see --network"
        )
    return Finding("clock", "ok", f"{ahead:.0f} s after the chain's newest block")


def membership(seen: Seen, role: Role) -> Iterator[Finding]:
    """Whether the hotkey is registered and, for a validator, whether it has the permit; what the chain allows."""
    neuron = seen.metagraph.by_hotkey(role.hotkey) if role.hotkey else None
    if role.hotkey is None:
        return
    if neuron is None:
        flags = f"-w {role.wallet.name} -H {role.wallet.hotkey} -n {role.chain.network} --netuid {role.chain.netuid}"
        found = f"the hotkey {role.hotkey} has no uid on subnet {seen.metagraph.netuid}"
        price = f"; it costs {seen.price_tao:g} TAO now" if seen.price_tao is not None else ""
        advice = f"gradients register {flags} (where the coldkey is{price})"
        yield Finding("registered", "missing", found, advice)
        return
    yield Finding("registered", "ok", f"uid {neuron.uid} since block {neuron.registered_at_block}")
    if role.name == "validator":
        yield _permit(seen, role, stake_alpha=neuron.stake_alpha, has_it=neuron.validator_permit)
        yield _weights(seen.metagraph, role)


def _permit(seen: Seen, role: Role, *, stake_alpha: float, has_it: bool) -> Finding:
    graph = seen.metagraph
    if has_it:
        return Finding("permit", "ok", f"there, with a stake of {stake_alpha:,.1f} alpha")
    least = min((each.stake_alpha for each in graph.neurons if each.validator_permit), default=None)
    others = f"; the least of those who have one is {least:,.1f}" if least is not None else ""
    blocks = max(graph.last_epoch_block + graph.tempo_blocks + 1 - graph.block, 1)
    advice = (
        f"stake more on it: btcli stake add --netuid {graph.netuid} --hotkey {role.hotkey} -w {role.wallet.name}; "
        f"a permit comes with an epoch, the next one in {blocks} blocks ({blocks * seen.block_seconds:,.0f} s)"
    )
    return Finding("permit", "missing", f"none, with a stake of {stake_alpha:,.1f} alpha{others}", advice)


def _weights(graph: Metagraph, role: Role) -> Finding:
    """What rows of weights the subnet takes."""
    if role.version_key is not None and role.version_key < graph.weights_version:
        found = f"the subnet takes weights of version {graph.weights_version} or later, and this is {role.version_key}"
        return Finding("weights", "missing", found, "bring this software up to date (docs/operators.md, Upgrades)")
    found = (
        f"{graph.min_allowed_weights} uids or more, one row in {graph.weights_rate_limit_blocks} blocks, "
        f"{'sealed' if graph.commit_reveal else 'in the open'}"
    )
    return Finding("weights", "ok", found)


def on_chain(seen: Seen, role: Role, address: AxonAddress) -> Iterator[Finding]:
    """Whether the address that stands on chain for us is the one that this daemon publishes."""
    neuron = seen.metagraph.by_hotkey(role.hotkey) if role.hotkey else None
    if neuron is None or neuron.axon is None or neuron.axon == address:
        return
    found = f"{neuron.axon.url()} stands on chain for this hotkey, and {address.url()} will be published"
    advice = f"end the other {role.name} of this hotkey, if one runs there: two take the axon from each other"
    yield Finding("on chain", "note", found, advice)
