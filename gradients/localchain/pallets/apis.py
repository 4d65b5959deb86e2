"""The runtime APIs that this chain answers, and the shapes of the answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from gradients.localchain.pallets.declare import ApiMethod, api_method
from gradients.localchain.pallets.substrate_types import DISPATCH_FEE
from gradients.localchain.pallets.subtensor_types import (
    I32F32,
    I64F64,
    U64F64,
    AxonInfo,
    ChainIdentity,
    LockState,
    PrometheusInfo,
    SubnetIdentity,
)
from gradients.localchain.scale.choices import Choice, Enum, Variant
from gradients.localchain.scale.hints import (
    ACCOUNT,
    U16,
    U32,
    U64,
    Account,
    CompactU8,
    CompactU16,
    CompactU64,
    CompactU128,
    annotated,
    scale,
)
from gradients.localchain.scale.types import Boolean, Compact, Field, Integer, TupleOf, Type, Vector, Wrapped


@dataclass(frozen=True, slots=True, kw_only=True)
class Metagraph:
    """A whole subnet in one answer. Parts from `hotkeys` on have one entry per uid."""

    PATH: ClassVar[str] = "pallet_subtensor::rpc_info::metagraph::Metagraph"
    netuid: CompactU16
    name: list[CompactU8]
    symbol: list[CompactU8]
    identity: SubnetIdentity | None
    network_registered_at: CompactU64
    owner_hotkey: Account
    owner_coldkey: Account
    block: CompactU64
    tempo: CompactU16
    last_step: CompactU64
    blocks_since_last_step: CompactU64
    subnet_emission: CompactU64 = 0
    alpha_in: CompactU64
    alpha_out: CompactU64
    tao_in: CompactU64
    alpha_out_emission: CompactU64
    alpha_in_emission: CompactU64 = 0
    tao_in_emission: CompactU64 = 0
    pending_alpha_emission: CompactU64
    pending_root_emission: CompactU64 = 0
    subnet_volume: CompactU128 = 0
    moving_price: Annotated[I64F64, scale(I64F64)]
    rho: CompactU16
    kappa: CompactU16
    min_allowed_weights: CompactU16
    max_weights_limit: CompactU16
    weights_version: CompactU64
    weights_rate_limit: CompactU64
    activity_cutoff: CompactU64
    max_validators: CompactU16
    num_uids: CompactU16
    max_uids: CompactU16
    burn: CompactU64
    difficulty: CompactU64
    registration_allowed: bool
    pow_registration_allowed: bool
    immunity_period: CompactU16
    min_difficulty: CompactU64
    max_difficulty: CompactU64
    min_burn: CompactU64
    max_burn: CompactU64
    adjustment_alpha: CompactU64
    adjustment_interval: CompactU16
    target_regs_per_interval: CompactU16
    max_regs_per_block: CompactU16
    serving_rate_limit: CompactU64
    commit_reveal_weights_enabled: bool
    commit_reveal_period: CompactU64
    liquid_alpha_enabled: bool
    alpha_high: CompactU16
    alpha_low: CompactU16
    bonds_moving_avg: CompactU64
    hotkeys: list[Account]
    coldkeys: list[Account]
    identities: list[ChainIdentity | None]
    axons: list[AxonInfo]
    active: list[bool]
    validator_permit: list[bool]
    pruning_score: list[CompactU16]
    last_update: list[CompactU64]
    emission: list[CompactU64]
    dividends: list[CompactU16]
    incentives: list[CompactU16]
    consensus: list[CompactU16]
    trust: list[CompactU16]
    rank: list[CompactU16]
    block_at_registration: list[CompactU64]
    alpha_stake: list[CompactU64]
    tao_stake: list[CompactU64]
    total_stake: list[CompactU64]
    tao_dividends_per_hotkey: list[tuple[Account, CompactU64]]
    alpha_dividends_per_hotkey: list[tuple[Account, CompactU64]]
    collateral_locked: list[CompactU64]
    collateral_min: list[CompactU64]
    collateral_earned: list[CompactU64]


@dataclass(frozen=True, slots=True, kw_only=True)
class NeuronInfoLite:
    """One neuron, without its weights and bonds."""

    PATH: ClassVar[str] = "pallet_subtensor::rpc_info::neuron_info::NeuronInfoLite"
    hotkey: Account
    coldkey: Account
    uid: CompactU16
    netuid: CompactU16
    active: bool
    axon_info: Annotated[AxonInfo, scale(AxonInfo)]
    prometheus_info: Annotated[PrometheusInfo, scale(PrometheusInfo)]
    stake: list[tuple[Account, CompactU64]]
    rank: CompactU16 = 0
    emission: CompactU64
    incentive: CompactU16
    consensus: CompactU16
    trust: CompactU16 = 0
    validator_trust: CompactU16
    dividends: CompactU16
    last_update: CompactU64
    validator_permit: bool
    pruning_score: CompactU16 = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class StakeInfo:
    """One coldkey's stake on one hotkey in one subnet."""

    PATH: ClassVar[str] = "pallet_subtensor::rpc_info::stake_info::StakeInfo"
    hotkey: Account
    coldkey: Account
    netuid: CompactU16
    stake: CompactU64
    locked: CompactU64 = 0
    emission: CompactU64
    tao_emission: CompactU64 = 0
    drain: CompactU64 = 0
    is_registered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DelegateInfo:
    """A hotkey that has declared itself open to nominators, and who they are."""

    PATH: ClassVar[str] = "pallet_subtensor::rpc_info::delegate_info::DelegateInfo"
    delegate_ss58: Account
    take: CompactU16
    nominators: list[tuple[Account, list[tuple[CompactU16, CompactU64]]]]
    owner_ss58: Account
    registrations: list[CompactU16]
    validator_permits: list[CompactU16]
    return_per_1000: CompactU64
    total_daily_return: CompactU64


@dataclass(frozen=True, slots=True)
class StakeAvailability:
    """How much of a coldkey's stake in a subnet can be taken out; nothing is ever locked here."""

    PATH: ClassVar[str] = "pallet_subtensor::rpc_info::stake_info::StakeAvailability"
    total: CompactU64
    locked: CompactU64
    available: CompactU64


def _sorted_map(key: Type[Any], value: Type[Any]) -> Type[Any]:
    """Rust's `BTreeMap`: its entries as a list, in the order of the keys."""
    return Wrapped("BTreeMap", Vector(TupleOf((key, value))), (("K", key), ("V", value)))


AVAILABILITY_BY_NETUID = _sorted_map(Integer(2), scale(StakeAvailability))
AVAILABILITY_BY_COLDKEY = _sorted_map(ACCOUNT, AVAILABILITY_BY_NETUID)


@dataclass(frozen=True, slots=True)
class SubnetPrice:
    """TAO per alpha of one subnet, times a billion."""

    PATH: ClassVar[str] = "pallet_subtensor_swap_runtime_api::SubnetPrice"
    netuid: U16
    price: U64


@dataclass(frozen=True, slots=True)
class SwapQuote:
    """What a swap would give."""

    PATH: ClassVar[str] = "pallet_subtensor_swap_runtime_api::SimSwapResult"
    tao_amount: U64
    alpha_amount: U64
    tao_fee: U64 = 0
    alpha_fee: U64 = 0
    tao_slippage: U64 = 0
    alpha_slippage: U64 = 0


HYPERPARAMETER_VALUE = Enum(
    "pallet_subtensor::rpc_info::subnet_info::HyperparamValue",
    (
        Variant(0, "Bool", (Field(None, Boolean()),)),
        Variant(1, "U16", (Field(None, Compact(Integer(2))),)),
        Variant(2, "U32", (Field(None, Compact(Integer(4))),)),
        Variant(3, "U64", (Field(None, Compact(Integer(8))),)),
        Variant(4, "U128", (Field(None, Compact(Integer(16))),)),
        Variant(5, "TaoBalance", (Field(None, Compact(Integer(8))),)),
        Variant(6, "I32F32", (Field(None, scale(I32F32)),)),
        Variant(7, "U64F64", (Field(None, scale(U64F64)),)),
    ),
)


@dataclass(frozen=True, slots=True)
class HyperparameterEntry:
    """One hyper-parameter by name."""

    PATH: ClassVar[str] = "pallet_subtensor::rpc_info::subnet_info::HyperparamEntry"
    name: bytes
    value: Annotated[Choice, HYPERPARAMETER_VALUE]


SUBNET_INFO = "SubnetInfoRuntimeApi"
STAKE_INFO = "StakeInfoRuntimeApi"
SWAP = "SwapRuntimeApi"

GET_METAGRAPH = api_method(SUBNET_INFO, "get_metagraph", Metagraph | None, netuid=U16)
GET_NEXT_EPOCH = api_method(SUBNET_INFO, "get_next_epoch_start_block", U64 | None, netuid=U16)
GET_HYPERPARAMETERS = api_method(SUBNET_INFO, "get_subnet_hyperparams_v3", list[HyperparameterEntry] | None, netuid=U16)
GET_NEURONS_LITE = api_method("NeuronInfoRuntimeApi", "get_neurons_lite", list[NeuronInfoLite], netuid=U16)
GET_STAKE = api_method(STAKE_INFO, "get_stake_info_for_coldkey", list[StakeInfo], coldkey_account=Account)
GET_STAKES = api_method(
    STAKE_INFO,
    "get_stake_info_for_coldkeys",
    list[tuple[Account, list[StakeInfo]]],
    coldkey_accounts=list[Account],
)
GET_POSITION = api_method(
    STAKE_INFO,
    "get_stake_info_for_hotkey_coldkey_netuid",
    StakeInfo | None,
    hotkey_account=Account,
    coldkey_account=Account,
    netuid=U16,
)
GET_AVAILABILITY = api_method(
    STAKE_INFO,
    "get_stake_availability_for_coldkeys",
    annotated(list, AVAILABILITY_BY_COLDKEY),
    coldkey_accounts=list[Account],
    netuids=list[U16] | None,
)
GET_COLDKEY_LOCK = api_method(STAKE_INFO, "get_coldkey_lock", LockState | None, coldkey=Account, netuid=U16)
GET_DELEGATED = api_method(
    "DelegateInfoRuntimeApi",
    "get_delegated",
    list[tuple[DelegateInfo, tuple[CompactU16, CompactU64]]],
    delegatee_account=Account,
)
GET_PRICE = api_method(SWAP, "current_alpha_price", U64, netuid=U16)
GET_PRICES = api_method(SWAP, "current_alpha_price_all", list[SubnetPrice])
QUOTE_BUY = api_method(SWAP, "sim_swap_tao_for_alpha", SwapQuote, netuid=U16, tao=U64)
QUOTE_SELL = api_method(SWAP, "sim_swap_alpha_for_tao", SwapQuote, netuid=U16, alpha=U64)
GET_BASKETS_OWED = api_method("BetaBasketRuntimeApi", "get_root_basket_owed", U64, coldkey=Account)
GET_BASKETS = api_method(
    "BetaBasketRuntimeApi", "get_root_basket_positions", list[tuple[Account, U64, U64]], coldkey=Account
)
GET_SUBNET_COST = api_method("SubnetRegistrationRuntimeApi", "get_network_registration_cost", U64)
QUERY_FEE = api_method("TransactionPaymentApi", "query_info", annotated(dict, DISPATCH_FEE), uxt=bytes, len=U32)

METHODS: tuple[ApiMethod, ...] = tuple(each for each in list(globals().values()) if isinstance(each, ApiMethod))
