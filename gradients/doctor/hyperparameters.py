"""What this software needs of a subnet's hyperparameters, beside what the subnet has: for its owner.

Each finding says what happens to miners and validators as it is, and the command that changes it. Pure: everything was read before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gradients.doctor.findings import Finding, Level
from gradients.domain.subnet import SubnetTerms

U16_MAX = 65535
# A new miner waits for a task, trains (synthetic tasks have six hours or less), is measured; its weights are revealed an epoch later.
FIRST_PAY_SECONDS = 12 * 3600.0
SERVING_SECONDS = 1800.0  # for which a miner whose address has changed may be unable to say so


@dataclass(frozen=True, slots=True)
class Scale:
    """What numbers of blocks mean on this chain, and what this software sends."""

    block_seconds: float
    version_key: int  # of the rows of weights


def judge(terms: SubnetTerms, scale: Scale) -> Iterator[Finding]:
    """Every finding, what stops everybody first."""
    yield from _state(terms)
    for need in NEEDS:
        value = terms.hyperparameters.get(need.name)
        if value is None:
            yield Finding(need.name, "note", "this chain does not keep it", "nothing can be done about it here")
            continue
        level, found, better = need.look(value, terms, scale)
        advice = (
            f"btcli sudo set --netuid {terms.netuid} --name {need.name} --value {better}" if better is not None else ""
        )
        yield Finding(need.name, level, found, advice)


def _state(terms: SubnetTerms) -> Iterator[Finding]:
    if terms.is_open is None:
        yield Finding("started", "note", "this chain does not say whether the subnet was started")
    elif terms.is_open:
        yield Finding("started", "ok", "the subnet was started")
    else:
        yield Finding(
            "started",
            "missing",
            "the subnet was not started: nobody can stake",
            "start it by its owner's coldkey: btcli subnets start",
        )
    if terms.emission_enabled is None:
        yield Finding("emission", "note", "this chain has no switch for it: every subnet that was started is paid")
    elif terms.emission_enabled:
        yield Finding("emission", "ok", "switched on")
    else:
        yield Finding(
            "emission",
            "missing",
            "switched off, as for every new subnet: nobody is paid",
            "only the chain's governance switches it on; until then say so to miners",
        )


Look = Callable[[int, SubnetTerms, Scale], tuple[Level, str, int | str | None]]  # level, what was found, a better value


@dataclass(frozen=True, slots=True)
class Need:
    """One hyperparameter by the chain's name."""

    name: str
    look: Look


def _registration(value: int, _terms: SubnetTerms, _scale: Scale) -> tuple[Level, str, int | str | None]:
    if value:
        return "ok", "open", None
    return "missing", "closed: no miner can come, and the chain pays no subnet that is closed", "true"


def _version(value: int, _terms: SubnetTerms, scale: Scale) -> tuple[Level, str, int | str | None]:
    ours = scale.version_key
    if value > ours:
        return "missing", f"{value}: rows of weights of this version ({ours}) are refused", ours
    if value < ours:
        return (
            "note",
            f"{value}: validators that run older rules of pay are not kept out; this version sends {ours}",
            ours,
        )
    return "ok", f"{value}: validators with older rules are kept out", None


def _rate(value: int, terms: SubnetTerms, _scale: Scale) -> tuple[Level, str, int | str | None]:
    tempo = terms.hyperparameters.get("tempo", 360)
    if value > tempo:
        return (
            "missing",
            f"one row in {value} blocks, and an epoch has {tempo}: validators miss epochs",
            min(100, tempo),
        )
    return "ok", f"one row in {value} blocks of an epoch of {tempo}", None


def _fewest(value: int, _terms: SubnetTerms, _scale: Scale) -> tuple[Level, str, int | str | None]:
    if value > 1:
        return (
            "note",
            f"{value} uids: where fewer have won, rows are filled up, and who has won nothing is paid a little",
            1,
        )
    return "ok", "one winner may have a row alone", None


def _largest(value: int, _terms: SubnetTerms, _scale: Scale) -> tuple[Level, str, int | str | None]:
    if value < U16_MAX:
        return "note", f"{value / U16_MAX:.0%} of a row: what a winner has above it goes to others", U16_MAX
    return "ok", "one winner may have all of a row", None


def _sealed(value: int, _terms: SubnetTerms, _scale: Scale) -> tuple[Level, str, int | str | None]:
    if value:
        return "ok", "rows are sealed until they count", None
    return "note", "rows are in the open: a validator can copy others' without measuring anything", "true"


def _immunity(value: int, terms: SubnetTerms, scale: Scale) -> tuple[Level, str, int | str | None]:
    epochs = terms.hyperparameters.get("commit_reveal_period", 1) + 1
    needed = FIRST_PAY_SECONDS + epochs * (terms.hyperparameters.get("tempo", 360) + 1) * scale.block_seconds
    blocks = int(needed / scale.block_seconds)
    said = f"{value} blocks ({value * scale.block_seconds / 3600:,.1f} h)"
    if value < blocks:
        return (
            "note",
            f"{said}: a miner may lose its place before its first task can have paid ({needed / 3600:,.1f} h)",
            blocks,
        )
    return "ok", said, None


def _cutoff(value: int, terms: SubnetTerms, _scale: Scale) -> tuple[Level, str, int | str | None]:
    tempo = terms.hyperparameters.get("tempo", 360)
    if value < 3 * tempo:
        return "note", f"{value} blocks: a validator that misses two epochs of {tempo} counts for nothing", None
    return "ok", f"{value} blocks", None


def _serving(value: int, _terms: SubnetTerms, scale: Scale) -> tuple[Level, str, int | str | None]:
    seconds = value * scale.block_seconds
    if seconds > SERVING_SECONDS:
        return (
            "note",
            f"{value} blocks: an axon whose address has changed cannot be called for {seconds / 60:,.0f} minutes",
            50,
        )
    return "ok", f"{value} blocks between two addresses of an axon", None


def _collateral(value: int, terms: SubnetTerms, _scale: Scale) -> tuple[Level, str, int | str | None]:
    locked = terms.price_tao * value / U16_MAX
    if not value:
        return "ok", f"none: registering burns all of its price, now {terms.price_tao:g} TAO", None
    return (
        "ok",
        f"{value / U16_MAX:.0%} of the price is locked ({locked:g} of {terms.price_tao:g} TAO now) and comes back with what is earned",
        None,
    )


NEEDS = (
    Need("registration_allowed", _registration),
    Need("weights_version", _version),
    Need("weights_rate_limit", _rate),
    Need("min_allowed_weights", _fewest),
    Need("max_weights_limit", _largest),
    Need("commit_reveal_weights_enabled", _sealed),
    Need("immunity_period", _immunity),
    Need("activity_cutoff", _cutoff),
    Need("serving_rate_limit", _serving),
    Need("collateral_lock_share", _collateral),
)
