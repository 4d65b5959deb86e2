"""kill -9 of daemons that a supervisor keeps alive, while a task runs: how soon each is back, and whether anything was lost or done twice.

`scripts/supervised` runs a chain, a validator and a miner on this machine under pm2 (fetched by npm into a folder of its own) with
configs/pm2/ecosystem.config.cjs, posts one task, kills validator and miner by turns while it runs, and prints one row per kill.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import httpx

from gradients.client.api import MarketClient
from gradients.errors import OutsideError
from gradients.localnet.demo import spec
from gradients.localnet.founding import found
from gradients.localnet.plan import Options, Plan, plan_market, write_settings
from gradients.testing.chain_process import chain_process

ROOT = Path(__file__).parents[1]
PM2 = "pm2@7.0.4"
BACK_SECONDS = 60.0  # after which a daemon counts as not back
RUN_SECONDS = 900.0
LOOK_SECONDS = 0.05


class Kill(NamedTuple):
    """What came of one."""

    daemon: str
    state: str  # of the task
    seconds: float  # until another process answered


class Pm2:
    """A pm2 of this run alone: its own home, its own daemon."""

    def __init__(self, folder: Path, program: Path, home: Path) -> None:
        self._program = program
        self._environment = os.environ | {
            "PM2_HOME": str(folder / "pm2"),
            "GRADIENTS_HOME": str(home),
            "GRADIENTS_BIN": str(Path(sys.executable).with_name("gradients")),
            "OMP_NUM_THREADS": "1",
        }

    def start(self, role: str) -> None:
        """The daemon of this role, as configs/pm2 says."""
        self._run("start", str(ROOT / "configs" / "pm2" / "ecosystem.config.cjs"), "--only", f"gradients-{role}")

    def process(self, role: str) -> int:
        """Its process, or 0 while there is none."""
        listed = json.loads(self._run("jlist").partition("[")[2].join(("[", "")))
        return next(int(each["pid"] or 0) for each in listed if each["name"] == f"gradients-{role}")

    def end(self) -> None:
        """Everything that was started."""
        self._run("kill")

    def _run(self, *arguments: str) -> str:
        run = subprocess.run(
            [self._program, "--silent", *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        return run.stdout


@contextmanager
def pm2(folder: Path, program: Path | None, home: Path) -> Iterator[Pm2]:
    """A pm2 that is gone afterwards, with everything that it kept alive."""
    if program is None:
        npm = shutil.which("npm")
        if npm is None:
            sys.exit("npm is not installed; name a pm2 by --pm2")
        subprocess.run(
            [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder / "npm", PM2],
            check=True,
            timeout=300,
        )
        program = folder / "npm" / "node_modules" / ".bin" / "pm2"
    supervisor = Pm2(folder, program, home)
    try:
        yield supervisor
    finally:
        supervisor.end()


def probe(folder: Path, *, program: Path | None, kills: int, hours: float) -> dict[str, object]:
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
    places = {"validator": plan.validator.folder, "miner": plan.miners[0].folder}
    answers = {
        "validator": f"{plan.api_url}/readyz",
        "miner": f"http://{plan.miners[0].host}:{plan.miners[0].port}/livez",
    }
    with chain_process(folder / "chain", f"--port={plan.chain_port}", "--block-seconds=1.0", "--tempo=20"):
        asyncio.run(found(plan))
        write_settings(plan)
        places["miner"].with_name("miner").symlink_to(places["miner"])
        with pm2(folder, program, folder) as supervisor:
            for role, url in answers.items():
                supervisor.start(role)
                _wait(url, supervisor, role, other_than=0)
            return _under_fire(plan, supervisor, answers, kills)


def _under_fire(plan: Plan, supervisor: Pm2, answers: dict[str, str], kills: int) -> dict[str, object]:
    key = (plan.validator.folder / "api.key").read_text(encoding="utf-8").strip()
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
        "supervisor": PM2,
        "task": state,
        "kills": [shot._asdict() for shot in shots],
        "slowest_seconds": max((shot.seconds for shot in shots), default=None),
        "median_seconds": statistics.median(shot.seconds for shot in shots) if shots else None,
        **_counted(plan.validator.folder / "ledger.db"),
    }


def _kill(supervisor: Pm2, role: str, url: str, state: str) -> Kill:
    process = supervisor.process(role)
    os.kill(process, signal.SIGKILL)
    return Kill(role, state, round(_wait(url, supervisor, role, other_than=process), 2))


def _wait(url: str, supervisor: Pm2, role: str, *, other_than: int) -> float:
    """Seconds until another process answers."""
    began = time.monotonic()
    with httpx.Client(timeout=1.0) as http:
        while time.monotonic() - began < BACK_SECONDS:
            with suppress(httpx.HTTPError):
                if http.get(url).is_success:
                    seconds = time.monotonic() - began
                    if supervisor.process(role) not in (0, other_than):
                        return seconds
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
    parser.add_argument("--json", action="store_true", help="one JSON object")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="gradients-supervised-") as folder:
        shown = probe(Path(folder), program=given.pm2, kills=given.kills, hours=given.hours)
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
