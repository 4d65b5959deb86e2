"""Sets recomputed weights with the auditor's own hotkey: whoever has a permit need not trust another validator's row."""

from __future__ import annotations

from collections.abc import Sequence

from gradients.audit import recompute
from gradients.chain.gateway import ChainGateway
from gradients.domain.task import Hotkey
from gradients.errors import OutsideError, SetupError
from gradients.record.models import TaskBody
from gradients.scoring.limits import Unfit, row_for
from gradients.tasks.registry import declared_shares


async def set_recomputed(tasks: Sequence[TaskBody], gateway: ChainGateway) -> str:
    """What was set, in a sentence. Call it after an audit without alarms only.

    Raises SetupError without a permit, OutsideError when nothing can be set, and as `ChainGateway.set_weights` does.
    """
    metagraph = await gateway.metagraph()
    ours = metagraph.by_hotkey(gateway.hotkey)
    if ours is None or not ours.validator_permit:
        raise SetupError(
            f"{gateway.hotkey} has no validator permit on subnet {metagraph.netuid}", fix="Name a wallet that has"
        )
    version = recompute.version_at(metagraph.block)
    if metagraph.weights_version > version:
        raise SetupError(
            f"The subnet asks for version {metagraph.weights_version} of the rules", fix="Update gradients"
        )
    shares = recompute.shares(tasks, rules_version=version, now=0.0, declared_shares=declared_shares())
    paid = {Hotkey(hotkey): share for hotkey, share in shares.items()}
    row = row_for(paid, metagraph, hotkey=gateway.hotkey, burn_share=0.0)
    if isinstance(row, Unfit):
        raise OutsideError(f"No weights were set: {row.demand}", code="weights_unfit")
    receipt = await gateway.set_weights(row.values, version_key=version)
    return f"weights of {len(row.values)} uids were set in block {receipt.block}"
