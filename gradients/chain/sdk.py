"""The gateway over the official SDK: the same adapter for mainnet, testnet and the loopback chain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from gradients.chain.commitments import CommitmentReader
from gradients.chain.emission import emission_terms_of
from gradients.chain.failures import explained, failure_of, lost_the_nonce
from gradients.chain.gateway import LIFETIME_BLOCKS, MAX_COMMITMENT_BYTES
from gradients.chain.network import Network
from gradients.chain.patience import Patience
from gradients.chain.reading import RAO, exceeds, metagraph_of
from gradients.chain.terms import subnet_terms_of
from gradients.chain.wallet import WalletKeys
from gradients.domain.chain import AxonAddress, Commitment, Metagraph, WeightsReceipt
from gradients.domain.emission import EmissionTerms
from gradients.domain.subnet import SubnetTerms
from gradients.domain.task import Hotkey
from gradients.errors import ChainOutcomeUnknown, ChainRefused, ChainUnreachable
from gradients.log import get_logger

RESUBSCRIBE_SECONDS = 1.0
LONGEST_RESUBSCRIBE_SECONDS = 30.0
LOOK_AGAIN_SECONDS = 1.0
WANTED = {
    "weight_vec_length_is_low": "the subnet wants weights on {0.min_allowed_weights} uids or more",
    "max_weight_exceeded": "the subnet lets no uid have more than {0.max_weight_limit:.4f} of the sum",
}

Result = TypeVar("Result")
log = get_logger("chain")


class SdkGateway:
    """See ChainGateway. One client per gateway, connected at the first call and again whenever the node comes back."""

    def __init__(self, network: str, netuid: int, keys: WalletKeys, *, timeout_seconds: float = 60.0) -> None:
        self._network = Network.parse(network)
        self._netuid = netuid
        self._keys = keys
        self._patience = Patience(timeout_seconds)
        self._client: Any = None  # bittensor's Client, imported late: the SDK takes a second to import
        self._connecting = asyncio.Lock()
        self._writing = asyncio.Lock()  # one transaction at a time: nonces are per account
        self._commitments = CommitmentReader(netuid)

    @property
    def netuid(self) -> int:
        return self._netuid

    @property
    def hotkey(self) -> Hotkey:
        return Hotkey(self._keys.hotkey.ss58_address)

    async def block(self) -> int:
        return int(await self._read("Reading the block", lambda client: client.block()))

    async def block_hash(self, block: int) -> str:
        doing = f"Reading the hash of block {block}"
        final = int(await self._read(doing, lambda client: client.finalized_block()))
        if block > final:
            raise ChainRefused(f"{doing}: block {final} is the last final one", code="block_not_final")
        # The client has no question for a hash alone: block_info decodes the block too, which needs state that nodes forget.
        return str(await self._read(doing, lambda client: client._substrate.block_hash(block)))

    async def block_seconds(self) -> float:
        return float(await self._read("Reading the block time", lambda client: client.block_time()))

    async def head_time(self) -> float:
        when = await self._read("Reading the time of the newest block", lambda client: client.timestamp())
        return float(when.timestamp())

    async def stake_threshold_alpha(self) -> float:
        import bittensor as bt

        item = bt.storage.SubtensorModule.StakeThreshold
        return (
            int(await self._read("Reading the stake that weights need", lambda client: client.query(item)) or 0) / RAO
        )

    async def heads(self) -> AsyncIterator[int]:
        rest = RESUBSCRIBE_SECONDS
        while True:
            numbers: asyncio.Queue[int | None] = asyncio.Queue()
            subscription = self._patience.start(self._subscribe(numbers))
            try:
                while (number := await self._next(numbers)) is not None:
                    rest = RESUBSCRIBE_SECONDS
                    yield number
            finally:
                subscription.cancel()
            log.warning("heads_lost", network=self._network.name, retry_seconds=rest)
            await asyncio.sleep(rest)
            rest = min(rest * 2, LONGEST_RESUBSCRIBE_SECONDS)

    async def _subscribe(self, numbers: asyncio.Queue[int | None]) -> None:
        """Put the number of every new block into `numbers`, and None when the subscription ends."""
        try:
            with explained("Following the chain", network=self._network.name):
                async for header in (await self._connected()).blocks():
                    numbers.put_nowait(int(header.number))
        finally:
            numbers.put_nowait(None)

    async def _next(self, numbers: asyncio.Queue[int | None]) -> int | None:
        """The next number, or None after the time limit: when a node hangs up in good order, SDK 11.3 tells no subscriber."""
        try:
            async with asyncio.timeout(self._patience.seconds):
                return await numbers.get()
        except TimeoutError:
            return None

    async def metagraph(self) -> Metagraph:
        raw = await self._read(
            "Reading the metagraph", lambda client: client.subnets.metagraph(self._netuid, commitments=False)
        )
        if raw is None:
            raise ChainRefused(f"There is no subnet {self._netuid} on {self._network.name}", code="subnet_missing")
        return metagraph_of(raw)

    async def emission_terms(self) -> EmissionTerms:
        return await self._read("Reading what subnets are paid by", emission_terms_of)

    async def commitments(self, *, block: int | None = None) -> Mapping[Hotkey, Commitment]:
        return await self._read(
            f"Reading commitments at block {block or 'head'}",
            lambda client: self._commitments.read(client, block),
        )

    async def weights_of(self, uid: int) -> Mapping[int, float]:
        matrix = await self._read("Reading weights", lambda client: client.weights.weights(netuid=self._netuid))
        return dict(matrix.get(uid, {}))

    async def balance_tao(self) -> float:
        address = self._keys.coldkeypub.ss58_address
        balance = await self._read("Reading the balance", lambda client: client.balances.get(address))
        return float(balance.tao)

    async def subnet_terms(self) -> SubnetTerms:
        """What the subnet's owner has set, and what registering costs."""
        return await self._read(
            "Reading the subnet's hyperparameters", lambda client: subnet_terms_of(client, self._netuid)
        )

    async def registration_price_tao(self) -> float:
        """What registering costs at the moment; it floats."""
        price = await self._read("Reading the price", lambda client: client.subnets.burn(self._netuid))
        return float(price.tao)

    async def register(self) -> int:
        import bittensor as bt

        if (uid := await self._uid()) is not None:
            return uid
        intent = bt.BurnedRegister(netuid=self._netuid)

        async def done() -> bool:
            return await self._uid() is not None

        await self._write("Registering", lambda client: client.execute(intent, self._keys), done=done)
        if (uid := await self._uid()) is None:
            raise ChainOutcomeUnknown("The registration was included, but the hotkey has no uid yet", fix="Look again")
        return uid

    async def publish_axon(self, address: AxonAddress) -> bool:
        import bittensor as bt

        if await self._serves(address):
            return False
        intent = bt.ServeAxon(netuid=self._netuid, ip=address.ip, port=address.port)
        await self._write(
            "Publishing the axon",
            lambda client: client.execute(intent, self._keys),
            done=lambda: self._serves(address),
        )
        return True

    async def commit(self, payload: bytes) -> int:
        import bittensor as bt

        if not 0 < len(payload) <= MAX_COMMITMENT_BYTES:
            raise ChainRefused(
                f"A commitment has 1 to {MAX_COMMITMENT_BYTES} bytes, not {len(payload)}", code="commitment_length"
            )
        if (block := await self._committed(payload)) is not None:
            return block
        fields = [[{f"Raw{len(payload)}": f"0x{payload.hex()}"}]]
        call = bt.calls.Commitments.set_commitment(netuid=self._netuid, info={"fields": fields})

        async def done() -> bool:
            return await self._committed(payload) is not None

        await self._write("Committing", lambda c: c.submit_call(call, self._keys, signer="hotkey"), done=done)
        if (block := await self._committed(payload)) is None:
            raise ChainOutcomeUnknown("The commitment was included, but the chain shows another one")
        return block

    async def set_weights(
        self, shares: Mapping[int, float], *, version_key: int, lifetime_blocks: int = LIFETIME_BLOCKS
    ) -> WeightsReceipt:
        import bittensor as bt

        metagraph = await self.metagraph()
        before = self._last_update(metagraph)
        if code := exceeds(shares, metagraph, setter=self.hotkey):  # the SDK would change them without a word
            raise ChainRefused(f"Setting weights: {WANTED[code].format(metagraph)}", code=code)
        intent = bt.SetWeights(netuid=self._netuid, weights=dict(shares), version_key=version_key)

        async def done() -> bool:
            return self._last_update(await self.metagraph()) > before

        result = await self._write(
            "Setting weights",
            lambda client: client.execute(intent, self._keys, period=lifetime_blocks),
            done=done,
        )
        reveal_round = result.data.get("reveal_round") if result is not None else None
        return WeightsReceipt(block=self._last_update(await self.metagraph()), reveal_round=reveal_round)

    async def close(self) -> None:
        await self._patience.end()
        if self._client is not None:
            client, self._client = self._client, None
            with suppress(TimeoutError):
                await self._patience.wait(client.close())

    async def _read(self, doing: str, call: Callable[[Any], Awaitable[Result]]) -> Result:
        """A call that changes nothing, within the time limit."""

        async def connected() -> Result:
            return await call(await self._connected())

        with explained(doing, network=self._network.name):
            return await self._patience.wait(connected())

    async def _write(
        self, doing: str, call: Callable[[Any], Awaitable[Any]], *, done: Callable[[], Awaitable[bool]]
    ) -> Any:  # noqa: ANN401 (an ExtrinsicResult, or None when only the chain's state tells that it worked)
        """Send a transaction once; after silence the chain's state decides, and the next one goes out by a new connection.

        The old connection's client has counted the account's number of transactions up for the lost one; if that never arrived, all that
        it sent later would wait in the pool for a number that nobody sends.

        Raises ChainOutcomeUnknown when the chain does not show the effect within the time limit either.
        """
        async with self._writing:
            try:
                return await self._send(doing, call, done)
            except ChainUnreachable as error:
                lost = error
            if self._client is not None:
                client, self._client = self._client, None
                self._patience.start(client.close())
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience.seconds):
                    while True:
                        with suppress(ChainUnreachable):
                            if await done():
                                return None
                        await asyncio.sleep(LOOK_AGAIN_SECONDS)
            raise ChainOutcomeUnknown(f"{doing}: sent, and then silence ({lost.message})") from lost

    async def _send(
        self, doing: str, call: Callable[[Any], Awaitable[Any]], done: Callable[[], Awaitable[bool]]
    ) -> Any:  # noqa: ANN401 (as above)
        """Send; while others take the nonce, look whether this is still needed and send again, within the time limit."""
        give_up_at = asyncio.get_running_loop().time() + self._patience.seconds
        while True:
            try:
                result = await self._read(doing, call)
                if result.success:
                    return result
                if result.error is None:
                    raise ChainRefused(f"{doing}: {result.message}")
                raise failure_of(result.error, doing, network=self._network.name)
            except ChainRefused as error:
                if not lost_the_nonce(error) or asyncio.get_running_loop().time() > give_up_at:
                    raise
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
            if await done():
                return None

    async def _connected(self) -> Any:  # noqa: ANN401 (bittensor's Client)
        async with self._connecting:  # or two first calls would open two connections
            if self._client is None:
                import bittensor as bt

                client = bt.Subtensor(self._network.name, retry_forever=True)
                try:
                    self._client = await client.__aenter__()
                except BaseException:
                    self._patience.start(client.close())  # or it would go on dialling
                    raise
            return self._client

    async def _uid(self) -> int | None:
        neuron = (await self.metagraph()).by_hotkey(self.hotkey)
        return neuron.uid if neuron else None

    async def _serves(self, address: AxonAddress) -> bool:
        neuron = (await self.metagraph()).by_hotkey(self.hotkey)
        return neuron is not None and neuron.axon == address

    async def _committed(self, payload: bytes) -> int | None:
        """The block in which `payload` stands as our commitment, or None."""
        commitment = (await self.commitments()).get(self.hotkey)
        return commitment.block if commitment and commitment.payload == payload else None

    def _last_update(self, metagraph: Metagraph) -> int:
        neuron = metagraph.by_hotkey(self.hotkey)
        if neuron is None:
            raise ChainRefused(f"{self.hotkey} is not registered on subnet {self._netuid}", code="not_registered")
        return neuron.last_update_block
