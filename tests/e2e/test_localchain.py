"""The local chain as the process that people start: it survives being killed, opens sealed weights in time, and refuses clearly."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import bittensor as bt
import bittensor_core
import pytest

from gradients.chain.sdk import SdkGateway
from gradients.chain.wallet import WalletKeys, open_wallet
from gradients.domain.chain import AxonAddress, Metagraph, Neuron
from gradients.localchain.operator import Operator, operating
from gradients.testing.chain_process import ChainProcess, chain_process

pytestmark = pytest.mark.anyio

TAO = 10**9
VALIDATOR = open_wallet("//Validator", "hotkey")
MINER = open_wallet("//Miner", "hotkey")
OPEN_ROUND = 1000  # of drand: the one whose signature the local chain knows
FAST = "--block-seconds=0.1"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", autouse=True)
def _sdk_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BITTENSOR_RUNTIME_CACHE_DIR", str(tmp_path_factory.mktemp("sdk-cache")))
        yield


@asynccontextmanager
async def gateway_of(chain: ChainProcess, keys: WalletKeys) -> AsyncIterator[SdkGateway]:
    gateway = SdkGateway(chain.url, 1, keys, timeout_seconds=60)
    try:
        yield gateway
    finally:
        await gateway.close()


async def wait_for(gateway: SdkGateway, block: int) -> None:
    async for number in gateway.heads():
        if number >= block:
            return


async def a_market(operator: Operator, validator: SdkGateway, miner: SdkGateway) -> tuple[int, int]:
    """The uids of a validator with a permit and of a miner."""
    uids = await validator.register(), await miner.register()
    addresses = VALIDATOR.coldkey.ss58_address, VALIDATOR.hotkey.ss58_address
    await operator.stake(coldkey=addresses[0], hotkey=addresses[1], netuid=1, rao=1000 * TAO)
    await run_epoch(operator, validator)
    await wait_for(validator, await validator.block() + 2)  # the rate limit of weights, after registering
    return uids


def lasting(neuron: Neuron) -> tuple[object, ...]:
    """What of a neuron no block changes by itself between epochs."""
    return neuron.uid, neuron.hotkey, neuron.coldkey, neuron.axon, neuron.stake_alpha, neuron.registered_at_block


async def test_a_killed_chain_goes_on_with_everything_that_stood_in_it(tmp_path: Path) -> None:
    with chain_process(tmp_path, FAST, "--tempo=50000") as chain:
        async with operating(chain.url) as operator, gateway_of(chain, VALIDATOR) as validator:
            async with gateway_of(chain, MINER) as miner:
                uid, miner_uid = await a_market(operator, validator, miner)
                await miner.publish_axon(AxonAddress("127.0.0.2", 8091))
                committed_at = await miner.commit(b"a commitment")
            await validator.set_weights({miner_uid: 1.0}, version_key=0)
            before, balance = await validator.metagraph(), await validator.balance_tao()
        chain.kill()
        assert chain.start() >= before.block

        async with gateway_of(chain, VALIDATOR) as validator:
            after = await validator.metagraph()
            assert [lasting(neuron) for neuron in after.neurons] == [lasting(neuron) for neuron in before.neurons]
            assert after.neurons[miner_uid].axon == AxonAddress("127.0.0.2", 8091)
            assert await validator.balance_tao() == balance
            assert await validator.weights_of(uid) == {miner_uid: 1.0}
            commitment = (await validator.commitments())[after.neurons[miner_uid].hotkey]
            assert (commitment.payload, commitment.block) == (b"a commitment", committed_at)
            assert await validator.commitments(block=committed_at - 1) == {}  # the way back is kept too
            await wait_for(validator, after.block + 2)
            receipt = await validator.set_weights({miner_uid: 1.0, 0: 1.0}, version_key=0)
            assert receipt.block > after.block


async def test_an_epoch_turns_weights_into_incentive_and_pay(tmp_path: Path) -> None:
    with chain_process(tmp_path, FAST, "--tempo=50000") as chain:
        async with (
            operating(chain.url) as operator,
            gateway_of(chain, VALIDATOR) as validator,
            gateway_of(chain, MINER) as miner,
        ):
            _, uid = await a_market(operator, validator, miner)
            await validator.set_weights({uid: 3.0, 0: 1.0}, version_key=0)
            paid_before = (await validator.metagraph()).neurons[uid]
            metagraph = await run_epoch(operator, validator)
            # The owner has uid 0; its incentive counts, and what it earns as a miner is burned.
            assert [neuron.incentive for neuron in metagraph.neurons][uid] == pytest.approx(0.75, abs=1e-4)
            assert metagraph.neurons[uid].stake_alpha > paid_before.stake_alpha
            assert paid_before.incentive == 0
            terms = await validator.emission_terms()
            assert terms.subnets[1].miner_burned == pytest.approx(0.25, abs=1e-4)
            # It had a tenth of the chain's TAO; of its demand of 1 beside 9 of the others, three quarters are left.
            assert terms.share_if(1, miner_burned=0.0) == pytest.approx(0.1)
            assert terms.shares()[1] == pytest.approx(0.75 / 9.75, abs=1e-4)
            shown = await asyncio.to_thread(explained_burning, chain.url, tmp_path)
            assert (shown["netuid"], shown["burn_share"]) == (1, 0.0)
            assert (shown["burned_now"], shown["part_now"]) == (terms.subnets[1].miner_burned, terms.shares()[1])
            parts = {each["burned"]: each["part"] for each in shown["parts"]}
            assert [parts[burned] for burned in (0.0, 0.5, 1.0)] == pytest.approx([0.1, 0.5 / 9.5, 0.0])


def explained_burning(url: str, home: Path) -> dict[str, Any]:
    """What `gradients weights explain --burn` prints."""
    command = [sys.executable, "-m", "gradients.cli", "weights", "explain", "--burn", "--network", url, "--netuid", "1"]
    run = subprocess.run(
        [*command, "--json"],
        env=os.environ | {"HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    shown: dict[str, Any] = json.loads(run.stdout)
    return shown


def sealed_weights(keys: WalletKeys, weights: Mapping[int, int]) -> bytes:
    """Weights as the SDK seals them, but to a round that is open already."""
    payload = (
        _list(bytes(keys.hotkey.public_key))
        + _list(*(struct.pack("<H", uid) for uid in weights))
        + _list(*(struct.pack("<H", value) for value in weights.values()))
        + struct.pack("<Q", 0)
    )
    envelope, _ = bittensor_core.encrypt_at_round(payload, OPEN_ROUND)
    return bytes(envelope)[2:-8]  # without the length in front and the round behind: the call carries them itself


def _list(*items: bytes) -> bytes:
    """SCALE's encoding of a short list."""
    count = len(items) if len(items) != 1 or len(items[0]) != 32 else 32
    return bytes([count << 2]) + b"".join(items)


async def commit(url: str, keys: WalletKeys, weights: Mapping[int, int]) -> None:
    """Hand in sealed weights."""
    async with bt.Subtensor(url) as client:
        call = bt.calls.SubtensorModule.commit_timelocked_mechanism_weights(
            netuid=1,
            mecid=0,
            commit=sealed_weights(keys, weights),
            reveal_round=OPEN_ROUND,
            commit_reveal_version=4,
        )
        result = await client.submit_call(call, keys, signer="hotkey")
        assert result.success, result.message


async def read_at(url: str, item: Any, keys: list[int], block: int) -> Any:  # noqa: ANN401 (the SDK's values)
    async with bt.Subtensor(url) as client:
        return await client.query(item, keys, block=block)


async def run_epoch(operator: Operator, gateway: SdkGateway) -> Metagraph:
    """The metagraph after an epoch that the operator has triggered."""
    await operator.trigger_epoch(1)
    await wait_for(gateway, await gateway.block() + 2)
    return await gateway.metagraph()


@pytest.mark.parametrize("epochs", [1, 3])
async def test_sealed_weights_are_opened_when_the_reveal_period_is_over_and_pay(tmp_path: Path, epochs: int) -> None:
    with chain_process(tmp_path, FAST, "--tempo=50000", "--commit-reveal") as chain:
        async with (
            operating(chain.url) as operator,
            gateway_of(chain, VALIDATOR) as validator,
            gateway_of(chain, MINER) as miner,
        ):
            await operator.set_hyperparameter(1, "commit_reveal_period", epochs)
            uid, miner_uid = await a_market(operator, validator, miner)
            await commit(chain.url, VALIDATOR, {miner_uid: 65535})
            for _ in range(epochs - 1):
                metagraph = await run_epoch(operator, validator)
                assert metagraph.neurons[miner_uid].incentive == 0
                assert await validator.weights_of(uid) == {}
            metagraph = await run_epoch(operator, validator)
            assert metagraph.neurons[miner_uid].incentive == 1
            # They are opened in the very block that runs the epoch, not before.
            weights, opened_at = bt.storage.SubtensorModule.Weights, metagraph.last_epoch_block
            assert await read_at(chain.url, weights, [1, uid], opened_at - 1) == []
            assert await read_at(chain.url, weights, [1, uid], opened_at) == [(miner_uid, 65535)]


async def test_weights_that_the_sdk_seals_to_a_round_to_come_stay_sealed(tmp_path: Path) -> None:
    with chain_process(tmp_path, FAST, "--tempo=50000", "--commit-reveal") as chain:
        async with (
            operating(chain.url) as operator,
            gateway_of(chain, VALIDATOR) as validator,
            gateway_of(chain, MINER) as miner,
        ):
            uid, miner_uid = await a_market(operator, validator, miner)
            receipt = await validator.set_weights({miner_uid: 1.0}, version_key=0)
            assert receipt.reveal_round is not None
            assert receipt.reveal_round > OPEN_ROUND
            for _ in range(2):
                metagraph = await run_epoch(operator, validator)
                assert metagraph.neurons[miner_uid].incentive == 0
            assert await validator.weights_of(uid) == {}


def run_to_its_end(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gradients.cli", "localchain", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def test_bad_options_are_named_with_what_they_should_be() -> None:
    run = run_to_its_end("--block-seconds=0.001", "--tempo=0")
    assert run.returncode == 1
    assert "--block-seconds should be greater than or equal to 0.02; --tempo should be greater" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_folder_that_cannot_be_made_is_named() -> None:
    run = run_to_its_end("--data=/proc/chain")
    assert run.returncode == 1
    assert "Could not make the folder /proc/chain" in run.stderr


def test_a_port_in_use_is_named_with_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        run = run_to_its_end(f"--port={port}", "--json")
    assert run.returncode == 1
    assert json.loads(run.stdout)["error"] == {
        "code": "setup",
        "blame": "operator",
        "message": f"127.0.0.1:{port} is in use",
        "fix": "Stop what listens there or choose another --port",
    }


def test_two_chains_never_share_a_folder(tmp_path: Path) -> None:
    with chain_process(tmp_path):
        run = run_to_its_end("--port=0", f"--data={tmp_path}")
    assert run.returncode == 1
    assert f"Another chain runs on {tmp_path}" in run.stderr


def test_a_chain_that_is_asked_to_stop_stops_at_once_and_well(tmp_path: Path) -> None:
    with chain_process(tmp_path) as chain:
        assert chain.stop() == 0


def test_the_help_names_every_option() -> None:
    said = run_to_its_end("--help").stdout
    options = ("--port", "--block-seconds", "--tempo", "--data", "--host", "--commit-reveal", "--json")
    assert [option for option in options if option not in said] == []
