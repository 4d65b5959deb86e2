"""What burning costs a subnet: the chain's formula, and what an epoch records for it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradients.domain.emission import EmissionTerms, SubnetDemand
from gradients.localchain import genesis, neurons, stake
from gradients.localchain.epoch import step, subnet, tao
from gradients.localchain.keys import public_key
from gradients.localchain.pallets import subtensor
from gradients.localchain.pallets.subtensor_types import U96F32
from gradients.localchain.settings import LocalChainSettings
from gradients.localchain.state import Draft, View

SUBNET = genesis.SUBNET


def terms(*demands: SubnetDemand, bar: float = 0.0) -> EmissionTerms:
    return EmissionTerms(dict(enumerate(demands, start=1)), gate_bar=bar, gate_exponent=3.0)


def test_tao_is_shared_by_price_times_what_is_not_burned() -> None:
    """Prices 1, 2, 2 and a half of the first burned: .5, 2, 2 of 4.5."""
    shares = terms(SubnetDemand(1.0, 0.5), SubnetDemand(2.0, 0.0), SubnetDemand(2.0, 0.0)).shares()
    assert shares == pytest.approx({1: 0.5 / 4.5, 2: 2 / 4.5, 3: 2 / 4.5})


def test_a_subnet_that_burns_everything_gets_no_tao() -> None:
    market = terms(SubnetDemand(1.0, 0.0), SubnetDemand(3.0, 0.0))
    assert market.share_if(1, miner_burned=0.0) == pytest.approx(0.25)
    assert market.share_if(1, miner_burned=1.0) == 0.0
    assert market.share_if(7, miner_burned=0.0) == 0.0  # there is no such subnet


def test_the_gate_turns_a_lead_of_two_to_one_into_nine_to_one() -> None:
    """The runtime's own example: shares 1/3 and 2/3, bar at 2/3: gates 1/9 and 1/2, so 1/27 and 1/3."""
    gated = terms(SubnetDemand(1.0, 0.0), SubnetDemand(2.0, 0.0), bar=2 / 3).shares()
    assert gated == pytest.approx({1: 0.1, 2: 0.9})


def test_where_everybody_burns_everything_it_is_as_if_nobody_did() -> None:
    assert terms(SubnetDemand(1.0, 1.0), SubnetDemand(3.0, 1.0)).shares() == pytest.approx({1: 0.25, 2: 0.75})


def test_what_a_switched_off_subnet_would_get_goes_to_the_others() -> None:
    assert terms(SubnetDemand(1.0, 0.0), SubnetDemand(3.0, 0.0, enabled=False)).shares() == {1: 1.0, 2: 0.0}
    assert terms(SubnetDemand(3.0, 0.0, enabled=False)).shares() == {1: 0.0}


@given(
    st.lists(st.builds(SubnetDemand, st.floats(0.0, 10.0), st.floats(0.0, 1.0), st.booleans()), min_size=1, max_size=6),
    st.floats(0.0, 0.5),
)
def test_shares_sum_to_one_or_nothing_is_paid_and_burning_never_pays(demands: list[SubnetDemand], bar: float) -> None:
    market = terms(*demands, bar=bar)
    assert sum(market.shares().values()) == pytest.approx(1.0) or set(market.shares().values()) == {0.0}
    prices = [market.share_if(1, miner_burned=part) for part in (0.0, 0.25, 0.5, 0.75)]
    others_keep_some = any(each.price > 0 and each.miner_burned < 1 and each.enabled for each in demands[1:])
    if others_keep_some:
        assert all(more >= less - 1e-12 for more, less in pairwise(prices))


def started() -> Draft:
    """A new chain's state with one miner beside the subnet's owner, and a second hotkey of the owner's."""
    draft = Draft(View({}))
    genesis.write(draft, LocalChainSettings(), shield_key=b"")
    for hotkey, coldkey in (("//Miner//hotkey", "//Miner"), ("//Owner//second", genesis.OWNER)):
        stake.associate(draft, public_key(coldkey), public_key(hotkey))
        neurons.seat(draft, SUBNET, public_key(hotkey), block=0)
    owner = public_key(genesis.OWNER_HOTKEY)
    stake.add(draft, hotkey=owner, coldkey=public_key(genesis.OWNER), netuid=SUBNET, rao=10**12)
    draft.put(subtensor.VALIDATOR_PERMIT, SUBNET, value=[True, False, False])
    draft.put(subtensor.LAST_UPDATE, SUBNET, value=[9, 0, 0])
    return draft


def run_epoch(draft: Draft, weights: list[tuple[int, int]]) -> None:
    draft.put(subtensor.WEIGHTS, SUBNET, 0, value=weights)
    for item in (subtensor.PENDING_SERVER_EMISSION, subtensor.PENDING_VALIDATOR_EMISSION):
        draft.put(item, SUBNET, value=5 * 10**9)
    subnet.run(draft, SUBNET, 10)


def paid_tao(draft: Draft) -> dict[int, int]:
    step.run(draft, 11, lambda *_: None)
    return {netuid: draft.get(subtensor.SUBNET_TAO_IN_EMISSION, netuid) for netuid in (SUBNET, genesis.OTHERS)}


def test_an_epoch_records_what_part_of_the_incentive_went_to_the_owners_hotkeys() -> None:
    """A quarter to the owner's hotkey and a quarter to his second one: half is burned, and TAO falls from 1/10 to .5/9.5."""
    draft = started()
    assert paid_tao(draft) == {SUBNET: tao.BLOCK_RAO // 10, genesis.OTHERS: tao.BLOCK_RAO * 9 // 10}
    run_epoch(draft, [(0, 32768), (1, 65535), (2, 32767)])
    burned = draft.get(subtensor.MINER_BURNED, SUBNET)
    assert burned.bits / 2**32 == pytest.approx(0.5, abs=1e-4)
    assert paid_tao(draft)[SUBNET] == pytest.approx(tao.BLOCK_RAO * 0.5 / 9.5, rel=1e-4)


def test_an_epoch_that_burns_everything_ends_the_subnets_tao_and_one_that_pays_brings_it_back() -> None:
    draft = started()
    run_epoch(draft, [(0, 65535)])
    assert draft.get(subtensor.MINER_BURNED, SUBNET) == U96F32(1 << 32)
    assert paid_tao(draft) == {SUBNET: 0, genesis.OTHERS: tao.BLOCK_RAO}
    run_epoch(draft, [(1, 65535)])
    assert draft.get(subtensor.MINER_BURNED, SUBNET) == U96F32(0)
    assert paid_tao(draft)[SUBNET] == tao.BLOCK_RAO // 10


def test_an_epoch_without_incentive_burned_nothing() -> None:
    draft = started()
    run_epoch(draft, [])
    assert draft.get(subtensor.MINER_BURNED, SUBNET) == U96F32(0)


@pytest.mark.parametrize(("rao", "whole", "bits"), [(0, 0, 0), (1, 3, 1431655765), (3, 3, 1 << 32)])
def test_parts_are_rounded_down_as_the_chains_numbers_are(rao: int, whole: int, bits: int) -> None:
    assert subnet.part(rao, whole).bits == bits  # 2**32 / 3 is 1431655765.3


def test_the_price_that_clients_compute_from_the_pool_stays_one() -> None:
    draft = started()
    before = draft.get(subtensor.SUBNET_TAO, SUBNET)
    paid = paid_tao(draft)[SUBNET]
    assert draft.get(subtensor.SUBNET_TAO, SUBNET) == before + paid == draft.get(subtensor.SUBNET_ALPHA_IN, SUBNET)
