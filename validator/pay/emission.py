"""From points to weights on chain, once per epoch, through the outbox.

Deciding writes a row keyed by the epoch; sending marks the row before the call and afterwards reads the chain: a crash or a lost reply in
between can neither lose nor repeat a call. A row whose epoch is over is dropped: its weights are not wanted any more. A refusal that may
pass is tried again within the epoch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from gradients.chain.gateway import ChainGateway
from gradients.chain.view import ChainView
from gradients.clock import Clock
from gradients.domain.chain import Metagraph
from gradients.domain.json import JsonObject
from gradients.domain.task import Hotkey
from gradients.errors import ChainOutcomeUnknown, ChainRefused
from gradients.log import get_logger
from gradients.scoring.contest import Result
from gradients.scoring.limits import Row, Unfit, limits_of, row_for
from gradients.scoring.rules import VERSIONS, rules_at, shares_of
from gradients.tasks.registry import declared_shares
from validator.ledger import Ledger
from validator.ledger.outbox import OutboxState, Outgoing
from validator.loops import run_forever
from validator.pay.weights import closing_block, due_block, lifetime_of, must_speak, record_of
from validator.settings import EmissionSettings

LATE_BLOCKS = 4  # a call may be signed so many blocks after it was marked as sent
REFUSED_REST_BLOCKS = 3  # before a refused call is made again
# What no later block of the same epoch changes: who we are, and what the weights look like. Anything else may pass: limits of
# rate, a version or a miner that has just changed, a pool of transactions that is full.
FINAL_REFUSALS = frozenset(
    {
        "not_registered",
        "hot_key_not_registered_in_sub_net",
        "hot_key_not_registered_in_network",
        "neuron_no_validator_permit",
        "weight_vec_not_equal_size",
        "weight_vec_length_is_low",
        "max_weight_exceeded",
        "duplicate_uids",
    }
)
KEY_PREFIX = "weights:"
AT_ONCE = EmissionSettings(spread=0.0)

log = get_logger("emission")


@dataclass(frozen=True, slots=True)
class Emission:
    """Decides and sends this validator's weights."""

    ledger: Ledger
    gateway: ChainGateway
    view: ChainView
    clock: Clock
    declared_shares: Mapping[str, float] = field(
        default_factory=declared_shares
    )  # looked up at the start, to fail there
    settings: EmissionSettings = AT_ONCE
    obstacle: Callable[[], str] = str  # what stands against any row of ours at the moment; empty when nothing does
    version_key: int = max(VERSIONS)  # the newest rules that we know; the subnet says which it asks for at least
    said: dict[str, str] = field(default_factory=dict)  # what people have been told, by subject: each thing once

    async def run(self) -> None:
        """Decide and send with every block, until cancelled."""

        async def step_with_next_block() -> None:
            await self.view.wait_for_block(self.view.block + 1)
            await self.step()

        await run_forever(step_with_next_block, name="emission", rest_seconds=0.0)  # until the next block

    async def step(self) -> None:
        """One look: send what is open, decide for this epoch if that is not done."""
        metagraph = self.view.metagraph()
        if await asyncio.to_thread(self._decide, metagraph):
            metagraph = await self.view.refresh()
        for call in await asyncio.to_thread(self.ledger.outbox.open):
            await self._dispatch(call, metagraph)

    def _decide(self, metagraph: Metagraph) -> bool:
        """Write this epoch's weights into the outbox, when there is something to say: another verdict, or that we are still there.

        What stands on chain goes on standing, so an epoch without a verdict sends nothing, until the chain would take us for inactive. One
        in which nobody has earned anything repeats the last verdict: burning costs the whole subnet, and nobody decided to burn.
        """
        if self.ledger.outbox.knows(_key(metagraph)):
            return False  # every block asks: what an epoch pays is added up once
        results, last = self._results(metagraph.block), self.ledger.outbox.last_done()
        shares: JsonObject = {str(hotkey): share for hotkey, share in self._shares(results, metagraph.block).items()}
        if shares and (last is None or shares != last.payload["shares"]):
            payload: JsonObject = {"shares": shares, "tasks": sorted({result.task_id for result in results})}
            return self.ledger.outbox.decide(_key(metagraph), payload, block=metagraph.block)
        if last is None or not must_speak(metagraph, self.gateway.hotkey):
            return False
        new = self.ledger.outbox.decide(_key(metagraph), last.payload, block=metagraph.block)
        if new:
            log.info("weights_repeated", key=_key(metagraph), age_blocks=metagraph.block - last.decided_at_block)
        return new

    def standing(self, block: int) -> dict[Hotkey, float]:
        """Every miner's share by the rules at `block` and what the ledger holds; empty when nobody has earned anything."""
        return self._shares(self._results(block), block)

    def _results(self, block: int) -> list[Result]:
        return self.ledger.placings.results(window_blocks=rules_at(block).window_blocks)

    def _shares(self, results: Sequence[Result], block: int) -> dict[Hotkey, float]:
        parts = rules_at(block).account(results, now=self.clock.now(), declared_shares=self.declared_shares)
        return shares_of(parts)

    async def _dispatch(self, call: Outgoing, metagraph: Metagraph) -> None:
        """Finish, drop or send a call, or let it be."""
        last_update = _last_update(metagraph, self.gateway.hotkey)
        # One that may still be included is let be longer than one that the chain has refused.
        rest = lifetime_of(metagraph) + LATE_BLOCKS if call.state is OutboxState.SENT else REFUSED_REST_BLOCKS
        due = due_block(metagraph, self.gateway.hotkey, spread=self.settings.spread)
        is_time = due <= self.view.block < closing_block(metagraph)
        if call.sent_at_block is not None and last_update > call.sent_at_block:
            await self._finish(call, {"block": last_update})
        elif call.key != _key(metagraph):
            await self._drop(call, call.problem or "its epoch is over")
        elif is_time and call.sent_at_block is None:
            await self._send(call, metagraph)
        elif is_time and call.sent_at_block is not None and self.view.block > call.sent_at_block + rest:
            metagraph = await self.view.refresh()  # after an outage the block may be new and the picture of it old
            if call.key == _key(metagraph) and _last_update(metagraph, self.gateway.hotkey) <= call.sent_at_block:
                await self._send(call, metagraph)

    async def _send(self, call: Outgoing, metagraph: Metagraph) -> None:
        """Mark, then call. An unknown outcome leaves the row SENT; the chain will tell. What may pass is tried again in this epoch."""
        row = self._row(call, metagraph)
        if isinstance(row, str):
            if call.problem != row:
                await asyncio.to_thread(self.ledger.outbox.refused, call, row)
            return
        record = record_of(row, limits_of(metagraph), version_key=self.version_key)
        if self.settings.dry_run:
            await asyncio.to_thread(self.ledger.outbox.rehearse, call, record)
            log.info("weights_rehearsed", key=call.key, uids=len(row.values))
            return
        sent = await asyncio.to_thread(self.ledger.outbox.mark_sent, call, block=self.view.block, sent=record)
        if sent is None:
            return  # another process on this ledger was quicker
        try:
            receipt = await self.gateway.set_weights(
                row.values, version_key=self.version_key, lifetime_blocks=lifetime_of(metagraph)
            )
        except ChainOutcomeUnknown as error:
            log.warning("weights_outcome_unknown", key=call.key, problem=str(error))
        except ChainRefused as error:
            problem = f"{error.code}: {error}"
            if error.code in FINAL_REFUSALS:
                await self._drop(sent, problem)
                return
            await asyncio.to_thread(self.ledger.outbox.refused, sent, problem)
            log.warning("weights_refused", key=sent.key, problem=problem)
            await self.view.refresh()  # what was refused may have been right for the subnet of a moment ago
        else:
            await self._finish(sent, {"block": receipt.block, "reveal_round": receipt.reveal_round})

    def _row(self, call: Outgoing, metagraph: Metagraph) -> Row | str:
        """What to send, or why nothing can be sent as long as the subnet asks for what it does. People are told when that changes."""
        obstacle = self.obstacle()
        self._say("obstacle", obstacle)
        if obstacle:
            return obstacle
        shares = {Hotkey(h): float(share) for h, share in cast(dict[str, float], call.payload["shares"]).items()}
        asked, ours = metagraph.weights_version, self.version_key
        behind = f"The subnet asks for version {asked} of the rules, and this validator knows {ours}: update it"
        self._say("version", behind if asked > ours else "")
        if asked > ours:
            return behind
        row = row_for(shares, metagraph, hotkey=self.gateway.hotkey, burn_share=self.settings.burn_share)
        self._say("demand", row.demand if isinstance(row, Unfit) else "")
        if isinstance(row, Unfit):
            return row.demand
        limits = f"at least {metagraph.min_allowed_weights} uids, none above {metagraph.max_weight_limit:.2%}"
        bent = ", ".join(name for name in ("clipped", "spread", "padded") if getattr(row, name))
        bending = f"The subnet's limits ({limits}) change the shares: {bent}"
        self._say(
            bending, bending if bent else "", event="weights_bent"
        )  # epochs that are bent in two ways may take turns
        return row

    def _say(self, subject: str, problem: str, *, event: str = "weights_held_back") -> None:
        """Warn of a problem when it is new; without one the subject is forgotten."""
        if problem and self.said.get(subject) != problem:
            log.warning(event, problem=problem)
        self.said[subject] = problem

    async def _finish(self, call: Outgoing, receipt: JsonObject) -> None:
        await asyncio.to_thread(self.ledger.outbox.finish, call, receipt)
        log.info("weights_set", key=call.key, **dict(receipt))

    async def _drop(self, call: Outgoing, problem: str) -> None:
        await asyncio.to_thread(self.ledger.outbox.give_up, call, problem)
        tell = log.info if problem in self.said.values() else log.warning
        tell("weights_dropped", key=call.key, problem=problem)


def _key(metagraph: Metagraph) -> str:
    """One key per epoch: the block in which the last one ended."""
    return f"{KEY_PREFIX}{metagraph.last_epoch_block}"


def _last_update(metagraph: Metagraph, hotkey: Hotkey) -> int:
    ours = metagraph.by_hotkey(hotkey)
    return ours.last_update_block if ours else 0
