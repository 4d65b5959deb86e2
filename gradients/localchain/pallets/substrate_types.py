"""Types that every Substrate chain has: accounts, signatures, eras, dispatch results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from gradients.localchain.scale.choices import Choice, Enum, Variant, plain
from gradients.localchain.scale.hints import ACCOUNT, U8, U32, U64, U128, CompactU64, scale
from gradients.localchain.scale.types import UNIT, ByteVector, Compact, Field, FixedBytes, Integer, Record

ADDRESS = Enum(
    "sp_runtime::multiaddress::MultiAddress",
    (
        Variant(0, "Id", (Field(None, ACCOUNT),)),
        Variant(1, "Index", (Field(None, Compact(UNIT)),)),
        Variant(2, "Raw", (Field(None, ByteVector()),)),
        Variant(3, "Address32", (Field(None, FixedBytes(32)),)),
        Variant(4, "Address20", (Field(None, FixedBytes(20)),)),
    ),
    (("AccountId", ACCOUNT), ("AccountIndex", UNIT)),
)
Address = Annotated[Choice, ADDRESS]

SIGNATURE = Enum(
    "sp_runtime::MultiSignature",
    (
        Variant(0, "Ed25519", (Field(None, FixedBytes(64)),)),
        Variant(1, "Sr25519", (Field(None, FixedBytes(64)),)),
        Variant(2, "Ecdsa", (Field(None, FixedBytes(65)),)),
    ),
)

ERA = Enum(
    "sp_runtime::generic::era::Era",
    (Variant(0, "Immortal"), *(Variant(n, f"Mortal{n}", (Field(None, Integer(1)),)) for n in range(1, 256))),
)

METADATA_MODE = Enum("frame_metadata_hash_extension::Mode", plain("Disabled", "Enabled"))


@dataclass(frozen=True, slots=True)
class AccountData:
    """Balances of an account, rao."""

    PATH: ClassVar[str] = "pallet_balances::types::AccountData"
    free: U64 = 0
    reserved: U64 = 0
    frozen: U64 = 0
    flags: U128 = 1 << 127


@dataclass(frozen=True, slots=True)
class AccountInfo:
    """An account: how many transactions it has sent, and its balances."""

    PATH: ClassVar[str] = "frame_system::AccountInfo"
    nonce: U32 = 0
    consumers: U32 = 0
    providers: U32 = 0
    sufficients: U32 = 0
    data: Annotated[AccountData, scale(AccountData)] = AccountData()


@dataclass(frozen=True, slots=True)
class Weight:
    """What a call costs the block; always the same here."""

    PATH: ClassVar[str] = "sp_weights::weight_v2::Weight"
    ref_time: CompactU64 = 0
    proof_size: CompactU64 = 0


DISPATCH_CLASS = Enum("frame_support::dispatch::DispatchClass", plain("Normal", "Operational", "Mandatory"))
PAYS = Enum("frame_support::dispatch::Pays", plain("Yes", "No"))


DISPATCH_INFO: Record[dict[str, object]] = Record(
    "frame_system::DispatchEventInfo",
    (Field("weight", scale(Weight)), Field("class", DISPATCH_CLASS), Field("pays_fee", PAYS)),
    dict,
)
FREE_OF_CHARGE = {"weight": Weight(), "class": Choice("Normal"), "pays_fee": Choice("No")}


@dataclass(frozen=True, slots=True)
class ModuleError:
    """Which error of which pallet."""

    PATH: ClassVar[str] = "sp_runtime::ModuleError"
    index: U8
    error: Annotated[bytes, FixedBytes(4)]


TOKEN_ERROR = Enum(
    "sp_runtime::TokenError",
    plain(
        "FundsUnavailable",
        "OnlyProvider",
        "BelowMinimum",
        "CannotCreate",
        "UnknownAsset",
        "Frozen",
        "Unsupported",
        "CannotCreateHold",
        "NotExpendable",
        "Blocked",
    ),
)
ARITHMETIC_ERROR = Enum("sp_arithmetic::ArithmeticError", plain("Underflow", "Overflow", "DivisionByZero"))
TRANSACTIONAL_ERROR = Enum("sp_runtime::TransactionalError", plain("LimitReached", "NoLayer"))

DISPATCH_ERROR = Enum(
    "sp_runtime::DispatchError",
    (
        *plain("Other", "CannotLookup", "BadOrigin"),
        Variant(3, "Module", (Field(None, scale(ModuleError)),)),
        Variant(4, "ConsumerRemaining"),
        Variant(5, "NoProviders"),
        Variant(6, "TooManyConsumers"),
        Variant(7, "Token", (Field(None, TOKEN_ERROR),)),
        Variant(8, "Arithmetic", (Field(None, ARITHMETIC_ERROR),)),
        Variant(9, "Transactional", (Field(None, TRANSACTIONAL_ERROR),)),
        Variant(10, "Exhausted"),
        Variant(11, "Corruption"),
        Variant(12, "Unavailable"),
        Variant(13, "RootNotAllowed"),
    ),
)
DispatchError = Annotated[Choice, DISPATCH_ERROR]

PHASE = Enum(
    "frame_system::Phase",
    (
        Variant(0, "ApplyExtrinsic", (Field(None, Integer(4)),)),
        Variant(1, "Finalization"),
        Variant(2, "Initialization"),
    ),
)


DISPATCH_FEE: Record[dict[str, object]] = Record(
    "pallet_transaction_payment::types::RuntimeDispatchInfo",
    (Field("weight", scale(Weight)), Field("class", DISPATCH_CLASS), Field("partial_fee", Integer(8))),
    dict,
)
