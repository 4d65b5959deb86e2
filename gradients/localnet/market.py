"""Runs the market on one machine: starts the processes, posts the tasks, and follows them until the chain pays."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict, Unpack

import httpx

from gradients.chain.sdk import SdkGateway
from gradients.chain.wallet import open_wallet
from gradients.client.api import MarketClient
from gradients.client.models import TaskDetails
from gradients.domain.task import TaskState
from gradients.errors import JobFailed, OutsideError
from gradients.localnet.demo import spec
from gradients.localnet.founding import found
from gradients.localnet.plan import CHAIN_HOST, Plan, write_settings
from gradients.localnet.snapshot import Snapshot
from gradients.localnet.supervisor import Supervisor

START_SECONDS, START_LOOK_SECONDS = 120.0, 0.1
LOOK_EVERY_SECONDS = 0.5
PAID_AFTER_EPOCHS = 20  # at the latest: weights are set once an epoch, and count in the next
PAID_AFTER_SECONDS = 300.0  # but never sooner
WAITS_FOR = {  # the slowest task's state first
    TaskState.DRAFT: "preparing data",
    TaskState.OPEN: "offering tasks to miners",
    TaskState.ASSIGNED: "miners are training",
    TaskState.COLLECTED: "measuring on held-out rows",
    TaskState.MEASURED: "scoring",
}
NEEDS_MINERS = (TaskState.DRAFT, TaskState.OPEN, TaskState.ASSIGNED)  # what is measured needs none

Show = Callable[[Snapshot], None]


class News(TypedDict, total=False):
    """What may be new in a snapshot."""

    block: int
    tasks: tuple[TaskDetails, ...]
    weights: Mapping[int, float]
    incentive: Mapping[int, float]


@dataclass
class Market:
    """One run. `show` is called whenever there is something new to see."""

    plan: Plan
    supervisor: Supervisor
    show: Show
    snapshot: Snapshot
    started_at: float
    validator_hotkey: str = ""

    @classmethod
    def of(cls, plan: Plan, supervisor: Supervisor, show: Show) -> Market:
        """A market that has not started."""
        return cls(plan, supervisor, show, Snapshot(0.0, "starting"), time.monotonic())

    async def run(self) -> Snapshot:
        """From an empty folder to paid miners. Raises JobFailed when a process keeps dying or a task ends without scores."""
        run = asyncio.create_task(self._run())
        failure = asyncio.create_task(self.supervisor.failure())
        try:
            await asyncio.wait({run, failure}, return_when=asyncio.FIRST_COMPLETED)
            if not run.done():
                await failure  # which can only raise
            return await run
        finally:
            for each in (run, failure):
                each.cancel()
            await asyncio.gather(run, failure, return_exceptions=True)

    async def _run(self) -> Snapshot:
        await self._start()
        gateway = SdkGateway(self.plan.chain_url, 1, open_wallet("//Watcher", "//Watcher//hot"))
        key = (self.plan.validator.folder / "api.key").read_text(encoding="utf-8").strip()
        try:
            with MarketClient(self.plan.api_url, key) as client:
                open_at = await self._post_and_follow(client, gateway)
            await self._wait_for_pay(gateway, open_at)
        finally:
            await gateway.close()
        return self.snapshot

    async def _start(self) -> None:
        """The chain, everybody registered on it, and their daemons, all of them listening."""
        self._tell("starting the chain")
        plan, options = self.plan, self.plan.options
        flags = [
            f"--port={plan.chain_port}",
            f"--block-seconds={options.block_seconds}",
            f"--tempo={options.tempo_blocks}",
        ]
        arguments = ["gradients.cli", "localchain", "--json", *flags, f"--data={options.folder / 'chain'}"]
        await self.supervisor.start("chain", arguments, log_file=options.folder / "chain.log")
        await _until_open(CHAIN_HOST, plan.chain_port)
        self._tell("registering validator and miners")
        self.validator_hotkey = await found(plan)
        self._tell("starting validator and miners")
        await asyncio.to_thread(write_settings, plan)
        for who in plan.participants:
            command = "validator" if who is plan.validator else "miner"
            arguments = ["gradients.cli", command, "run", "--config", str(who.settings_file)]
            await self.supervisor.start(who.name, arguments, log_file=who.folder / f"{who.name}.log")
        async with httpx.AsyncClient(timeout=2.0) as http:
            for _ in range(int(START_SECONDS / START_LOOK_SECONDS)):
                with contextlib.suppress(httpx.HTTPError):
                    if (await http.get(f"{plan.api_url}/livez")).is_success:
                        break
                await asyncio.sleep(START_LOOK_SECONDS)
            else:
                raise JobFailed(
                    f"The validator was not ready after {START_SECONDS:.0f} s", fix="Read the logs in the folder"
                )
        for miner in plan.miners:
            await _until_open(miner.host, miner.port)

    async def _post_and_follow(self, client: MarketClient, gateway: SdkGateway) -> int:
        """Post one task after the other, each when the miners are free again, and show them until all have ended.

        Returns a block at which one of them had not ended yet. Raises JobFailed when one of them failed, or nobody won any.
        """
        options = self.plan.options
        specs = [
            spec(name, number=number, hours=options.hours, base=options.base)
            for name in options.types
            for number in range(options.tasks)
        ]
        ids: list[str] = []
        tasks: list[TaskDetails] = []
        open_at, done = 0, False
        while not done:
            busy = len(tasks) < len(ids) or any(task.state in NEEDS_MINERS for task in tasks)
            try:
                looked_at = await gateway.block()
                if len(ids) < len(specs) and not busy:
                    ids.append((await asyncio.to_thread(client.submit, specs[len(ids)])).id)
                tasks = [await asyncio.to_thread(client.task, task_id) for task_id in ids]
                block = await gateway.block()
            except OutsideError:  # while a process is down the last picture stays
                await asyncio.sleep(LOOK_EVERY_SECONDS)
                continue
            states = {task.state for task in tasks}
            doing = next((words for state, words in WAITS_FOR.items() if state in states), "all tasks are scored")
            self._tell(doing, block=block, tasks=tuple(tasks))
            done = len(tasks) == len(specs) and all(task.state.ended for task in tasks)
            open_at = open_at if done else looked_at
            await asyncio.sleep(LOOK_EVERY_SECONDS)
        check_won(tasks, options.folder)
        return open_at

    async def _wait_for_pay(self, gateway: SdkGateway, open_at: int) -> None:
        """Until weights over every task stand on chain and an epoch after them has turned them into incentive.

        Weights that were set between `open_at`, when a task had not ended, and the look that found all scored may be over every task
        or not. They are when a whole epoch brings no others: a validator says nothing twice. Raises JobFailed when nobody is paid.
        """
        options, all_scored_at = self.plan.options, self.snapshot.block
        most = max(PAID_AFTER_SECONDS, PAID_AFTER_EPOCHS * options.tempo_blocks * options.block_seconds)
        give_up_at = time.monotonic() + most
        while time.monotonic() < give_up_at:
            metagraph = await gateway.metagraph()
            validator = metagraph.by_hotkey(self.validator_hotkey)
            if validator is None:
                raise JobFailed("The validator has lost its registration")
            weights = await gateway.weights_of(validator.uid)
            incentive = {neuron.uid: neuron.incentive for neuron in metagraph.neurons if neuron.incentive > 0}
            self._tell("waiting for the next epoch", block=metagraph.block, weights=weights, incentive=incentive)
            set_at, epoch_at = validator.last_update_block, metagraph.last_epoch_block
            stands = open_at <= set_at and epoch_at > all_scored_at + options.tempo_blocks + 1
            if weights and incentive and (set_at > all_scored_at or stands) and set_at < epoch_at:
                self._tell("paid")
                return
            await asyncio.sleep(LOOK_EVERY_SECONDS)
        raise JobFailed(f"No weights were paid within {most:.0f} s", fix=f"Read the logs in {options.folder}")

    def _tell(self, doing: str, **news: Unpack[News]) -> None:
        restarts = {child.name: child.restarts for child in self.supervisor.children}
        seconds = time.monotonic() - self.started_at
        self.snapshot = replace(self.snapshot, seconds=seconds, doing=doing, restarts=restarts, **news)
        self.show(self.snapshot)


def check_won(tasks: Sequence[TaskDetails], folder: Path) -> None:
    """Raises JobFailed when an ended task has failed, or nobody has won any: then nobody is paid."""
    if failed := [task for task in tasks if task.state is TaskState.FAILED]:
        why = failed[0].failure.message if failed[0].failure else "for no reason that was given"
        raise JobFailed(f"{failed[0].id} ended without scores: {why}", fix="Read the logs in the folder")
    if all(task.best is None for task in tasks):
        reasons = "; ".join(sorted({miner.reason for task in tasks for miner in task.miners}))
        raise JobFailed(
            f"Nobody has won a task, so nobody is paid: {reasons}",
            fix=f"Give miners more time by --hours, and read the logs in {folder}",
        )


async def _until_open(host: str, port: int) -> None:
    """Wait until something listens. Raises JobFailed when nothing does in time."""
    for _ in range(int(START_SECONDS / START_LOOK_SECONDS)):
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            await asyncio.sleep(START_LOOK_SECONDS)
        else:
            writer.close()
            return
    raise JobFailed(f"Nothing listens on {host}:{port} after {START_SECONDS:.0f} s", fix="Read the logs in the folder")
