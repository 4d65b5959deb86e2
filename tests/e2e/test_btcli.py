"""The SDK's own command line, unchanged, on the local chain: a wallet is made, funded, registered, staked, and its weights pay a miner."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gradients.chain.sdk import SdkGateway
from gradients.chain.wallet import open_wallet
from gradients.domain.json import Json
from gradients.domain.task import Hotkey
from gradients.localchain.operator import operating
from gradients.testing.chain_process import ChainProcess, chain_process

pytestmark = pytest.mark.anyio

BTCLI = Path(sys.executable).with_name("btcli")
TAO = 10**9


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChainProcess]:
    """Its epochs run when a test triggers one. The SDK keeps what it learns of it in the same folder."""
    folder = tmp_path_factory.mktemp("chain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BITTENSOR_RUNTIME_CACHE_DIR", str(folder / "sdk-cache"))
        with chain_process(folder, "--block-seconds=0.1", "--tempo=50000") as chain:
            yield chain


class Btcli:
    """Runs btcli with a home folder, a wallet and a network of its own; what it prints as JSON."""

    def __init__(self, home: Path, network: str) -> None:
        self.wallets = home / "wallets"
        self._environment = {**os.environ, "HOME": str(home), "BT_WALLET_PATH": str(self.wallets)}
        self._options = ["--network", network, "--wallet", "cold", "--wallet-hotkey", "hot", "--json"]

    def __call__(self, *words: str) -> Json:
        run = subprocess.run(
            [BTCLI, *words, *self._options],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert run.returncode == 0, f"btcli {' '.join(words)}: {run.stdout}{run.stderr}"
        printed: Json = json.loads(run.stdout)
        return printed


@pytest.fixture
def btcli(tmp_path: Path, chain: ChainProcess) -> Btcli:
    return Btcli(tmp_path, chain.url)


def test_the_first_subnet_is_listed_and_its_metagraph_shown(btcli: Btcli) -> None:
    subnets = btcli("subnets", "list")
    assert isinstance(subnets, list)
    assert {"netuid": 1, "name": "gradients", "tempo": 50000, "neurons": 1}.items() <= subnets[1].items()
    metagraph = btcli("query", "metagraph", "--netuid", "1")
    assert isinstance(metagraph, dict)
    assert metagraph["num_uids"] == 1
    assert metagraph["hotkeys"] == [metagraph["owner_hotkey"]]


def _fund(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gradients.cli", "localchain", "fund", *words]
    return subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=600, check=False)


def test_a_new_wallet_is_funded_by_a_command_and_registers(btcli: Btcli, chain: ChainProcess) -> None:
    made = btcli("wallet", "create", "--no-password")
    assert isinstance(made, dict)
    funded = _fund(f"{made['coldkey_ss58']}=2.5", "--network", chain.url, "--json")
    assert json.loads(funded.stdout) == [{"address": made["coldkey_ss58"], "rao": 2_500_000_000}], funded.stderr
    balance = btcli("wallet", "balance")
    assert isinstance(balance, dict)
    assert balance["free_tao"] == pytest.approx(2.5)

    btcli("subnets", "register", "--netuid", "1", "--yes")
    metagraph = btcli("query", "metagraph", "--netuid", "1")
    assert isinstance(metagraph, dict)
    assert open_wallet("cold", "hot", btcli.wallets).hotkey.ss58_address in metagraph["hotkeys"]

    coldkey = made["coldkey_ss58"]
    more = _fund(str(coldkey), f"{coldkey}=1234567.5", BT_NETWORK="local", BT_CHAIN_ENDPOINT=chain.url)
    assert more.stdout == f"{coldkey} was given 1,000 TAO\n{coldkey} was given 1,234,567.5 TAO\n", more.stderr
    balance = btcli("wallet", "balance")
    assert isinstance(balance, dict)
    assert balance["free_tao"] == pytest.approx(1_235_569.9)  # registering burns a tenth of a TAO


ALICE = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("5Nobody",), "'5Nobody' is not ADDRESS or ADDRESS=TAO. Write 5F"),
        ((f"{ALICE}=much",), "is not ADDRESS or ADDRESS=TAO"),
        ((f"{ALICE}=nan",), "is not ADDRESS or ADDRESS=TAO"),
        ((f"{ALICE}=-1",), "asks for nothing"),
        ((f"{ALICE}=21000001",), "or for more than can exist. Ask for up to 21,000,000 TAO"),
        ((ALICE, "-n", "finney"), "finney is not a local chain. Name one"),
        (
            (ALICE, "-n", "ws://127.0.0.1:1"),
            "No local chain answers at ws://127.0.0.1:1. Start one: gradients localchain",
        ),
    ],
)
def test_what_cannot_be_given_is_named(words: tuple[str, ...], said: str) -> None:
    run = _fund(*words)
    assert (run.returncode, said in run.stderr, "Traceback" in run.stderr) == (1, True, False), run.stderr


async def test_a_new_wallet_registers_sets_weights_and_pays_a_miner(btcli: Btcli, chain: ChainProcess) -> None:
    made = btcli("wallet", "create", "--no-password")
    keys = open_wallet("cold", "hot", btcli.wallets)
    hotkey, coldkey = Hotkey(keys.hotkey.ss58_address), keys.coldkeypub.ss58_address
    assert isinstance(made, dict)
    assert made["coldkey_ss58"] == coldkey

    async with operating(chain.url) as operator:
        await operator.fund(coldkey, 5 * TAO)
        btcli("subnets", "register", "--netuid", "1", "--yes")
        balance = btcli("wallet", "balance")
        assert isinstance(balance, dict)
        assert balance["free_tao"] == pytest.approx(4.9)  # registering burns a tenth of a TAO

        await operator.stake(coldkey=coldkey, hotkey=hotkey, netuid=1, rao=1000 * TAO)
        await operator.trigger_epoch(1)  # which gives the permit
        gateway = SdkGateway(chain.url, 1, open_wallet("//Miner", "hotkey"))
        try:
            miner = await gateway.register()
            btcli("weights", "set", "--netuid", "1", "--uids", str(miner), "--weights", "1", "--yes")
            await operator.trigger_epoch(1)
            after = await gateway.block() + 2
            async for block in gateway.heads():
                if block >= after:
                    break
        finally:
            await gateway.close()

    metagraph = btcli("query", "metagraph", "--netuid", "1")
    assert isinstance(metagraph, dict)
    assert metagraph["hotkeys"][miner] == gateway.hotkey
    assert metagraph["incentives"][miner] == 65535  # all of it, in sixteen bits
    assert metagraph["emission"][miner] > 0
    assert metagraph["dividends"][metagraph["hotkeys"].index(hotkey)] == 65535


OWNER_HOTKEY = "5HbW7VdqbckN4rag2r6BHFgF6sZEMsdDjdBa1fhoPCvgb9Hu"  # of //Owner//hotkey, on every local chain
EVERYDAY = """
wallet inspect
wallet set-identity --name mine --yes
wallet get-identity
wallet transfer --dest {alice} --amount 2 --yes
subnets show 1
subnets hyperparameters 1
subnets price --netuid 1
subnets metagraph 1
subnets burn-cost 1
sudo get-take
axon set --netuid 1 --ip 127.0.0.2 --port 8091 --yes
stake add --netuid 1 --amount 6 --yes
stake show --netuid 1
stake auto
stake child get --netuid 1
stake move --origin-hotkey {hotkey} --dest-hotkey {other} --origin-netuid 1 --dest-netuid 0 --amount 2 --yes
stake swap --hotkey {hotkey} --origin-netuid 1 --dest-netuid 0 --amount 2 --yes
stake transfer --hotkey {hotkey} --dest {alice} --netuid 1 --amount 2 --yes
stake unstake-all-alpha --yes
stake unstake-all --yes
wallet balance
"""


@pytest.fixture
async def staked(btcli: Btcli, chain: ChainProcess) -> Btcli:
    """A registered wallet with 80 TAO, and 20 alpha of stake."""
    btcli("wallet", "create", "--no-password")
    keys = open_wallet("cold", "hot", btcli.wallets, with_coldkey=True)
    coldkey, hotkey = keys.coldkeypub.ss58_address, Hotkey(keys.hotkey.ss58_address)
    gateway = SdkGateway(chain.url, 1, keys)
    try:
        async with operating(chain.url) as operator:
            await operator.fund(coldkey, 80 * TAO + TAO // 10)  # a tenth for registering
            await gateway.register()
            await operator.stake(coldkey=coldkey, hotkey=hotkey, netuid=1, rao=20 * TAO)
    finally:
        await gateway.close()
    return btcli


def _positions(btcli: Btcli) -> dict[tuple[object, object], object]:
    listed = btcli("stake", "list")
    assert isinstance(listed, list)
    return {(row["hotkey"], row["netuid"]): row["stake_amount"] for row in listed if isinstance(row, dict)}


async def test_stake_is_listed_moved_and_taken_back(staked: Btcli) -> None:
    own = open_wallet("cold", "hot", staked.wallets).hotkey.ss58_address
    places = ("--origin-netuid", "1", "--dest-netuid", "1", "--origin-hotkey", own, "--dest-hotkey", OWNER_HOTKEY)
    staked("stake", "move", *places, "--amount", "5", "--yes")
    staked("stake", "remove", "--netuid", "1", "--amount", "3", "--yes")
    assert _positions(staked) == {(own, 1): 12.0, (OWNER_HOTKEY, 1): 5.0}
    overview = staked("wallet", "overview")
    assert isinstance(overview, list)
    assert isinstance(overview[0], dict)
    assert overview[0]["free_tao"] == pytest.approx(83.0)  # 80, and 3 that came back


@pytest.mark.slow
async def test_every_everyday_command_answers(staked: Btcli) -> None:
    """Of btcli 11, in one go because some change what later ones show; a command that hangs ends the test."""
    own = open_wallet("cold", "hot", staked.wallets).hotkey.ss58_address
    for line in EVERYDAY.format(alice=ALICE, hotkey=own, other=OWNER_HOTKEY).strip().splitlines():
        staked(*line.split())
    identity = staked("wallet", "get-identity")
    assert isinstance(identity, dict)
    assert identity["name"] == "mine"
    assert _positions(staked) == {(OWNER_HOTKEY, 0): 2.0}  # what was moved to another hotkey
    balance = staked("wallet", "balance")
    assert isinstance(balance, dict)
    assert balance["free_tao"] == pytest.approx(
        94.0
    )  # of 100: 2 were given away, 2 as stake, and 2 lie on another hotkey
