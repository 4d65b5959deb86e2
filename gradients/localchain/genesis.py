"""The first block: funded development accounts, the root network, and a started subnet 1."""

from __future__ import annotations

from gradients.localchain import accounts, neurons, stake, subnets
from gradients.localchain.epoch import drand
from gradients.localchain.keys import public_key
from gradients.localchain.pallets import storage
from gradients.localchain.pallets import subtensor as st
from gradients.localchain.pallets.subtensor_types import SubnetIdentity
from gradients.localchain.settings import LocalChainSettings
from gradients.localchain.state import Draft

FUNDED = ("//Alice", "//Bob", "//Charlie", "//Dave", "//Eve", "//Ferdie", "//Owner", "//Validator", "//Miner")
FUNDS_RAO = 1_000_000 * st.RAO_PER_TAO
OWNER = "//Owner"
OWNER_HOTKEY = "//Owner//hotkey"
ROOT_TEMPO = 100
SUBNET = 1
OTHERS = 2  # stands for all other subnets of a network: what subnet 1 loses of the chain's TAO by burning, it gets
OTHERS_PRICE = 9  # so subnet 1 gets a tenth of a block's TAO while it burns nothing


def write(state: Draft, settings: LocalChainSettings, *, shield_key: bytes) -> None:
    """Everything that stands before block 1."""
    for uri in FUNDED:
        accounts.credit(state, public_key(uri), FUNDS_RAO)
    state.put(storage.TOTAL_ISSUANCE, value=len(FUNDED) * FUNDS_RAO)
    state.put(storage.NEXT_KEY, value=shield_key)
    drand.publish_known_round(state)
    subnets.add(state, stake.ROOT, tempo=ROOT_TEMPO)
    state.put(st.SUBTOKEN_ENABLED, stake.ROOT, value=True)

    # Subnet 1 as `register_network` and `start_call` leave it, with limits that let a test breathe.
    owner, hotkey = public_key(OWNER), public_key(OWNER_HOTKEY)
    subnets.add(state, SUBNET, tempo=settings.tempo)
    state.put(st.SUBNET_OWNER, SUBNET, value=owner)
    state.put(st.SUBNET_OWNER_HOTKEY, SUBNET, value=hotkey)
    state.put(st.SUBNET_IDENTITIES, SUBNET, value=SubnetIdentity(subnet_name=b"gradients"))
    stake.associate(state, owner, hotkey)
    neurons.seat(state, SUBNET, hotkey, block=0)
    subnets.start(state, SUBNET, 0)
    state.put(st.COMMIT_REVEAL_ENABLED, SUBNET, value=settings.commit_reveal)
    state.put(st.WEIGHTS_SET_RATE_LIMIT, SUBNET, value=settings.weights_rate_limit)
    state.put(st.SERVING_RATE_LIMIT, SUBNET, value=settings.serving_rate_limit)

    subnets.add(state, OTHERS, tempo=0, price=OTHERS_PRICE)
    state.put(st.SUBNET_IDENTITIES, OTHERS, value=SubnetIdentity(subnet_name=b"the rest of the network"))
    subnets.start(state, OTHERS, 0)
