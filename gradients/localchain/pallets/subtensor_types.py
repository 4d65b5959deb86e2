"""Types of the subtensor, commitments and drand pallets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from gradients.localchain.scale.choices import Choice, Enum, Variant, plain
from gradients.localchain.scale.hints import I64, I128, U8, U16, U32, U64, U128, BoundedBytes, bounded, scale
from gradients.localchain.scale.types import Field, FixedBytes, Integer


@dataclass(frozen=True, slots=True)
class AxonInfo:
    """Where a neuron serves; all zero when it doesn't."""

    PATH: ClassVar[str] = "pallet_subtensor::pallet::AxonInfo"
    block: U64 = 0
    version: U32 = 0
    ip: U128 = 0
    port: U16 = 0
    ip_type: U8 = 0
    protocol: U8 = 0
    placeholder1: U8 = 0
    placeholder2: U8 = 0


@dataclass(frozen=True, slots=True)
class PrometheusInfo:
    """Where a neuron serves metrics; never set here."""

    PATH: ClassVar[str] = "pallet_subtensor::pallet::PrometheusInfo"
    block: U64 = 0
    version: U32 = 0
    ip: U128 = 0
    port: U16 = 0
    ip_type: U8 = 0


@dataclass(frozen=True, slots=True)
class NeuronCertificate:
    """A neuron's public key for transport security."""

    PATH: ClassVar[str] = "pallet_subtensor::pallet::NeuronCertificate"
    public_key: BoundedBytes
    algorithm: U8


@dataclass(frozen=True, slots=True)
class SubnetIdentity:
    """What a subnet's owner says of it."""

    PATH: ClassVar[str] = "pallet_subtensor::pallet::SubnetIdentityV3"
    subnet_name: bytes = b""
    github_repo: bytes = b""
    subnet_contact: bytes = b""
    subnet_url: bytes = b""
    discord: bytes = b""
    description: bytes = b""
    logo_url: bytes = b""
    additional: bytes = b""


@dataclass(frozen=True, slots=True)
class ChainIdentity:
    """What a coldkey says of itself; never set here."""

    PATH: ClassVar[str] = "pallet_subtensor::pallet::ChainIdentityV2"
    name: bytes = b""
    url: bytes = b""
    github_repo: bytes = b""
    image: bytes = b""
    discord: bytes = b""
    description: bytes = b""
    additional: bytes = b""


@dataclass(frozen=True, slots=True)
class U64F64:
    """A fixed-point number with 64 bits behind the point."""

    PATH: ClassVar[str] = "substrate_fixed::FixedU128"
    bits: U128 = 0


@dataclass(frozen=True, slots=True)
class U96F32:
    """A fixed-point number with 32 bits behind the point."""

    PATH: ClassVar[str] = "substrate_fixed::FixedU128"
    bits: U128 = 0


@dataclass(frozen=True, slots=True)
class I96F32:
    """A signed fixed-point number with 32 bits behind the point."""

    PATH: ClassVar[str] = "substrate_fixed::FixedI128"
    bits: I128 = 0


@dataclass(frozen=True, slots=True)
class I64F64:
    """A signed fixed-point number with 64 bits behind the point."""

    PATH: ClassVar[str] = "substrate_fixed::FixedI128"
    bits: I128 = 0


@dataclass(frozen=True, slots=True)
class I32F32:
    """A signed fixed-point number with 32 bits behind the point."""

    PATH: ClassVar[str] = "substrate_fixed::FixedI64"
    bits: I64 = 0


@dataclass(frozen=True, slots=True)
class LockState:
    """Alpha that a coldkey has locked; never set here."""

    PATH: ClassVar[str] = "pallet_subtensor::staking::lock::LockState"
    locked_mass: U64
    conviction: Annotated[U64F64, scale(U64F64)]
    last_update: U64


U64F64_ONE = U64F64(1 << 64)
FixedPoint = Annotated[U64F64, scale(U64F64)]
SignedFixedPoint = Annotated[I64F64, scale(I64F64)]

EPOCH_CONSENSUS = Enum("pallet_subtensor::pallet::EpochConsensus", plain("Yuma", "Null"))


def _committed_data() -> Enum:
    """The commitments pallet's `Data`: raw bytes of each length up to 128 have a variant of their own."""
    raw = tuple(Variant(size + 1, f"Raw{size}", (Field(None, FixedBytes(size)),)) for size in range(129))
    digests = ("BlakeTwo256", "Sha256", "Keccak256", "ShaThree256")
    hashes = tuple(Variant(130 + i, name, (Field(None, FixedBytes(32)),)) for i, name in enumerate(digests))
    sealed = (Field("encrypted", scale(BoundedBytes)), Field("reveal_round", Integer(8)))
    rest = (
        Variant(134, "TimelockEncrypted", sealed),
        Variant(135, "ResetBondsFlag"),
        Variant(136, "BigRaw", (Field(None, scale(BoundedBytes)),)),
    )
    return Enum("pallet_commitments::types::Data", (Variant(0, "None"), *raw, *hashes, *rest))


DATA = _committed_data()
Data = Annotated[Choice, DATA]


@dataclass(frozen=True, slots=True)
class CommitmentInfo:
    """What a hotkey commits to."""

    PATH: ClassVar[str] = "pallet_commitments::types::CommitmentInfo"
    fields: Annotated[list[Choice], bounded(Data)]


@dataclass(frozen=True, slots=True)
class Registration:
    """A commitment as it is stored."""

    PATH: ClassVar[str] = "pallet_commitments::types::Registration"
    deposit: U64
    block: U32
    info: Annotated[CommitmentInfo, scale(CommitmentInfo)]


@dataclass(frozen=True, slots=True)
class UsageTracker:
    """How many bytes a hotkey has committed in an epoch."""

    PATH: ClassVar[str] = "pallet_commitments::types::UsageTracker"
    last_epoch: U64 = 0
    used_space: U64 = 0


@dataclass(frozen=True, slots=True)
class Pulse:
    """A drand round's randomness and signature."""

    PATH: ClassVar[str] = "pallet_drand::types::Pulse"
    round: U64
    randomness: BoundedBytes
    signature: BoundedBytes
