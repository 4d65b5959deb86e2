"""kill -9 of daemons that a supervisor keeps alive, while a task runs: how soon each is back, and whether anything was lost or done twice.

`scripts/supervised` runs a chain, a validator and a miner on this machine, posts one task, kills validator and miner by turns while it
runs, and prints one row per kill. They run under pm2 (fetched by npm into a folder of its own) with configs/pm2/ecosystem.config.cjs; with
--systemd ROOT under the systemd of a Debian that lies there, booted in namespaces of its own, with the units of configs/systemd; with
--compose ROOT under podman, by the rules of docker/compose.yml.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import httpx

from gradients.client.api import MarketClient
from gradients.errors import OutsideError
from gradients.localnet.demo import spec
from gradients.localnet.founding import found
from gradients.localnet.plan import Options, Plan, plan_market, write_settings
from gradients.testing.chain_process import chain_process
from scripts.supervisors import Compose, Pm2, Supervisor, Systemd

BACK_SECONDS = 60.0  # after which a daemon counts as not back
RUN_SECONDS = 900.0
LOOK_SECONDS = 0.05


class Kill(NamedTuple):
    """What came of one."""

    daemon: str
    state: str  # of the task
    seconds: float  # until another process answered


def probe(folder: Path, supervised: Callable[[], Supervisor], *, kills: int, hours: float) -> dict[str, object]:
    """Everything that the run has shown."""
    plan = plan_market(
        Options(
            folder=folder,
            types=("instruct",),
            tasks=1,
            miners=1,
            seed=7,
            hours=hours,
            block_seconds=1.0,
            tempo_blocks=20,
            base=None,
        )
    )
    who = {"validator": plan.validator, "miner": plan.miners[0]}
    answers = {
        "validator": f"{plan.api_url}/readyz",
        "miner": f"http://{plan.miners[0].host}:{plan.miners[0].port}/livez",
    }
    with chain_process(folder / "chain", f"--port={plan.chain_port}", "--block-seconds=1.0", "--tempo=20"):
        asyncio.run(found(plan))
        write_settings(plan)
        with ExitStack() as running:
            supervisor = supervised()
            running.callback(supervisor.end)
            places = {}
            for role, url in answers.items():
                places[role] = supervisor.start(who[role], role)
                _wait(url, supervisor, role, other_than=0)
            return _under_fire(plan, supervisor, answers, kills, places["validator"])


def _under_fire(
    plan: Plan, supervisor: Supervisor, answers: dict[str, str], kills: int, place: Path
) -> dict[str, object]:
    key = (place / "api.key").read_text(encoding="utf-8").strip()
    shots: list[Kill] = []
    until = time.monotonic() + RUN_SECONDS
    with MarketClient(plan.api_url, key) as client:
        task_id = client.submit(spec("instruct", number=0, hours=plan.options.hours, base=None)).id
        state = "draft"
        while time.monotonic() < until:
            with suppress(OutsideError):
                state = client.task(task_id).state.value
            if state in ("scored", "failed"):
                break
            if len(shots) < kills and state not in ("draft", "open"):
                role = tuple(answers)[len(shots) % 2]
                shots.append(_kill(supervisor, role, answers[role], state))
            time.sleep(1.0)
    return {
        "supervisor": supervisor.name,
        "task": state,
        "kills": [shot._asdict() for shot in shots],
        "slowest_seconds": max((shot.seconds for shot in shots), default=None),
        "median_seconds": statistics.median(shot.seconds for shot in shots) if shots else None,
        **_counted(place / "ledger.db"),
    }


def _kill(supervisor: Supervisor, role: str, url: str, state: str) -> Kill:
    began, process = time.monotonic(), supervisor.process(role)
    supervisor.kill(role, process)
    _wait(url, supervisor, role, other_than=process)
    return Kill(role, state, round(time.monotonic() - began, 2))


def _wait(url: str, supervisor: Supervisor, role: str, *, other_than: int) -> None:
    """Until another process answers."""
    until = time.monotonic() + BACK_SECONDS
    with httpx.Client(timeout=1.0) as http:
        while time.monotonic() < until:
            with suppress(httpx.HTTPError):
                if http.get(url).is_success and supervisor.process(role) not in (0, other_than):
                    return
            time.sleep(LOOK_SECONDS)
    sys.exit(f"{role} was not back after {BACK_SECONDS:.0f} s")


def _counted(ledger: Path) -> dict[str, object]:
    """What must be there once."""
    with closing(sqlite3.connect(ledger)) as rows:
        (placings,) = rows.execute("SELECT COUNT(*) FROM placings").fetchone()
        (scored,) = rows.execute(
            "SELECT COUNT(*) FROM events WHERE name = 'task_advanced' AND fields LIKE '%scored%'"
        ).fetchone()
    return {"placings": placings, "times_scored": scored}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what the run has shown; exit code 1 when the task was not scored once, or a daemon took longer than --most-seconds."""
    parser = argparse.ArgumentParser(prog="scripts/supervised", description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=6, help="validator and miner by turns")
    parser.add_argument("--hours", type=float, default=0.025, help="of training")
    parser.add_argument("--most-seconds", type=float, default=10.0, help="that a daemon may be away")
    parser.add_argument("--pm2", type=Path, default=None, help="an installed one; by default npm fetches it")
    parser.add_argument("--systemd", type=Path, metavar="ROOT", help="under systemd, in the Debian that lies there")
    parser.add_argument(
        "--compose", type=Path, metavar="ROOT", help="under podman by docker/compose.yml, in that Debian"
    )
    parser.add_argument(
        "--first", action="store_true", help="with --systemd and --compose: daemons go before all else on this machine"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="gradients-supervised-") as folder:
        place = Path(folder)
        if given.systemd:
            supervised: Callable[[], Supervisor] = partial(Systemd, given.systemd, first=given.first)
        elif given.compose:
            supervised = partial(Compose, given.compose, place, first=given.first)
        else:
            supervised = partial(Pm2, place, given.pm2, place)
        shown = probe(place, supervised, kills=given.kills, hours=given.hours)
    if given.json:
        print(json.dumps(shown))
    else:
        for name, value in shown.items():
            print(f"{name}: {value}")
    slowest = shown["slowest_seconds"]
    fine = (shown["task"], shown["placings"], shown["times_scored"]) == ("scored", 1, 1)
    sys.exit(not (fine and isinstance(slowest, float) and slowest <= given.most_seconds))


if __name__ == "__main__":
    main()
