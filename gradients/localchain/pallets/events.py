"""The events that this chain emits, with their numbers on the real one. Parts without names are given as a tuple."""

from __future__ import annotations

from gradients.localchain.pallets.declare import events
from gradients.localchain.pallets.substrate_types import DISPATCH_INFO, DispatchError
from gradients.localchain.scale.hints import U16, U64, Account, Hash, annotated

DispatchInfo = annotated(dict, DISPATCH_INFO)

SYSTEM = events(
    0,
    {
        0: ("ExtrinsicSuccess", {"dispatch_info": DispatchInfo}),
        1: ("ExtrinsicFailed", {"dispatch_error": DispatchError, "dispatch_info": DispatchInfo}),
    },
)

BALANCES = events(5, {2: ("Transfer", {"from": Account, "to": Account, "amount": U64})})

TRANSACTION_PAYMENT = events(6, {0: ("TransactionFeePaid", {"who": Account, "actual_fee": U64, "tip": U64})})

SUBTENSOR = events(
    7,
    {
        0: ("NetworkAdded", (U16, U16)),  # netuid, mechanism
        2: ("StakeAdded", (Account, Account, U64, U64, U16, U64)),  # coldkey, hotkey, tao, alpha, netuid, fee
        3: ("StakeRemoved", (Account, Account, U64, U64, U16, U64)),
        4: (
            "StakeMoved",
            (Account, Account, U16, Account, U16, U64),
        ),  # coldkey, from hotkey, netuid, to hotkey, netuid, tao
        5: ("WeightsSet", (U16, U16)),  # netuid, uid
        6: ("NeuronRegistered", (U16, U16, Account)),  # netuid, uid, hotkey
        28: ("AxonServed", (U16, Account)),  # netuid, hotkey
        77: ("ChainIdentitySet", (Account,)),  # coldkey
        91: (
            "StakeTransferred",
            (Account, Account, Account, U16, U16, U64),
        ),  # from coldkey, to coldkey, hotkey, netuids
        92: ("StakeSwapped", (Account, Account, U16, U16, U64)),  # coldkey, hotkey, netuids, tao
        107: ("TimelockedWeightsCommitted", (Account, U16, Hash, U64)),  # hotkey, netuid, digest, round
        108: ("TimelockedWeightsRevealed", (U16, Account)),  # netuid, hotkey
    },
)

COMMITMENTS = events(
    18,
    {
        0: ("Commitment", {"netuid": U16, "who": Account}),
        1: ("TimelockCommitment", {"netuid": U16, "who": Account, "reveal_round": U64}),
        2: ("CommitmentRevealed", {"netuid": U16, "who": Account}),
    },
)

MEV_SHIELD = events(30, {0: ("EncryptedSubmitted", {"id": Hash, "who": Account})})
