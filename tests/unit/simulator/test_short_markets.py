"""The goals of pay, held in short: fewer days and one or two seeds of what docs/simulations.md has in full."""

from __future__ import annotations

import pytest

from gradients.domain.json import Json
from gradients.scoring.rules import rules_of
from gradients.simulator.market import MARKETS, Operator, market_of
from gradients.simulator.report import Plan, simulate

LIVE_ON_OTHERS = ("copycats", "reuploaders", "lazy", "idle")


def _said(
    market: str, *, days: int = 6, seeds: int = 1, version: int = 2, operator: Operator | None = None
) -> dict[str, Json]:
    return simulate(Plan(market, rules_of(version), seeds, days, operator=operator)).said


def _pay(said: dict[str, Json]) -> dict[str, float]:
    pay = said["pay"]
    assert isinstance(pay, dict)
    return pay


def _number(value: Json) -> float:
    assert isinstance(value, float)
    return value


@pytest.mark.parametrize("market", ["mixed", "leak", "idle"])
def test_who_lives_on_others_is_not_paid_and_the_best_is_paid_most(market: str) -> None:
    said = _said(market)
    pay = _pay(said)
    assert sum(pay.get(group, 0.0) for group in LIVE_ON_OTHERS) < 0.005
    assert sum(pay.values()) == pytest.approx(1.0)
    assert said["best_paid_most"] == 1.0


def test_version_1_pays_idle_hotkeys() -> None:
    assert _pay(_said("idle", version=1))["idle"] > 0.05


def test_a_customer_with_its_own_miners_gets_no_more_than_its_limit() -> None:
    assert _pay(_said("customer"))["ring"] <= 0.02 + 1e-9


def test_one_model_on_four_hotkeys_gains_nothing() -> None:
    assert _number(_said("honest", operator=Operator(4))["gain"]) <= 1.03


def test_a_run_depends_on_nothing_but_its_seed() -> None:
    assert _said("faults", days=3) == _said("faults", days=3)


def test_three_seeds_are_three_validators_that_agree_for_the_most_part() -> None:
    assert 0.75 < _number(_said("honest", days=6, seeds=3)["validator_trust"]) < 1.0


@pytest.mark.parametrize("market", MARKETS)
def test_every_market_has_64_hotkeys_and_room_for_an_operator(market: str) -> None:
    plain, operated = market_of(market), market_of(market, Operator(3))
    assert len({miner.hotkey for miner in operated.miners}) == len(operated.miners) <= 64
    assert sum(miner.group == "sybils" for miner in operated.miners) == 3
    assert len(plain.miners) == (60 if market == "checkpoints" else 64)  # of which it keeps room for eight


def test_others_stay_who_they_are_whatever_the_number_of_an_operators_hotkeys() -> None:
    one, eight = (market_of("mixed", Operator(k)).miners for k in (1, 8))
    assert [m for m in one if m.group != "sybils"] == [m for m in eight if m.group != "sybils"]


def test_a_market_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="There is no market 'fair'"):
        market_of("fair")
