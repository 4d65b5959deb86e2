"""The main job as a user runs it: one command, real processes, real training, one JSON object, and btcli looking on."""

from __future__ import annotations

import itertools
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gradients.bases.bases import base_in
from gradients.client.api import MarketClient
from gradients.client.delivery import bring
from gradients.client.shelf import Shelf
from gradients.localnet.demo import spec
from gradients.tasks.registry import TYPES

pytestmark = pytest.mark.slow

BTCLI = Path(sys.executable).with_name("btcli")
LONGEST_RUN_SECONDS = 1200
HOURS = 0.012
LONGEST_STOP_SECONDS = 60
MOST_BYTES = 6e9  # of memory, all processes together

TASK_KEYS = {"id", "type", "state", "metric", "better", "base_loss", "rows", "miners"}
MINER_KEYS = {"uid", "hotkey", "recipe", "loss", "stderr", "gain", "chance", "prize", "copy_of", "reason", "repo"}


@dataclass(frozen=True)
class Run:
    """A market that has paid and still stands."""

    types: Sequence[str]
    report: dict[str, Any]
    chain_url: str
    api_url: str
    peak_bytes: int
    home: Path


@pytest.fixture(scope="module")
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """HOME is a folder of its own, so that nobody's models are touched."""
    asked = str(request.config.getoption("--market-types"))
    types = list(TYPES) if asked == "all" else asked.split(",")
    home = tmp_path_factory.mktemp("home")
    flags = ["--types", ",".join(types), "--miners", "2", "--hours", str(HOURS), "--stay", "--json"]
    with (home / "errors").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "gradients.cli", "localnet", *flags],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={"HOME": str(home), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        )
    watch = threading.Timer(LONGEST_RUN_SECONDS, process.kill)
    watch.start()
    memory = Memory(process.pid)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()  # the only one, when everything is done
        said = (home / "errors").read_text()
        assert line, said[-2000:]
        report = json.loads(line)
        assert "error" not in report, report
        url, api = re.search(r"ws://[\d.]+:\d+", said), re.search(r"http://[\d.]+:\d+", said)
        assert url is not None
        assert api is not None
        yield Run(types, report, url.group(), api.group(), memory.stop(), home)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONGEST_STOP_SECONDS) == 0
    finally:
        watch.cancel()
        memory.stop()
        process.kill()
        if process.stdout is not None:
            process.stdout.close()


class Memory:
    """Watches what a process and all below it hold; what they share counts once (proportional set size)."""

    def __init__(self, pid: int) -> None:
        self._pid, self._peak = pid, 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """The most that was seen, in bytes."""
        self._stopped.set()
        self._thread.join()
        return self._peak

    def _watch(self) -> None:
        while not self._stopped.wait(2.0):
            self._peak = max(self._peak, sum(map(_held_bytes, _family(self._pid))))


def _family(pid: int) -> Iterator[int]:
    yield pid
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in _text(file).split():
            yield from _family(int(child))


def _held_bytes(pid: int) -> int:
    found = re.search(r"^Pss: +(\d+) kB", _text(Path(f"/proc/{pid}/smaps_rollup")), re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0


def _text(file: Path) -> str:
    """Nothing once the process is gone."""
    try:
        return file.read_text()
    except OSError:
        return ""


def test_the_report_says_everything_that_scripts_read(run: Run) -> None:
    assert set(run.report) == {"seconds", "tasks", "chain"}
    assert set(run.report["chain"]) == {"block", "weights", "incentive"}
    assert [set(task) for task in run.report["tasks"]] == [TASK_KEYS] * len(run.types)
    assert {frozenset(miner) for task in run.report["tasks"] for miner in task["miners"]} == {frozenset(MINER_KEYS)}


def test_every_task_is_scored_and_its_best_miner_beats_the_base_on_held_out_rows(run: Run) -> None:
    assert [(task["type"], task["state"]) for task in run.report["tasks"]] == [(name, "scored") for name in run.types]
    for task in run.report["tasks"]:
        higher = task["better"] == "higher"
        best = (max if higher else min)(task["miners"], key=lambda miner: miner["loss"])
        assert best["loss"] > task["base_loss"] if higher else best["loss"] < task["base_loss"], task
        assert best["prize"] == max(miner["prize"] for miner in task["miners"]) > 0
        assert list(Path(best["repo"]).glob("*.safetensors"))


def test_weights_and_incentive_follow_the_prizes(run: Run) -> None:
    weights, incentive = run.report["chain"]["weights"], run.report["chain"]["incentive"]
    prizes = [{str(miner["uid"]): miner["prize"] for miner in task["miners"]} for task in run.report["tasks"]]
    assert sum(weights.values()) == pytest.approx(1.0, abs=1e-3)
    for one, other in itertools.permutations(weights, 2):
        ahead = [task.get(one, 0.0) - task.get(other, 0.0) for task in prizes]
        if min(ahead) >= 0 < max(ahead):
            assert weights[one] > weights[other]
    assert incentive == pytest.approx(weights, abs=1e-3)  # there is one validator, and all agree with it


def test_btcli_shows_the_miners_incentives_while_the_market_stands(run: Run, tmp_path: Path) -> None:
    command = [str(BTCLI), "query", "metagraph", "--netuid", "1", "--network", run.chain_url, "--json"]
    looked = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        check=False,
    )
    assert looked.returncode == 0, looked.stderr
    shown = json.loads(looked.stdout)
    shown = {str(uid): share / 65535 for uid, share in enumerate(json.loads(looked.stdout)["incentives"]) if share}
    assert shown == pytest.approx(run.report["chain"]["incentive"], abs=1e-3)


def test_a_task_goes_on_from_the_winner_of_another_and_brings_the_base_that_only_the_validator_has(
    run: Run, tmp_path: Path
) -> None:
    """Its miners have the former winner from the validator's axon, and its base is better than the former task's."""
    first = run.report["tasks"][0]
    key = next(run.home.rglob("api.key")).read_text().strip()
    asked = {**spec(first["type"], number=0, hours=HOURS, base=None), "continues": first["id"]}
    del asked["base"]
    with MarketClient(run.api_url, key) as client:
        posted = client.submit(asked)
        *_, task = client.watch(posted.id)
        assert (task.state, [step.task for step in task.lineage]) == ("scored", [first["id"]])
        assert task.data is not None
        assert task.base_loss is not None
        better = task.base_loss > first["base_loss"] if task.better == "higher" else task.base_loss < first["base_loss"]
        assert better
        measured = [miner.hotkey for miner in task.miners if miner.loss is not None]
        assert measured
        folder = bring(client, task.id, Shelf(tmp_path), miner=measured[0])
    assert base_in(task.base, folder / "base").digest == task.data.base_digest
    given = run.home / ".cache" / "gradients" / "bases" / f"{task.base}@{task.data.base_digest}"
    assert base_in(task.base, given).digest == task.data.base_digest


def test_an_auditor_who_knows_but_the_validators_url_and_the_chain_finds_nothing_wrong(run: Run) -> None:
    command = [sys.executable, "-m", "gradients.cli", "audit", run.api_url, "--network", run.chain_url, "--netuid", "1"]
    audit = subprocess.run([*command, "--reevaluate", "2", "--json"], capture_output=True, text=True, check=False)
    assert audit.returncode == 0, audit.stdout + audit.stderr
    report = json.loads(audit.stdout.splitlines()[-1])
    assert (report["tasks"], report["reevaluated"], report["alarms"]) == (len(run.types) + 1, 2, [])
    assert report["epochs"] >= 1


def test_all_processes_together_hold_less_than_six_gigabytes(run: Run) -> None:
    assert 1e8 < run.peak_bytes < MOST_BYTES
