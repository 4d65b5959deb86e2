"""The commands: that they are there, say what they take, and start without what only workers need."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gradients.cli.main import SUBCOMMANDS
from gradients.extras import how_to_install
from gradients.tasks.registry import TYPES

HEAVY = ("torch", "transformers", "diffusers", "datasets", "peft", "trl", "accelerate")
CONTROL_PLANE = (
    *(target.partition(":")[0] for target in TYPES.values()),  # these are imported when they are needed first
    "gradients.tasks.preparation",
    "gradients.datasets.near_duplicates",
    "gradients.tasks.rag.retrieval",
    "gradients.bases.bases",
    "gradients.execution.process",
    "gradients.cli.main",
    "gradients.cli.localnet",
    "gradients.cli.localchain",
    "gradients.cli.backup",
    "gradients.cli.upgrade",
    "gradients.backup.upgrading",
    "gradients.backup.making",
    "gradients.backup.restoring",
    "validator.kept",
    "miner.kept",
    "gradients.cli.init",
    "gradients.cli.register",
    "gradients.cli.subnet",
    "gradients.doctor.hyperparameters",
    "gradients.cli.task",
    "gradients.client.chat",
    "gradients.cli.doctor",
    "gradients.doctor.examination",
    "validator.doctor",
    "miner.doctor",
    "gradients.cli.worker",
    "gradients.cluster.executor",
    "gradients.cli.simulate",
    "gradients.simulator.report",
    "validator.cli",
    "validator.daemon",
    "validator.wiring",
    "validator.specs.estimates",
    "validator.pay.explain",
    "validator.weights_cli",
    "miner.cli",
    "miner.daemon",
    "miner.wiring",
)
SHARED = ("--config", "--wallet", "--wallet-hotkey", "--wallet-path", "--network", "--netuid")
DAEMON = (
    *SHARED,
    "--folder",
    "--axon-host",
    "--axon-port",
    "--external-ip",
    "--external-port",
    "--log-style",
    "--debug",
)
OPTIONS = {
    ("localnet",): (
        "--types",
        "--tasks",
        "--miners",
        "--seed",
        "--hours",
        "--block-seconds",
        "--tempo",
        "--base",
        "--keep",
        "--stay",
        "--json",
    ),
    ("localchain",): ("--port", "--block-seconds", "--tempo", "--data", "--json", "fund"),
    ("localchain", "fund"): ("--network", "--json"),
    ("init", "validator"): (*DAEMON, "--api-host", "--api-port", "--yes", "--json"),
    ("init", "miner"): (*DAEMON, "--recipe", "--yes", "--json"),
    ("backup",): ("--config", "--folder", "--role", "--records-only", "--json"),
    ("restore",): ("--config", "--folder", "--check", "--json"),
    ("cache", "list"): ("--caches", "--json"),
    ("cache", "clear"): ("--all", "--caches", "--json"),
    ("upgrade",): ("--config", "--folder", "--role", "--from", "--to", "--backups", "--check", "--yes", "--json"),
    ("validator", "migrate"): ("--config", "--folder", "--json"),
    ("subnet", "check"): ("--config", "--network", "--netuid", "--json"),
    ("register",): (*SHARED, "--yes", "--json"),
    ("simulate",): (
        "--rules",
        "--market",
        "--seeds",
        "--days",
        "--pool",
        "--sybils",
        "--skill",
        "--different",
        "--step",
        "--luck",
        "--plots",
        "--json",
    ),
    ("worker", "doctor"): ("--address", "--origin", "--json"),
    ("doctor",): (*SHARED, "--json"),
    ("validator", "run"): (*DAEMON, "--api-host", "--api-port"),
    ("validator", "doctor"): (*DAEMON, "--api-host", "--api-port", "--fix", "--json"),
    ("miner", "check"): (
        "--config",
        "--folder",
        "--task",
        "--data",
        "--against",
        "--rows",
        "--recipe",
        "--json",
    ),
    ("miner", "doctor"): (*DAEMON, "--recipe", "--fix", "--json"),
    ("validator", "key"): (*("--config", "--folder", "--name", "--scope", "--days", "--list", "--revoke", "--json"),),
    ("weights", "show"): ("--config", "--folder", "--json"),
    ("weights", "explain"): ("--config", "--folder", "--network", "--netuid", "--hotkey", "--burn", "--json"),
    ("miner", "run"): (*DAEMON, "--recipe"),
    ("miner", "plan"): (
        "--task",
        "--type",
        "--base",
        "--parameters",
        "--rows",
        "--hours",
        "--gpu",
        "--recipe",
        "--json",
    ),
    ("miner", "results"): ("--config", "--folder", "--json"),
    ("task", "submit"): (
        "--type",
        "--base",
        "--continues",
        "--dataset",
        "--hours",
        "--spec",
        "--set",
        "--yes",
        "--idempotency-key",
        "--api-url",
        "--api-key",
        "--json",
    ),
    ("task", "estimate"): (
        "--type",
        "--base",
        "--continues",
        "--dataset",
        "--spec",
        "--set",
        "--api-url",
        "--api-key",
        "--json",
    ),
    ("task", "list"): (
        "--state",
        "--type",
        "--search",
        "--limit",
        "--cursor",
        "--api-url",
        "--api-key",
        "--json",
    ),
    ("task", "account"): ("--api-url", "--api-key", "--json"),
    ("task", "key", "make"): ("--name", "--scope", "--days", "--api-url", "--api-key", "--json"),
    ("task", "key", "list"): ("--api-url", "--api-key", "--json"),
    ("task", "key", "revoke"): ("--api-url", "--api-key", "--json"),
    ("task", "rewards"): (
        "--rows",
        "--answer",
        "--first",
        "--type",
        "--spec",
        "--set",
        "--api-url",
        "--api-key",
        "--json",
    ),
    ("task", "upload"): ("--api-url", "--api-key", "--json"),
    ("task", "uploads"): ("--drop", "--api-url", "--api-key", "--json"),
    ("task", "events"): ("--after", "--api-url", "--api-key", "--json"),
    ("task", "cancel"): ("--api-url", "--api-key", "--json"),
    ("task", "show"): ("--api-url", "--api-key", "--json"),
    ("task", "watch"): ("--api-url", "--api-key", "--json"),
    ("task", "download"): ("--to", "--miner", "--with-base", "--without-base", "--json"),
    ("task", "export"): ("--to", "--miner", "--merged", "--gguf", "--quant", "--converter", "--json"),
    ("task", "push"): ("--to", "--miner", "--merged", "--gguf", "--public", "--json"),
    ("task", "compare"): ("--first", "--max-new-tokens", "--temperature", "--json"),
    ("task", "sheet"): ("--to", "--json"),
    ("task", "rows"): ("--row", "--miner", "--order", "--limit", "--after", "--api-url", "--api-key", "--json"),
    ("task", "chat"): ("--prompt", "--max-new-tokens", "--temperature", "--json"),
    ("audit",): (
        "--network",
        "--netuid",
        "--hotkey",
        "--no-chain",
        "--reevaluate",
        "--seed",
        "--no-sources",
        "--set-weights",
        "--json",
    ),
    ("repo", "check"): ("--base", "--json"),
    ("record", "export"): ("--from", "--to", "--no-models", "--json"),
}


@functools.cache  # several tests read one help
def gradients(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gradients.cli", *arguments], capture_output=True, text=True, check=False, timeout=600
    )


def test_help_names_every_command() -> None:
    run = gradients("--help")
    assert run.returncode == 0
    assert all(f"  {name} " in run.stdout for name in SUBCOMMANDS)


def test_every_command_has_its_options_tested_here() -> None:
    assert {command[0] for command in OPTIONS} == set(SUBCOMMANDS)


@pytest.mark.parametrize("command", OPTIONS, ids=" ".join)
def test_a_commands_help_names_its_options(command: tuple[str, ...]) -> None:
    run = gradients(*command, "--help")
    assert (run.returncode, run.stderr) == (0, "")
    words = run.stdout.replace(",", " ").split()
    assert [option for option in OPTIONS[command] if option not in words] == []


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("register", "run this where the coldkey is"),
        ("doctor", "The exit code is 1 when something is missing"),
        ("localchain", "Run a loopback subtensor that the Bittensor SDK and btcli connect to"),
        ("validator", "set weights on chain"),
        ("weights", "from its ledger alone"),
        ("miner", "trains inside their time"),
        ("task", "get and try the models"),
    ],
)
def test_a_commands_help_says_everything_that_it_was_written_to_say(command: str, said: str) -> None:
    run = gradients(command, "--help")
    assert said in " ".join(run.stdout.split())
    assert run.returncode == 0


@pytest.mark.parametrize("command", ["register", "doctor"])
def test_a_single_command_is_not_shown_as_a_group(command: str) -> None:
    assert "COMMAND" not in gradients(command, "--help").stdout


@pytest.mark.parametrize("command", OPTIONS, ids=" ".join)
def test_help_is_for_users_and_names_no_exceptions(command: tuple[str, ...]) -> None:
    assert "Raises" not in gradients(*command, "--help").stdout


def test_the_version_is_printed() -> None:
    from gradients import __version__

    assert gradients("--version").stdout.strip() == __version__


def test_no_command_is_usage_and_an_unknown_one_is_an_error() -> None:
    assert "Commands:" in gradients().stdout + gradients().stderr
    run = gradients("mine")
    assert run.returncode == 2
    assert "mine" in run.stderr


def test_the_control_plane_runs_without_torch() -> None:
    """The modules one after another, so that the first one that brings something heavy is named."""
    script = (
        "import importlib, sys\n"
        f"for module in {CONTROL_PLANE!r}:\n"
        "    importlib.import_module(module)\n"
        f"    if heavy := [name for name in {HEAVY!r} if name in sys.modules]:\n"
        "        sys.exit(f'{module} imports {heavy}')\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["task", "--help"]], ids=" ".join)
def test_help_imports_nothing_that_only_running_needs(arguments: list[str]) -> None:
    script = (
        "import sys, gradients.cli.main as c\n"
        f"try: c.build({arguments})(args={arguments}, prog_name='gradients')\n"
        "except SystemExit: pass\n"
        "print([name for name in ('bittensor', 'fastapi', 'pydantic_settings', 'rich', 'httpx', 'numpy') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=600)
    assert run.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("command", "absent"),
    [
        ("localchain", "websockets"),
        ("localchain", "kyber_py"),
        ("localchain", "Crypto"),
        ("localchain", "xxhash"),
        ("localnet", "websockets"),
    ],
)
def test_a_command_without_its_extra_names_the_extra(command: str, absent: str, tmp_path: Path) -> None:
    """None in sys.modules is how Python says that a module cannot be imported."""
    script = f"import sys; sys.modules[{absent!r}] = None; from gradients.cli.main import main; main()"
    run = subprocess.run(
        [sys.executable, "-c", script, command],
        env=os.environ | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert run.returncode == 1
    assert run.stderr.startswith(f"gradients: {absent}"), run.stderr
    assert run.stderr.strip().endswith(f"is not installed. {how_to_install('localnet')}")
