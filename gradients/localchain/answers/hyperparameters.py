"""A subnet's hyper-parameters as a list of names and values, as the chain's third version of that API gives them."""

from __future__ import annotations

from typing import Any

from gradients.localchain.epoch import subnet
from gradients.localchain.pallets import subtensor as st
from gradients.localchain.pallets.apis import HyperparameterEntry
from gradients.localchain.pallets.declare import Storage
from gradients.localchain.pallets.subtensor_types import I32F32
from gradients.localchain.scale.choices import Choice
from gradients.localchain.state import View

STORED: tuple[
    tuple[str, str, Storage[Any]], ...
] = (  # name, kind of value, item  # Any: parameters hold different values
    ("kappa", "U16", st.KAPPA),
    ("immunity_period", "U16", st.IMMUNITY_PERIOD),
    ("min_allowed_weights", "U16", st.MIN_ALLOWED_WEIGHTS),
    ("max_weights_limit", "U16", st.MAX_WEIGHTS_LIMIT),
    ("tempo", "U16", st.TEMPO),
    ("weights_version", "U64", st.WEIGHTS_VERSION_KEY),
    ("weights_rate_limit", "U64", st.WEIGHTS_SET_RATE_LIMIT),
    ("activity_cutoff_factor", "U32", st.ACTIVITY_CUTOFF_FACTOR),
    ("registration_allowed", "Bool", st.REGISTRATION_ALLOWED),
    ("target_regs_per_interval", "U16", st.TARGET_REGISTRATIONS),
    ("min_burn", "TaoBalance", st.MIN_BURN),
    ("max_burn", "TaoBalance", st.MAX_BURN),
    ("burn_half_life", "U16", st.BURN_HALF_LIFE),
    ("burn_increase_mult", "U64F64", st.BURN_INCREASE),
    ("bonds_moving_avg", "U64", st.BONDS_MOVING_AVERAGE),
    ("max_regs_per_block", "U16", st.MAX_REGISTRATIONS_PER_BLOCK),
    ("serving_rate_limit", "U64", st.SERVING_RATE_LIMIT),
    ("max_validators", "U16", st.MAX_ALLOWED_VALIDATORS),
    ("commit_reveal_period", "U64", st.REVEAL_PERIOD_EPOCHS),
    ("commit_reveal_weights_enabled", "Bool", st.COMMIT_REVEAL_ENABLED),
    ("liquid_alpha_enabled", "Bool", st.LIQUID_ALPHA),
    ("subnet_is_active", "Bool", st.SUBTOKEN_ENABLED),
    ("transfers_enabled", "Bool", st.TRANSFER_TOGGLE),
    ("bonds_reset_enabled", "Bool", st.BONDS_RESET),
    ("owner_cut_enabled", "Bool", st.OWNER_CUT_ENABLED),
    ("owner_cut_auto_lock_enabled", "Bool", st.OWNER_CUT_AUTO_LOCK),
    ("min_childkey_take", "U16", st.MIN_CHILDKEY_TAKE),
    ("collateral_lock_share", "U16", st.COLLATERAL_LOCK_SHARE),
    ("collateral_drain_ratio", "U64F64", st.COLLATERAL_DRAIN_RATIO),
)


def hyperparameters(state: View, netuid: int) -> list[HyperparameterEntry] | None:
    """All of a subnet's hyper-parameters; None when the subnet does not exist."""
    if not state.get(st.NETWORKS_ADDED, netuid):
        return None
    low, high = state.get(st.ALPHA_VALUES, netuid)
    steepness = I32F32(state.get(st.ALPHA_SIGMOID_STEEPNESS, netuid) << 32)
    computed = (
        ("activity_cutoff", "U64", subnet.activity_cutoff(state, netuid)),
        ("alpha_high", "U16", high),
        ("alpha_low", "U16", low),
        ("alpha_sigmoid_steepness", "I32F32", steepness),
        ("yuma_version", "U16", 3 if state.get(st.YUMA3, netuid) else 2),
        ("user_liquidity_enabled", "Bool", False),
    )
    stored = ((name, kind, state.get(item, netuid)) for name, kind, item in STORED)
    return [HyperparameterEntry(name.encode(), Choice(kind, (value,))) for name, kind, value in (*stored, *computed)]
