"""From scored tasks to the row of weights: which tasks went in, what the rules make of them, and what stands on chain."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from gradients.audit import recompute
from gradients.audit.report import Checks
from gradients.domain.chain import Metagraph
from gradients.domain.json import Json
from gradients.domain.task import Hotkey
from gradients.record.models import TaskBody, WeightsBody
from gradients.scoring.limits import U16_MAX, Limits, Row, fit, limits_of, within
from gradients.tasks.registry import declared_shares

SHARE_TOLERANCE = 1e-9  # of a share: sums in another order


class SentLimits(BaseModel):
    """What the subnet asked for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_allowed_weights: int = Field(ge=0)
    max_weights_limit: int = Field(ge=1, le=U16_MAX)


class Sent(BaseModel):
    """What went to the chain, as the validator's ledger keeps it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    uids: tuple[int, ...]
    values: tuple[int, ...]
    limits: SentLimits
    changes: dict[str, JsonValue]
    version_key: int


@dataclass(slots=True)
class Epochs:
    """What earlier records said, as far as later weights have to agree with it."""

    known: set[str] = field(default_factory=set)  # tasks that had a record when the last weights were recorded
    last_epoch_block: int = -1


def check_weights(body: WeightsBody, tasks: Mapping[str, TaskBody], epochs: Epochs, checks: Checks) -> None:
    """Everything but the chain.

    Args:
        tasks: all that were recorded before, by id.
        epochs: what the records before said; brought up to date.
    """
    checks.holds("body.epoch_block", body.epoch_block > epochs.last_epoch_block, body.epoch_block, "after the last one")
    decided = body.epoch_block <= body.decided_at_block <= body.landed_at_block
    checks.holds("body.decided_at_block", decided, body.decided_at_block, "from the epoch's start to the landing")
    checks.equal("body.rules_version", body.rules_version, recompute.version_at(body.decided_at_block))
    unknown = [name for name in body.tasks if name not in tasks]
    checks.holds("body.tasks", not unknown, ", ".join(unknown), "only tasks that were recorded before")
    went_in = [tasks[name] for name in body.tasks if name in tasks]
    if any(task.netuid != body.netuid for task in went_in):
        checks.alarm("body.netuid", body.netuid, went_in[0].netuid)
    try:
        declared = declared_shares()
        shares = recompute.shares(went_in, rules_version=body.rules_version, now=0.0, declared_shares=declared)
        if missing := _missing(
            body, tasks, epochs
        ):  # in order where they would change nothing: the last verdict is repeated
            every = [*went_in, *(tasks[name] for name in missing)]
            other = recompute.shares(every, rules_version=body.rules_version, now=0.0, declared_shares=declared)
            checks.holds(
                "body.tasks", other in ({}, shares), "without " + ", ".join(missing), "all tasks of the window"
            )
    except ValueError as error:
        checks.alarm("body.rules_version", body.rules_version, str(error))
        return
    for hotkey in sorted(shares.keys() | body.shares.keys()):
        ours, theirs = shares.get(hotkey), body.shares.get(hotkey)
        if ours is None or theirs is None or not math.isclose(ours, theirs, rel_tol=SHARE_TOLERANCE):
            checks.alarm(f"body.shares.{hotkey}", theirs, ours)
    check_sent(body, checks)
    epochs.known, epochs.last_epoch_block = set(tasks), max(body.epoch_block, epochs.last_epoch_block)


def check_sent(body: WeightsBody, checks: Checks) -> Sent | None:
    """Whether the row is one that the limits allow, and, by the values alone, what they make of the shares."""
    try:
        sent = Sent.model_validate(body.sent)
    except ValidationError as error:
        checks.alarm("body.sent", str(body.sent)[:200], f"it is not a row of weights: {error.errors()[0]['msg']}")
        return None
    known = sorted(set(sent.uids)) == list(sent.uids) and len(sent.uids) == len(sent.values)
    checks.holds("body.sent.uids", known, list(sent.uids), "each uid once, rising, one for each value")
    limits = Limits(sent.limits.min_allowed_weights, sent.limits.max_weights_limit)
    row = dict(zip(sent.uids, sent.values, strict=False))
    checks.holds("body.sent.values", within(row, limits), list(sent.values), "within the subnet's limits")
    checks.holds("body.sent.values", max(row.values(), default=0) == U16_MAX, list(sent.values), "65535 at the top")
    return sent


def check_row(
    body: WeightsBody, validator: str, metagraph: Metagraph, on_chain: Mapping[int, float] | None, checks: Checks
) -> None:
    """The row against the chain: uids of hotkeys, and, for the newest epoch, the weights that stand there.

    Args:
        on_chain: uid -> share as it stands now; None for older epochs and where it is sealed.
    """
    sent = check_sent(body, Checks(checks.where))
    if sent is None:
        return
    row = dict(zip(sent.uids, sent.values, strict=False))
    neurons = [each for each in metagraph.neurons if each.registered_at_block <= body.decided_at_block]
    uids = {neuron.hotkey: neuron.uid for neuron in neurons}
    if len(neurons) == len(metagraph.neurons):  # nobody has come since: the whole row can be made again
        burned = sent.changes.get("burned", 0.0)
        made = fit(
            {uids[Hotkey(hotkey)]: share for hotkey, share in body.shares.items() if hotkey in uids},
            Limits(sent.limits.min_allowed_weights, sent.limits.max_weights_limit),
            own_uid=uids.get(Hotkey(validator)),
            owner_uid=uids.get(metagraph.owner_hotkey),
            burn_share=float(burned) if isinstance(burned, int | float) else 0.0,
            reserves=_named(sent, "spread") + _named(sent, "padded"),
        )
        values = made.values if isinstance(made, Row) else {}
        if checks.equal("body.sent.uids", sorted(row), sorted(values)):
            for place, uid in enumerate(sent.uids):
                checks.equal(f"body.sent.values.{place}", row[uid], values[uid])
        if isinstance(made, Row):
            checks.equal("body.sent.changes", cast(Json, sent.changes), dict(made.changes()))
    else:
        checks.note("uids have changed hands since: the row was compared by its values alone")
    if on_chain is None:
        return
    checks.equal("body.sent.limits.min_allowed_weights", sent.limits.min_allowed_weights, metagraph.min_allowed_weights)
    checks.equal("body.sent.limits.max_weights_limit", sent.limits.max_weights_limit, limits_of(metagraph).largest)
    whole = sum(row.values())
    checks.equal("body.sent.uids", sorted(row), sorted(on_chain))
    for place, uid in enumerate(sent.uids):
        published, found = row[uid] / whole, on_chain.get(uid, 0.0)
        if abs(published - found) > 1.0 / U16_MAX:
            checks.alarm(f"body.sent.values.{place}", published, found)


def _missing(body: WeightsBody, tasks: Mapping[str, TaskBody], epochs: Epochs) -> list[str]:
    """Tasks that were recorded before the last weights and are in the rules' window, but did not go in."""
    window = recompute.window_blocks(body.rules_version)
    newest = max((task.blocks.deadline_block for task in tasks.values()), default=0)
    inside = [
        name
        for name in epochs.known
        if window is None or tasks[name].blocks.deadline_block >= newest - window
        if tasks[name].placings
    ]
    return sorted(set(inside) - set(body.tasks))


def _named(sent: Sent, change: str) -> list[int]:
    """The uids that a change names."""
    found = sent.changes.get(change, [])
    return [uid for uid in found if isinstance(uid, int)] if isinstance(found, list) else []
