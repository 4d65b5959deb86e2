"""What a subnet's owner is told: each hyperparameter that this software cannot work with, and the value that it can work with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gradients.cli.register import _beside_the_price
from gradients.doctor.findings import Finding
from gradients.doctor.hyperparameters import NEEDS, Scale, judge
from gradients.domain.subnet import SubnetTerms

SCALE = Scale(block_seconds=12.0, version_key=2)
FINE = SubnetTerms(
    netuid=56,
    hyperparameters={
        "tempo": 360,
        "registration_allowed": 1,
        "weights_version": 2,
        "weights_rate_limit": 100,
        "min_allowed_weights": 1,
        "max_weights_limit": 65535,
        "commit_reveal_weights_enabled": 1,
        "commit_reveal_period": 1,
        "immunity_period": 5000,
        "activity_cutoff": 5000,
        "serving_rate_limit": 50,
        "collateral_lock_share": 0,
    },
    price_tao=0.5,
    collateral_share=0.0,
    is_open=True,
    emission_enabled=True,
)


def found(terms: SubnetTerms) -> dict[str, Finding]:
    return {finding.name: finding for finding in judge(terms, SCALE)}


def changed(**values: int) -> SubnetTerms:
    return replace(FINE, hyperparameters={**FINE.hyperparameters, **values})


def test_a_subnet_that_has_what_is_needed_has_nothing_to_change() -> None:
    assert {(each.level, each.advice) for each in found(FINE).values()} == {("ok", "")}
    assert len(found(FINE)) == len(NEEDS) + 2


@pytest.mark.parametrize(
    ("values", "level", "better"),
    [
        ({"registration_allowed": 0}, "missing", "true"),
        ({"weights_version": 3}, "missing", "2"),
        ({"weights_version": 0}, "note", "2"),
        ({"weights_rate_limit": 400}, "missing", "100"),
        ({"min_allowed_weights": 8}, "note", "1"),
        ({"max_weights_limit": 32768}, "note", "65535"),
        ({"commit_reveal_weights_enabled": 0}, "note", "true"),
        ({"immunity_period": 4096}, "note", "4322"),  # 12 h of 12 s are 3600 blocks, and two epochs of 361
        ({"serving_rate_limit": 200}, "note", "50"),
    ],
)
def test_each_value_that_does_harm_is_named_with_a_better_one(values: dict[str, int], level: str, better: str) -> None:
    ((name, _),) = values.items()
    finding = found(changed(**values))[name]
    assert finding.level == level
    assert finding.advice == f"btcli sudo set --netuid 56 --name {name} --value {better}"


def test_what_is_advised_is_fine() -> None:
    for name, value in (("weights_version", 2), ("weights_rate_limit", 100), ("immunity_period", 4322)):
        assert found(changed(**{name: value}))[name].level == "ok"


def test_a_subnet_that_cannot_be_paid_is_named_first() -> None:
    for terms, name in ((replace(FINE, is_open=False), "started"), (replace(FINE, emission_enabled=False), "emission")):
        assert terms.pays is False
        assert found(terms)[name].level == "missing"
    assert list(found(FINE))[:2] == ["started", "emission"]


def test_what_a_chain_does_not_keep_is_said_and_stops_nobody() -> None:
    bare = SubnetTerms(56, {}, price_tao=0.5, collateral_share=None, is_open=None, emission_enabled=None)
    findings = found(bare)
    assert {finding.level for finding in findings.values()} == {"note"}
    assert findings["immunity_period"].found == "this chain does not keep it"
    assert bare.pays is None
    assert replace(bare, is_open=True).pays is True


def test_who_registers_reads_what_is_locked_and_whether_anybody_is_paid() -> None:
    assert list(_beside_the_price(FINE)) == []
    locked = replace(FINE, collateral_share=0.25)
    assert list(_beside_the_price(locked)) == [
        "0.125 of the 0.5 TAO are locked as collateral and come back with what is earned; the rest is burned"
    ]
    off = list(_beside_the_price(replace(FINE, emission_enabled=False)))
    assert off == ["Nobody on subnet 56 is paid now: it has its emission switched off"]
    closed = list(_beside_the_price(replace(FINE, is_open=False)))
    assert closed == ["Nobody on subnet 56 is paid now: it was not started by its owner"]
    silent = replace(FINE, is_open=None, emission_enabled=None, collateral_share=None)
    assert list(_beside_the_price(silent)) == ["This chain does not say whether subnet 56 is paid"]
