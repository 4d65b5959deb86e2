"""Hyper-parameters by the names that the SDK and btcli use, and the calls with which a subnet's owner sets them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from gradients.localchain.dispatch import BAD_ORIGIN, Dispatch, require
from gradients.localchain.pallets import errors
from gradients.localchain.pallets import subtensor as st
from gradients.localchain.pallets.declare import Call, ErrorKind, Storage
from gradients.localchain.scale.hints import U16
from gradients.localchain.scale.types import Field, Integer
from gradients.localchain.state import Draft, View

Check = Callable[[View, int, Any], None]  # Any: parameters hold different values


class Hyperparameter(NamedTuple):
    """One parameter: where it is stored, and, when its subnet's owner may set it, by which call and under which rule."""

    name: str
    item: Storage[Any]
    call_index: int | None = None
    call_name: str = ""
    argument: str = ""
    check: Check | None = None


def _between(low: int, high: int, error: ErrorKind) -> Check:
    return lambda _, __, value: require(low <= value <= high, error)


def _seats(state: View, netuid: int, seats: int) -> None:
    enough = seats >= state.get(st.SUBNETWORK_N, netuid)
    require(enough, errors.ADMIN_UTILS["MaxAllowedUIdsLessThanCurrentUIds"])


def _min_burn(state: View, netuid: int, rao: int) -> None:
    require(rao < state.get(st.MAX_BURN, netuid), errors.ADMIN_UTILS["ValueNotInBounds"])


def _max_burn(state: View, netuid: int, rao: int) -> None:
    require(rao > state.get(st.MIN_BURN, netuid), errors.ADMIN_UTILS["ValueNotInBounds"])


def _reveal_period(state: View, netuid: int, epochs: int) -> None:
    require(epochs <= 100, errors.SUBTENSOR["RevealPeriodTooLarge"])
    require(epochs >= 1, errors.SUBTENSOR["RevealPeriodTooSmall"])


HYPERPARAMETERS = (
    Hyperparameter(
        "tempo", st.TEMPO, 30, "sudo_set_tempo", "tempo", _between(360, 50_400, errors.SUBTENSOR["TempoOutOfBounds"])
    ),
    Hyperparameter("immunity_period", st.IMMUNITY_PERIOD, 13, "sudo_set_immunity_period", "immunity_period"),
    Hyperparameter(
        "min_allowed_weights", st.MIN_ALLOWED_WEIGHTS, 14, "sudo_set_min_allowed_weights", "min_allowed_weights"
    ),
    Hyperparameter(
        "max_allowed_uids", st.MAX_ALLOWED_UIDS, 15, "sudo_set_max_allowed_uids", "max_allowed_uids", _seats
    ),
    Hyperparameter("min_burn", st.MIN_BURN, 22, "sudo_set_min_burn", "min_burn", _min_burn),
    Hyperparameter("max_burn", st.MAX_BURN, 23, "sudo_set_max_burn", "max_burn", _max_burn),
    Hyperparameter(
        "bonds_moving_avg",
        st.BONDS_MOVING_AVERAGE,
        26,
        "sudo_set_bonds_moving_average",
        "bonds_moving_average",
        _between(0, 975_000, errors.ADMIN_UTILS["BondsMovingAverageMaxReached"]),
    ),
    Hyperparameter("bonds_penalty", st.BONDS_PENALTY, 60, "sudo_set_bonds_penalty", "bonds_penalty"),
    Hyperparameter("adjustment_alpha", st.ADJUSTMENT_ALPHA, 9, "sudo_set_adjustment_alpha", "adjustment_alpha"),
    Hyperparameter("rho", st.RHO, 17, "sudo_set_rho", "rho"),
    Hyperparameter(
        "activity_cutoff_factor",
        st.ACTIVITY_CUTOFF_FACTOR,
        97,
        "sudo_set_activity_cutoff_factor",
        "factor_milli",
        _between(1000, 50_000, errors.SUBTENSOR["ActivityCutoffFactorMilliOutOfBounds"]),
    ),
    Hyperparameter(
        "commit_reveal_weights_enabled",
        st.COMMIT_REVEAL_ENABLED,
        49,
        "sudo_set_commit_reveal_weights_enabled",
        "enabled",
    ),
    Hyperparameter(
        "commit_reveal_period",
        st.REVEAL_PERIOD_EPOCHS,
        57,
        "sudo_set_commit_reveal_weights_interval",
        "interval",
        _reveal_period,
    ),
    Hyperparameter("liquid_alpha_enabled", st.LIQUID_ALPHA, 50, "sudo_set_liquid_alpha_enabled", "enabled"),
    Hyperparameter("weights_version", st.WEIGHTS_VERSION_KEY, 6, "sudo_set_weights_version_key", "weights_version_key"),
    Hyperparameter("serving_rate_limit", st.SERVING_RATE_LIMIT, 3, "sudo_set_serving_rate_limit", "serving_rate_limit"),
    Hyperparameter("yuma3_enabled", st.YUMA3, 69, "sudo_set_yuma3_enabled", "enabled"),
    Hyperparameter("kappa", st.KAPPA),
    Hyperparameter("max_weights_limit", st.MAX_WEIGHTS_LIMIT),
    Hyperparameter("weights_rate_limit", st.WEIGHTS_SET_RATE_LIMIT),
    Hyperparameter("registration_allowed", st.REGISTRATION_ALLOWED),
    Hyperparameter("max_validators", st.MAX_ALLOWED_VALIDATORS),
    Hyperparameter("min_non_immune_uids", st.MIN_NON_IMMUNE_UIDS),
    Hyperparameter("burn", st.BURN),
    Hyperparameter("alpha_sigmoid_steepness", st.ALPHA_SIGMOID_STEEPNESS),
    Hyperparameter("owner_cut_enabled", st.OWNER_CUT_ENABLED),
)
GLOBAL_PARAMETERS = (Hyperparameter("stake_threshold", st.STAKE_THRESHOLD),)


def sudo_set_alpha_values(call: Dispatch, netuid: U16, alpha_low: U16, alpha_high: U16) -> None:
    """Set both bounds of the liquid rate."""
    _require_owner(call, netuid)
    require(call.state.get(st.LIQUID_ALPHA, netuid), errors.SUBTENSOR["LiquidAlphaDisabled"])
    lowest = st.U16_MAX // 40
    require(alpha_high >= lowest, errors.SUBTENSOR["AlphaHighTooLow"])
    require(lowest <= alpha_low <= alpha_high, errors.SUBTENSOR["AlphaLowOutOfRange"])
    call.state.put(st.ALPHA_VALUES, netuid, value=(alpha_low, alpha_high))


def setter(parameter: Hyperparameter) -> Call:
    """The call with which a subnet's owner sets the parameter."""
    assert parameter.call_index is not None  # noqa: S101 (only parameters with a call are asked)

    def handler(call: Dispatch, **arguments: Any) -> None:  # noqa: ANN401  # Any: parameters hold different values
        netuid, value = arguments["netuid"], arguments[parameter.argument]
        _require_owner(call, netuid)
        if parameter.check:
            parameter.check(call.state, netuid, value)
        write(call.state, parameter, netuid, value, block=call.block)

    parts = (Field("netuid", Integer(2)), Field(parameter.argument, parameter.item.type))
    return Call(parameter.call_index, parameter.call_name, parts, handler)


def write(state: Draft, parameter: Hyperparameter, netuid: int, value: Any, *, block: int) -> None:  # noqa: ANN401
    """Set a parameter; a new tempo starts a new cycle."""
    state.put(parameter.item, *([netuid] if parameter.item.keys else []), value=value)
    if parameter.item is st.TEMPO:
        state.put(st.LAST_EPOCH_BLOCK, netuid, value=block)


def _require_owner(call: Dispatch, netuid: int) -> None:
    require(call.state.get(st.SUBNET_OWNER, netuid) == call.signer, BAD_ORIGIN)
    require(call.state.get(st.NETWORKS_ADDED, netuid), errors.ADMIN_UTILS["SubnetDoesNotExist"])
