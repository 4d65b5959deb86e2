"""Networks and wallets are named by the operator: what is wrong with a name is said before anything starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gradients.chain.network import Network
from gradients.chain.wallet import open_wallet
from gradients.errors import SetupError


@pytest.mark.parametrize(
    ("given", "endpoint", "is_local"),
    [
        ("finney", "finney", False),
        ("test", "test", False),
        ("local", "ws://127.0.0.1:9944", True),
        ("ws://localhost:9000", "ws://localhost:9000", True),
        ("wss://entrypoint.example:443", "wss://entrypoint.example:443", False),
    ],
)
def test_a_network_is_a_name_or_an_endpoint(given: str, endpoint: str, is_local: bool) -> None:
    assert Network.parse(given) == Network(endpoint, is_local)


@pytest.mark.parametrize(
    ("endpoint", "is_local"), [("ws://127.0.0.1:9000", True), ("wss://entrypoint.example:443", False)]
)
def test_local_is_the_endpoint_that_btcli_takes_for_it(
    endpoint: str, is_local: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BT_CHAIN_ENDPOINT", endpoint)
    assert Network.parse("local") == Network(endpoint, is_local)
    said = "import bittensor.settings; print(bittensor.settings.NETWORKS['local'])"
    assert subprocess.check_output([sys.executable, "-c", said], text=True).strip() == endpoint


@pytest.mark.parametrize(
    ("given", "settings", "said"),
    [
        ("finney", {"wallet": "//Alice"}, "development key"),
        ("wss://entrypoint.example:443", {"wallet": "mine", "allow_local_paths": True}, "allow_local_paths"),
    ],
)
def test_what_is_for_local_networks_is_refused_on_others(given: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SetupError, match=said):
        Network.parse(given).check(**settings)
    Network.parse("ws://127.0.0.1:9944").check(**settings)
    Network.parse(given).check(wallet="mine")


@pytest.mark.parametrize("given", ["", "fynney", "http://127.0.0.1:9944", "127.0.0.1:9944", "ws://"])
def test_anything_else_is_not_a_network(given: str) -> None:
    with pytest.raises(SetupError, match="is not a network") as caught:
        Network.parse(given)
    assert "finney" in str(caught.value.fix)


def test_a_wallet_that_is_not_there_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=f"no wallet file {tmp_path}/cold/hotkeys/hot") as caught:
        open_wallet("cold", "hot", tmp_path)
    assert caught.value.fix is not None
    assert "btcli wallet create -w cold -H hot" in caught.value.fix


def test_a_daemon_opens_a_wallet_whose_coldkey_is_elsewhere(tmp_path: Path) -> None:
    from bittensor import Wallet

    wallet = Wallet(name="cold", hotkey="hot", path=str(tmp_path))
    wallet.create_new_coldkey(use_password=False, suppress=True)
    wallet.create_new_hotkey(use_password=False, suppress=True)
    (tmp_path / "cold" / "coldkey").unlink()
    keys = open_wallet("cold", "hot", tmp_path)
    assert keys.hotkey.ss58_address == wallet.hotkey.ss58_address
    assert keys.coldkeypub.ss58_address == wallet.coldkeypub.ss58_address
    with pytest.raises(SetupError, match=f"no wallet file {tmp_path}/cold/coldkey"):
        open_wallet("cold", "hot", tmp_path, with_coldkey=True)


def test_development_keys_need_no_files() -> None:
    alice, again = open_wallet("//Alice", "hotkey"), open_wallet("//Alice", "//Alice//hotkey")
    assert alice.hotkey.ss58_address == again.hotkey.ss58_address
    assert alice.coldkey.ss58_address == "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"
    assert alice.hotkey.ss58_address != alice.coldkey.ss58_address
