"""Storage of the subtensor pallet. Defaults are mainnet's; genesis sets what a local subnet needs otherwise.

Some items are never written here: clients read them by name, and would fail on a chain that lacks them.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

from gradients.localchain.pallets.declare import Hasher, Key, Storage
from gradients.localchain.pallets.storage import ACCOUNT_BLAKE, NETUID, item, optional
from gradients.localchain.pallets.subtensor_types import (
    EPOCH_CONSENSUS,
    I96F32,
    U64F64,
    U64F64_ONE,
    U96F32,
    AxonInfo,
    ChainIdentity,
    FixedPoint,
    NeuronCertificate,
    SignedFixedPoint,
    SubnetIdentity,
)
from gradients.localchain.scale.choices import Choice
from gradients.localchain.scale.hints import I16, U16, U32, U64, Account, BoundedBytes, Hint, annotated, scale
from gradients.localchain.scale.types import Integer

T = TypeVar("T")

PALLET = "SubtensorModule"
U16_MAX = 65535
U64_MAX = 2**64 - 1
RAO_PER_TAO = 10**9
NOBODY = bytes(32)

UID = Key(Hasher.IDENTITY, Integer(2))
NETUID_BLAKE = Key(Hasher.BLAKE2_128_CONCAT, Integer(2))
NETUID_TWOX = Key(Hasher.TWOX_64_CONCAT, Integer(2))
EPOCH_TWOX = Key(Hasher.TWOX_64_CONCAT, Integer(8))


def _one(name: str, hint: Hint, default: T) -> Storage[T]:
    return item(PALLET, name, hint, default)


def _subnet(name: str, hint: Hint, default: T, key: Key = NETUID) -> Storage[T]:
    return item(PALLET, name, hint, default, key)


# Which subnets there are, and whose
NETWORKS_ADDED = _subnet("NetworksAdded", bool, False)
TOTAL_NETWORKS = _one("TotalNetworks", U16, 0)
SUBNETWORK_N = _subnet("SubnetworkN", U16, 0)
SUBNET_MECHANISM = _subnet("SubnetMechanism", U16, 0)
MECHANISM_COUNT = _subnet("MechanismCountCurrent", U16, 1)
SUBNET_OWNER = _subnet("SubnetOwner", Account, NOBODY)
SUBNET_OWNER_HOTKEY = _subnet("SubnetOwnerHotkey", Account, NOBODY)
NETWORK_REGISTERED_AT = _subnet("NetworkRegisteredAt", U64, 0)
SUBNET_LOCKED = _subnet("SubnetLocked", U64, 0)
NETWORK_LAST_LOCK_COST = _one("NetworkLastLockCost", U64, 1000 * RAO_PER_TAO)
START_CALL_DELAY = _one("StartCallDelay", U64, 0)
FIRST_EMISSION_BLOCK: Storage[int | None] = optional(PALLET, "FirstEmissionBlockNumber", U64, NETUID)
SUBTOKEN_ENABLED = _subnet("SubtokenEnabled", bool, False)
TOKEN_SYMBOL = _subnet("TokenSymbol", bytes, b"")
SUBNET_IDENTITIES: Storage[SubnetIdentity | None] = optional(PALLET, "SubnetIdentitiesV3", SubnetIdentity, NETUID_BLAKE)

# Neurons, by uid or by hotkey
UIDS: Storage[int | None] = optional(PALLET, "Uids", U16, NETUID, ACCOUNT_BLAKE)
KEYS = item(PALLET, "Keys", Account, NOBODY, NETUID, UID)
OWNER = item(PALLET, "Owner", Account, NOBODY, ACCOUNT_BLAKE)
OWNED_HOTKEYS: Storage[list[bytes]] = item(PALLET, "OwnedHotkeys", list[Account], [], ACCOUNT_BLAKE)
STAKING_HOTKEYS: Storage[list[bytes]] = item(PALLET, "StakingHotkeys", list[Account], [], ACCOUNT_BLAKE)
IS_NETWORK_MEMBER = item(PALLET, "IsNetworkMember", bool, False, ACCOUNT_BLAKE, NETUID)
BLOCK_AT_REGISTRATION = item(PALLET, "BlockAtRegistration", U64, 0, NETUID, UID)
AXONS: Storage[AxonInfo | None] = optional(PALLET, "Axons", AxonInfo, NETUID, ACCOUNT_BLAKE)
NEURON_CERTIFICATES: Storage[NeuronCertificate | None] = optional(
    PALLET, "NeuronCertificates", NeuronCertificate, NETUID, ACCOUNT_BLAKE
)
IDENTITIES: Storage[ChainIdentity | None] = optional(PALLET, "IdentitiesV2", ChainIdentity, ACCOUNT_BLAKE)

# One entry per uid
ACTIVE: Storage[list[bool]] = _subnet("Active", list[bool], [])
EMISSION: Storage[list[int]] = _subnet("Emission", list[U64], [])
CONSENSUS: Storage[list[int]] = _subnet("Consensus", list[U16], [])
INCENTIVE: Storage[list[int]] = _subnet("Incentive", list[U16], [])
DIVIDENDS: Storage[list[int]] = _subnet("Dividends", list[U16], [])
LAST_UPDATE: Storage[list[int]] = _subnet("LastUpdate", list[U64], [])
VALIDATOR_TRUST: Storage[list[int]] = _subnet("ValidatorTrust", list[U16], [])
VALIDATOR_PERMIT: Storage[list[bool]] = _subnet("ValidatorPermit", list[bool], [])
STAKE_WEIGHT: Storage[list[int]] = _subnet("StakeWeight", list[U16], [])
WEIGHTS: Storage[list[tuple[int, int]]] = item(PALLET, "Weights", list[tuple[U16, U16]], [], NETUID, UID)
BONDS: Storage[list[tuple[int, int]]] = item(PALLET, "Bonds", list[tuple[U16, U16]], [], NETUID, UID)

# Stake. One share is worth one rao of alpha here, for ever.
ALPHA = item(PALLET, "Alpha", FixedPoint, U64F64(), ACCOUNT_BLAKE, ACCOUNT_BLAKE, NETUID)
TOTAL_HOTKEY_ALPHA = item(PALLET, "TotalHotkeyAlpha", U64, 0, ACCOUNT_BLAKE, NETUID)
ALPHA_DIVIDENDS = item(PALLET, "AlphaDividendsPerSubnet", U64, 0, NETUID, ACCOUNT_BLAKE)
STAKE_THRESHOLD = _one("StakeThreshold", U64, 0)
TAO_WEIGHT = _one("TaoWeight", U64, int(0.18 * U64_MAX))
SUBNET_TAO = _subnet("SubnetTAO", U64, 0)
SUBNET_ALPHA_IN = _subnet("SubnetAlphaIn", U64, 0)
SUBNET_ALPHA_OUT = _subnet("SubnetAlphaOut", U64, 0)
SUBNET_MOVING_PRICE = _subnet("SubnetMovingPrice", Annotated[I96F32, scale(I96F32)], I96F32())
SUBNET_TAO_IN_EMISSION = _subnet("SubnetTaoInEmission", U64, 0)
SUBNET_ALPHA_OUT_EMISSION = _subnet("SubnetAlphaOutEmission", U64, 0)
SUBNET_EMA_TAO_FLOW: Storage[object] = optional(PALLET, "SubnetEmaTaoFlow", tuple[U64, SignedFixedPoint], NETUID)

# Epochs and what they pay
TEMPO = _subnet("Tempo", U16, 360)
LAST_EPOCH_BLOCK = _subnet("LastEpochBlock", U64, 0)
PENDING_EPOCH_AT = _subnet("PendingEpochAt", U64, 0)
SUBNET_EPOCH_INDEX = _subnet("SubnetEpochIndex", U64, 0)
BLOCKS_SINCE_LAST_STEP = _subnet("BlocksSinceLastStep", U64, 0)
LAST_STEP_BLOCK = _subnet("LastMechansimStepBlock", U64, 0)  # the chain spells it so
PENDING_SERVER_EMISSION = _subnet("PendingServerEmission", U64, 0)
PENDING_VALIDATOR_EMISSION = _subnet("PendingValidatorEmission", U64, 0)
PENDING_OWNER_CUT = _subnet("PendingOwnerCut", U64, 0)
SUBNET_OWNER_CUT = _one("SubnetOwnerCut", U16, 11796)  # 18 %
OWNER_CUT_ENABLED = _subnet("OwnerCutEnabled", bool, True)
OWNER_CUT_AUTO_LOCK = _subnet("OwnerCutAutoLockEnabled", bool, False)

MINER_BURNED = _subnet("MinerBurned", Annotated[U96F32, scale(U96F32)], U96F32())
SUBNET_EMISSION_ENABLED = _subnet("SubnetEmissionEnabled", bool, True)
EMISSION_GATE_BAR = _one("EmissionGateBar", FixedPoint, U64F64())  # the gate is off
EMISSION_GATE_EXPONENT = _one("EmissionGateExponent", FixedPoint, U64F64(3 << 64))

# Weights in the commit-reveal regime
COMMIT_REVEAL_ENABLED = _subnet("CommitRevealWeightsEnabled", bool, True)
COMMIT_REVEAL_VERSION = _one("CommitRevealWeightsVersion", U16, 4)
REVEAL_PERIOD_EPOCHS = _subnet("RevealPeriodEpochs", U64, 1, NETUID_TWOX)
TIMELOCKED_COMMITS: Storage[list[tuple[bytes, int, bytes, int]]] = item(
    PALLET, "TimelockedWeightCommits", list[tuple[Account, U64, BoundedBytes, U64]], [], NETUID_TWOX, EPOCH_TWOX
)

# Hyper-parameters
EPOCH_CONSENSUS_MODE = _subnet("SubnetEpochConsensus", annotated(Choice, EPOCH_CONSENSUS), Choice("Yuma"))
KAPPA = _subnet("Kappa", U16, 32767)
RHO = _subnet("Rho", U16, 10)
BONDS_MOVING_AVERAGE = _subnet("BondsMovingAverage", U64, 900_000)
BONDS_PENALTY = _subnet("BondsPenalty", U16, U16_MAX)
BONDS_RESET = _subnet("BondsResetOn", bool, False)
YUMA3 = _subnet("Yuma3On", bool, False, NETUID_BLAKE)
LIQUID_ALPHA = _subnet("LiquidAlphaOn", bool, False, NETUID_BLAKE)
ALPHA_VALUES = _subnet("AlphaValues", tuple[U16, U16], (45875, 58982))  # 0.7 and 0.9
ALPHA_SIGMOID_STEEPNESS = _subnet("AlphaSigmoidSteepness", I16, 1000)
ACTIVITY_CUTOFF = _subnet("ActivityCutoff", U16, 5000)
ACTIVITY_CUTOFF_FACTOR = _subnet("ActivityCutoffFactorMilli", U32, 13_889)
MAX_ALLOWED_UIDS = _subnet("MaxAllowedUids", U16, 256)
MIN_NON_IMMUNE_UIDS = _subnet("MinNonImmuneUids", U16, 10)
MAX_ALLOWED_VALIDATORS = _subnet("MaxAllowedValidators", U16, 128)
IMMUNITY_PERIOD = _subnet("ImmunityPeriod", U16, 4096)
IMMUNE_OWNER_UIDS_LIMIT = _subnet("ImmuneOwnerUidsLimit", U16, 1)
MIN_ALLOWED_WEIGHTS = _subnet("MinAllowedWeights", U16, 1)
MAX_WEIGHTS_LIMIT = _subnet("MaxWeightsLimit", U16, U16_MAX)
WEIGHTS_VERSION_KEY = _subnet("WeightsVersionKey", U64, 0)
WEIGHTS_SET_RATE_LIMIT = _subnet("WeightsSetRateLimit", U64, 100)
SERVING_RATE_LIMIT = _subnet("ServingRateLimit", U64, 50)
TX_RATE_LIMIT = _one("TxRateLimit", U64, 0)
REGISTRATION_ALLOWED = _subnet("NetworkRegistrationAllowed", bool, False)
POW_REGISTRATION_ALLOWED = _subnet("NetworkPowRegistrationAllowed", bool, False)
MAX_REGISTRATIONS_PER_BLOCK = _subnet("MaxRegistrationsPerBlock", U16, 1)
TARGET_REGISTRATIONS = _subnet("TargetRegistrationsPerInterval", U16, 2)
ADJUSTMENT_INTERVAL = _subnet("AdjustmentInterval", U16, 100)
ADJUSTMENT_ALPHA = _subnet("AdjustmentAlpha", U64, 0)
BURN = _subnet("Burn", U64, RAO_PER_TAO // 10)
MIN_BURN = _subnet("MinBurn", U64, 500_000)
MAX_BURN = _subnet("MaxBurn", U64, 100 * RAO_PER_TAO)
BURN_HALF_LIFE = _subnet("BurnHalfLife", U16, 0)
BURN_INCREASE = _subnet("BurnIncreaseMult", FixedPoint, U64F64_ONE)
DIFFICULTY = _subnet("Difficulty", U64, 10_000_000)
MIN_DIFFICULTY = _subnet("MinDifficulty", U64, 10_000_000)
MAX_DIFFICULTY = _subnet("MaxDifficulty", U64, U64_MAX // 4)
COLLATERAL_LOCK_SHARE = _subnet("CollateralLockShare", U16, 0)
COLLATERAL_DRAIN_RATIO = _subnet("CollateralDrainRatio", FixedPoint, U64F64_ONE)
MIN_CHILDKEY_TAKE = _subnet("MinChildkeyTakePerSubnet", U16, 0)
TRANSFER_TOGGLE = _subnet("TransferToggle", bool, True)

ITEMS = tuple(each for each in list(globals().values()) if isinstance(each, Storage))
