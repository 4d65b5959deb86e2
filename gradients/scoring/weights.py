"""From shares by hotkey to the weights of uids, at the moment of setting them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from gradients.domain.chain import Metagraph
from gradients.domain.task import Hotkey


def weights_by_uid(shares: Mapping[Hotkey, float], metagraph: Metagraph) -> dict[int, float]:
    """uid -> share, summing to 1, for the hotkeys that are registered now.

    When none of them is (or nobody has earned anything), all weight goes to the subnet's owner, which the chain burns. Empty when even the
    owner has no uid.
    """
    uids = {neuron.hotkey: neuron.uid for neuron in metagraph.neurons}
    known = {uids[hotkey]: share for hotkey, share in shares.items() if hotkey in uids and share > 0}
    whole = math.fsum(known.values())
    if whole > 0:
        return {uid: share / whole for uid, share in sorted(known.items())}
    owner = uids.get(metagraph.owner_hotkey)
    return {} if owner is None else {owner: 1.0}
