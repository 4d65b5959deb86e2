"""Which function answers which runtime API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradients.localchain import schedule, subnets
from gradients.localchain.answers import metagraph, stakes
from gradients.localchain.answers.hyperparameters import hyperparameters
from gradients.localchain.pallets import apis
from gradients.localchain.pallets import subtensor as st
from gradients.localchain.pallets.apis import SubnetPrice, SwapQuote
from gradients.localchain.pallets.declare import ApiMethod
from gradients.localchain.pallets.substrate_types import FREE_OF_CHARGE
from gradients.localchain.scale.compact import Reader
from gradients.localchain.state import View

PRICE_RAO = st.RAO_PER_TAO  # of one alpha, always


class UnknownApiError(Exception):
    """This chain does not answer a runtime API of this name."""


def _quote(state: View, netuid: int, rao: int) -> SwapQuote:
    return SwapQuote(rao, rao)


ANSWERS: dict[ApiMethod, Callable[..., Any]] = {  # Any: answers differ
    apis.GET_METAGRAPH: metagraph.metagraph,
    apis.GET_NEURONS_LITE: metagraph.neurons,
    apis.GET_NEXT_EPOCH: schedule.next_block,
    apis.GET_HYPERPARAMETERS: hyperparameters,
    apis.GET_STAKE: stakes.of_coldkey,
    apis.GET_STAKES: stakes.of_coldkeys,
    apis.GET_POSITION: stakes.position,
    apis.GET_AVAILABILITY: stakes.availability,
    apis.GET_COLDKEY_LOCK: lambda _, __, ___: None,  # nothing is ever locked here
    apis.GET_DELEGATED: lambda _, __: [],  # nor has a hotkey declared itself a delegate
    apis.GET_PRICE: lambda _, __: PRICE_RAO,
    apis.GET_PRICES: lambda state: [SubnetPrice(netuid, PRICE_RAO) for netuid in subnets.existing(state)],
    apis.QUOTE_BUY: _quote,
    apis.QUOTE_SELL: _quote,
    apis.GET_BASKETS: lambda _, __: [],  # root dividends are not paid here, so no coldkey holds any
    apis.GET_BASKETS_OWED: lambda _, __: 0,
    apis.GET_SUBNET_COST: lambda state: state.get(st.NETWORK_LAST_LOCK_COST),
}
BY_NAME = {method.full_name: (method, answer) for method, answer in ANSWERS.items()}


def answer(state: View, full_name: str, arguments: bytes) -> bytes:
    """What the API answers, encoded. Raises UnknownApiError, and ValueError for arguments of another shape."""
    if full_name == apis.QUERY_FEE.full_name:
        return apis.QUERY_FEE.output.encode({**FREE_OF_CHARGE, "partial_fee": 0})
    if full_name not in BY_NAME:
        raise UnknownApiError(full_name)
    method, compute = BY_NAME[full_name]
    reader = Reader(arguments)
    return method.output.encode(compute(state, *(part.type.decode(reader) for part in method.inputs)))
