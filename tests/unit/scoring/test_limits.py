"""A row of weights that the chain takes: what the subnet's limits change, who pays for it, and what cannot be met."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from bittensor.intents.weights import clip_to_max_weight, normalize
from hypothesis import given, settings
from hypothesis import strategies as st

from gradients.domain.chain import AxonAddress, Metagraph, Neuron
from gradients.domain.task import Hotkey
from gradients.scoring.limits import U16_MAX, Limits, Row, Unfit, fit, limits_of, row_for, within

FREE = Limits(fewest=1, largest=U16_MAX)
OWNER, OWN = 0, 1
THIRTY_PERCENT = 19660  # of 65535, a hair less than 0.3


def row(
    shares: dict[int, float], limits: Limits = FREE, *, burn_share: float = 0.0, reserves: tuple[int, ...] = ()
) -> Row:
    made = fit(shares, limits, own_uid=OWN, owner_uid=OWNER, burn_share=burn_share, reserves=reserves)
    assert isinstance(made, Row)
    return made


def demand(shares: dict[int, float], limits: Limits, *, reserves: tuple[int, ...] = ()) -> str:
    made = fit(shares, limits, own_uid=OWN, owner_uid=OWNER, reserves=reserves)
    assert isinstance(made, Unfit)
    return made.demand


def test_without_limits_the_largest_share_is_65535_and_the_others_are_in_proportion() -> None:
    made = row({2: 0.5, 3: 0.25, 4: 0.25})
    assert dict(made.values) == {2: 65535, 3: 32768, 4: 32768}
    assert made.changes() == {}


def test_our_own_uid_is_left_out_and_said_so() -> None:
    made = row({OWN: 0.9, 2: 0.1})
    assert dict(made.values) == {2: 65535}
    assert made.changes() == {"left_out": [OWN]}
    assert demand({OWN: 1.0}, FREE) == "Nobody besides our own uid has a share"


def test_what_is_too_small_for_u16_is_dropped_as_the_chain_would() -> None:
    made = row({2: 1.0, 3: 1e-6, 4: 1e-5})
    assert dict(made.values) == {2: 65535, 4: 1}
    assert made.changes() == {"dropped": [3]}


def test_the_burn_share_goes_to_the_owner_and_the_rest_keeps_its_proportions() -> None:
    made = row({2: 3.0, 3: 1.0}, burn_share=0.2)
    assert dict(made.values) == {OWNER: 21845, 2: 65535, 3: 21845}  # .2, .6 and .2
    assert made.changes() == {"burned": 0.2}
    assert dict(row({2: 1.0}, burn_share=1.0).values) == {OWNER: 65535} == dict(row({}, burn_share=1.0).values)
    assert demand({}, FREE) == "Nobody besides our own uid has a share"


def test_an_owner_may_burn_on_its_own_uid_which_others_may_not_pay() -> None:
    made = fit({0: 0.5, 2: 0.5}, FREE, own_uid=OWNER, owner_uid=OWNER, burn_share=0.5)
    assert isinstance(made, Row)
    assert dict(made.values) == {OWNER: 65535, 2: 65535}


def test_without_an_owner_nothing_is_burned() -> None:
    made = fit({2: 1.0, 3: 1.0}, FREE, own_uid=OWN, owner_uid=None, burn_share=0.5)
    assert made == Row({2: 65535, 3: 65535})


def test_what_is_above_the_maximum_goes_to_the_others_in_proportion() -> None:
    """.7/.2/.1 with at most half: the first keeps .5, the others share the other half two to one."""
    made = row({2: 0.7, 3: 0.2, 4: 0.1}, Limits(1, 32768))
    assert made.changes() == {"clipped": [2]}
    assert [value / sum(made.values.values()) for value in made.values.values()] == pytest.approx(
        [0.5, 1 / 3, 1 / 6], abs=2e-5
    )


def test_clipping_lifts_the_next_one_above_the_maximum_and_clips_it_too() -> None:
    """.6/.3/.06/.04 with at most .4: .4/.4 and .12/.08."""
    made = row({2: 0.6, 3: 0.3, 4: 0.06, 5: 0.04}, Limits(1, 26214))
    assert made.clipped == (2, 3)
    assert [value / sum(made.values.values()) for value in made.values.values()] == pytest.approx(
        [0.4, 0.4, 0.12, 0.08], abs=2e-5
    )


def test_what_the_paid_ones_may_not_have_is_spread_over_all_reserves_and_not_burned() -> None:
    """The case of a subnet with at most .3 and three paid: .3 each, and .1 over two others."""
    made = row({2: 0.94, 3: 0.03, 4: 0.03}, Limits(5, THIRTY_PERCENT), reserves=(7, 6, 2, OWNER, OWN))
    shares = {uid: value / sum(made.values.values()) for uid, value in made.values.items()}
    assert shares == pytest.approx({2: 0.3, 3: 0.3, 4: 0.3, 6: 0.05, 7: 0.05}, abs=2e-5)
    assert made.changes() == {"clipped": [2, 3, 4], "spread": [7, 6]}


def test_the_owner_is_the_last_who_gets_what_the_paid_ones_may_not_have() -> None:
    made = row({2: 0.9, 3: 0.1}, Limits(1, 26214), reserves=())
    assert made.changes() == {"clipped": [2, 3], "spread": [OWNER]}


def test_missing_uids_are_the_first_reserves_with_the_smallest_value() -> None:
    made = row({2: 0.75, 3: 0.25}, Limits(4, U16_MAX), reserves=(9, 8, 7))
    assert dict(made.values) == {2: 65535, 3: 21845, 8: 1, 9: 1}
    assert made.changes() == {"padded": [9, 8]}


def test_shares_that_would_be_dropped_are_padded_first_and_the_owner_last() -> None:
    made = row({2: 1.0, 3: 1e-7}, Limits(3, U16_MAX))
    assert dict(made.values) == {OWNER: 1, 2: 65535, 3: 1}
    assert made.changes() == {"padded": [3, OWNER]}


def test_what_cannot_be_met_is_said_in_one_sentence() -> None:
    assert demand({2: 1.0}, Limits(4, U16_MAX), reserves=(3,)) == (
        "The subnet demands weights on 4 uids or more, and there are 3 besides our own"
    )
    assert demand({2: 1.0}, Limits(1, THIRTY_PERCENT), reserves=(3,)) == (
        "The subnet lets no uid have more than 30.00% of the weights, and there are 3 besides our own"
    )
    assert demand({2: 1.0}, Limits(1, 0)).startswith("The subnet lets no uid have more than 0.00% of the weights")


def test_of_shares_that_would_be_dropped_the_larger_one_is_padded() -> None:
    made = row({2: 1.0, 3: 1e-7, 4: 2e-7}, Limits(2, U16_MAX))
    assert made.changes() == {"dropped": [3], "padded": [4]}


def _neuron(uid: int) -> Neuron:
    """One that serves and has earned nothing."""
    axon = AxonAddress("1.2.3.4", 8091)
    return Neuron(uid, Hotkey(f"h{uid}"), "", axon, False, 0.0, 0.0, 0.0, 0.0, 0, 100)


def _subnet(*neurons: Neuron, fewest: int, largest: float = 1.0) -> Metagraph:
    return Metagraph(1, 10, 360, 0, neurons, Hotkey("h0"), 0, 0, False, fewest, largest)


def test_reserves_go_by_incentive_then_those_that_serve_and_then_by_age() -> None:
    neurons = [
        _neuron(0),
        _neuron(2),
        replace(_neuron(3), registered_at_block=50),
        replace(_neuron(4), incentive=0.1),
        replace(_neuron(5), incentive=0.3),
        replace(_neuron(6), axon=None, registered_at_block=1),
        replace(_neuron(7), validator_permit=True, registered_at_block=1),
        replace(_neuron(8), registered_at_block=50),
    ]
    made = row_for(
        {Hotkey("h2"): 1.0, Hotkey("gone"): 9.0}, _subnet(*neurons, fewest=8), hotkey=Hotkey("h1"), burn_share=0
    )
    assert isinstance(made, Row)
    assert made.padded == (5, 4, 3, 8, 6, 7, 0)


def test_the_subnets_limits_are_read_in_the_chains_units() -> None:
    assert limits_of(_subnet(fewest=5, largest=0.3)) == Limits(5, 19660)  # 0.3·65535 = 19660.5, to even


def test_our_own_uid_is_left_out_of_a_row_for_the_metagraph() -> None:
    made = row_for(
        {Hotkey("h1"): 1.0, Hotkey("h2"): 1.0},
        _subnet(_neuron(1), _neuron(2), fewest=1),
        hotkey=Hotkey("h1"),
        burn_share=0,
    )
    assert isinstance(made, Row)
    assert (dict(made.values), made.left_out) == ({2: 65535}, (1,))


def test_what_is_spread_is_the_smallest_sum_that_lets_the_paid_ones_have_the_most() -> None:
    """Half each of two paid ones is the limit less one: 65535 twice, of a sum of at least 65535²/32767, leaves 5 for three."""
    made = row({2: 0.5, 3: 0.5}, Limits(1, 32767), reserves=(4, 5, 6))
    assert dict(made.values) == {2: 65535, 3: 65535, 4: 1, 5: 1, 6: 1}
    one = row({2: 1.0}, Limits(1, 26214), reserves=(4, 5))  # 65535²/26214 = 163837.5, and 98303 for two
    assert dict(one.values) == {2: 65535, 4: 49152, 5: 49152}


@pytest.mark.parametrize("share", [-0.1, float("nan"), float("inf")])
def test_shares_that_are_none_are_refused(share: float) -> None:
    with pytest.raises(ValueError):
        fit({2: share}, FREE, own_uid=OWN, owner_uid=OWNER)


@pytest.mark.parametrize("burn_share", [-0.1, 1.1, float("nan")])
def test_burn_shares_that_are_none_are_refused(burn_share: float) -> None:
    with pytest.raises(ValueError):
        fit({2: 1.0}, FREE, own_uid=OWN, owner_uid=OWNER, burn_share=burn_share)


SHARES = st.dictionaries(st.integers(0, 12), st.floats(0.0, 1.0, allow_subnormal=False), max_size=10)
LIMITS = st.builds(Limits, st.integers(0, 15), st.integers(0, U16_MAX))
RESERVES = st.lists(st.integers(0, 15), max_size=12)
BURNS = st.one_of(st.just(0.0), st.floats(0.0, 1.0))


@settings(max_examples=1000, deadline=None)
@given(SHARES, LIMITS, RESERVES, BURNS)
def test_a_row_is_within_the_limits_and_the_sdk_changes_nothing_of_it(
    shares: dict[int, float], limits: Limits, reserves: list[int], burn_share: float
) -> None:
    made = fit(shares, limits, own_uid=OWN, owner_uid=OWNER, burn_share=burn_share, reserves=reserves)
    if isinstance(made, Unfit):
        return
    assert within(made.values, limits)
    assert max(made.values.values()) == U16_MAX
    assert min(made.values.values()) >= 1
    assert OWN not in made.values
    assert set(made.values) <= {*shares, *reserves, OWNER}
    uids, floats = list(made.values), [float(value) for value in made.values.values()]
    if limits.largest < U16_MAX:
        floats = clip_to_max_weight(floats, limits.largest / U16_MAX)
    assert normalize(uids, floats) == (uids, list(made.values.values()))


@settings(max_examples=500, deadline=None)
@given(SHARES, LIMITS, RESERVES)
def test_who_earned_more_never_gets_less_and_reserves_never_more_than_who_earned(
    shares: dict[int, float], limits: Limits, reserves: list[int]
) -> None:
    made = fit(shares, limits, own_uid=OWN, owner_uid=OWNER, reserves=reserves)
    if isinstance(made, Unfit):
        return
    paid = [uid for uid, share in shares.items() if share > 0 and uid != OWN]
    paid.sort(key=lambda uid: (shares[uid], -uid))  # of equals, the smaller uid is padded first
    values = [made.values.get(uid, 0) for uid in paid]
    assert values == sorted(values)
    strangers = [value for uid, value in made.values.items() if uid not in paid]
    kept = [value for value in values if value]
    assert not strangers or max(strangers) <= min(kept)


@settings(max_examples=500, deadline=None)
@given(SHARES, st.integers(1, U16_MAX))
def test_within_its_limits_a_row_is_the_plain_proportion(shares: dict[int, float], largest: int) -> None:
    paid = {uid: Fraction(share) for uid, share in shares.items() if share > 0 and uid != OWN}
    limits = Limits(1, largest)
    made = fit(shares, limits, own_uid=OWN, owner_uid=OWNER)
    plain = {uid: round(share / max(paid.values()) * U16_MAX) for uid, share in paid.items()}
    if paid and within(plain, limits):
        assert isinstance(made, Row)
        assert dict(made.values) == {uid: value for uid, value in sorted(plain.items()) if value}
        assert set(made.changes()) <= {"left_out", "dropped"}


@settings(max_examples=500, deadline=None)
@given(st.dictionaries(st.integers(2, 12), st.floats(0.05, 1.0), max_size=10), LIMITS, RESERVES)
def test_clipping_takes_what_the_sdk_would_take(shares: dict[int, float], limits: Limits, reserves: list[int]) -> None:
    """The SDK clips floats in its own way; where shares and maximum leave room for its tolerance, only rounding to u16 is between."""
    paid = dict(sorted(shares.items()))
    made = fit(shares, limits, own_uid=OWN, owner_uid=OWNER, reserves=reserves)
    if isinstance(made, Unfit) or made.spread or limits.largest * len(paid) <= 1.05 * U16_MAX:
        return
    theirs = clip_to_max_weight(list(paid.values()), limits.largest / U16_MAX)
    ours = [made.values.get(uid, 0) / sum(made.values.values()) for uid in paid]
    assert ours == pytest.approx(theirs, abs=len(made.values) / U16_MAX)
    assert {made.values[uid] for uid in made.clipped} <= {U16_MAX}


@given(SHARES, LIMITS, RESERVES, st.integers(-20, 20))
def test_the_scale_of_shares_is_of_no_account(
    shares: dict[int, float], limits: Limits, reserves: list[int], power: int
) -> None:
    some = {uid: share for uid, share in shares.items() if share == 0 or share > 1e-200}
    scaled = {uid: share * 2.0**power for uid, share in some.items()}
    assert fit(scaled, limits, own_uid=OWN, owner_uid=OWNER, reserves=reserves) == fit(
        some, limits, own_uid=OWN, owner_uid=OWNER, reserves=reserves
    )
