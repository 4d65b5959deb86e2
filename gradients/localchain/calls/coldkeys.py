"""What a coldkey says of itself and of its hotkeys (subtensor: utils/identity.rs, macros/dispatches.rs)."""

from __future__ import annotations

from gradients.localchain import stake
from gradients.localchain.dispatch import Dispatch, require
from gradients.localchain.pallets import errors, events
from gradients.localchain.pallets import subtensor as st
from gradients.localchain.pallets.subtensor_types import ChainIdentity
from gradients.localchain.scale.hints import Account


def set_identity(
    call: Dispatch,
    name: bytes,
    url: bytes,
    github_repo: bytes,
    image: bytes,
    discord: bytes,
    description: bytes,
    additional: bytes,
) -> None:
    """Tell who the signer is; one of its hotkeys has to be registered somewhere."""
    owned = call.state.get(st.OWNED_HOTKEYS, call.signer)
    seated = any(call.state.entries(st.IS_NETWORK_MEMBER, hotkey) for hotkey in owned)
    require(seated, errors.SUBTENSOR["HotKeyNotRegisteredInNetwork"])
    said = ChainIdentity(name, url, github_repo, image, discord, description, additional)
    call.state.put(st.IDENTITIES, call.signer, value=said)
    call.emit(events.SUBTENSOR["ChainIdentitySet"], call.signer)


def try_associate_hotkey(call: Dispatch, hotkey: Account) -> None:
    """Make the signer the owner of a hotkey, unless it has one."""
    stake.associate(call.state, call.signer, hotkey)
