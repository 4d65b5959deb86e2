"""Keys. A daemon opens its hotkey only; the coldkey is read for registering, and never kept on a GPU box."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from gradients.config import WalletSettings
from gradients.errors import SetupError

DEVELOPMENT = "//"


@dataclass(frozen=True, slots=True)
class WalletKeys:
    """What the SDK signs with. Has the attributes that it looks for in a wallet."""

    name: str
    coldkey: Any  # bittensor's Keypair carries no types; public part only, unless it was opened for registering
    hotkey: Any

    @property
    def coldkeypub(self) -> Any:  # noqa: ANN401 (as above)
        """The coldkey's address."""
        return self.coldkey

    @property
    def hotkeypub(self) -> Any:  # noqa: ANN401 (as above)
        """The hotkey's address."""
        return self.hotkey


def open_wallet(name: str, hotkey: str, path: Path | None = None, *, with_coldkey: bool = False) -> WalletKeys:
    """The keys called `name` and `hotkey`; names that start with // are development keys made from that URI.

    Raises SetupError that names the missing file and the command that makes it.
    """
    if name.startswith(DEVELOPMENT):
        from bittensor.sp_core import Keypair

        uri = hotkey if hotkey.startswith(DEVELOPMENT) else f"{name}//{hotkey}"
        create = cast(Any, Keypair.create_from_uri)
        return WalletKeys(name, create(name), create(uri))
    from bittensor import Wallet

    wallets = path or WalletSettings().path
    folder = wallets / name
    files = (folder / "hotkeys" / hotkey, folder / ("coldkey" if with_coldkey else "coldkeypub.txt"))
    for file in files:
        if not file.is_file():
            raise SetupError(f"There is no wallet file {file}", fix=_how_to_get(file, name, hotkey))
    wallet = Wallet(name=name, hotkey=hotkey, path=str(wallets))
    try:
        coldkey = wallet.coldkey if with_coldkey else wallet.coldkeypub
        return WalletKeys(f"{name}/{hotkey}", coldkey, wallet.hotkey)
    except Exception as error:  # the SDK's key files raise whatever went wrong: a password, a format, a permission
        raise SetupError(
            f"The wallet {name}/{hotkey} cannot be opened: {error}",
            fix=f"Copy {files[0]} again from where it was made, or make it from its mnemonic: "
            f"`btcli wallet regen-hotkey -w {name} -H {hotkey}`",
        ) from error


def _how_to_get(file: Path, name: str, hotkey: str) -> str:
    """What to do about a file of a wallet that is not there."""
    if file.name == "coldkeypub.txt" and (file.parent / "hotkeys" / hotkey).is_file():
        return (
            "Copy coldkeypub.txt, which is not a secret, from the machine that has the coldkey, or write it from what is public: "
            f"`btcli wallet regen-coldkeypub -w {name} --ss58 ADDRESS --public-key HEX`"
        )
    return f"Make the wallet with `btcli wallet create -w {name} -H {hotkey}`, or name another one"


def nobodys_keys() -> WalletKeys:
    """Keys that are made up and thrown away, for whoever only reads a chain."""
    from bittensor.sp_core import Keypair

    made = cast(Any, Keypair)
    key = made.create_from_mnemonic(made.generate_mnemonic())
    return WalletKeys("nobody", key, key)
