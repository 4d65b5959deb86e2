"""What people see when something is wrong: one line that says what to do, an exit code, and nothing half-written.

A real chain, a real validator and the real commands, each a process of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gradients.axon.ports import free_ports
from gradients.chain.wallet import open_wallet
from gradients.localchain.operator import operating
from gradients.testing.chain_process import chain_process
from tests.unit.client import answers

VALIDATOR, NOBODY = ("-w", "//Validator", "-H", "//Validator//hot"), ("-w", "//Nobody", "-H", "//Nobody//hot")
NO_CHAIN = ("-n", "ws://127.0.0.1:1")
HOST = "127.0.0.2"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "gradients.cli", *arguments]


def environment(home: Path, **variables: str) -> dict[str, str]:
    """A user's environment without anything of ours but `variables`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GRADIENTS_", "BT_"))}
    return clean | {"HOME": str(home), "OMP_NUM_THREADS": "1"} | variables


def gradients(
    home: Path, *arguments: str, largest_file: int | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; with `largest_file` the disk is full after so many bytes of one file."""

    def fill_the_disk() -> None:
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    return subprocess.run(
        command(*arguments),
        env=environment(home, **variables),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        preexec_fn=fill_the_disk,
    )


def complaint(run: subprocess.CompletedProcess[str]) -> str:
    """The one line that a failed command says."""
    lines = [line for line in run.stderr.splitlines() if line.startswith("gradients: ")]
    assert run.returncode == 1, run.stderr
    assert len(lines) == 1, run.stderr
    assert "Traceback" not in run.stderr
    return lines[0].removeprefix("gradients: ")


def error_of(run: subprocess.CompletedProcess[str]) -> Mapping[str, str | None]:
    """The one JSON object that a failed command with --json prints last."""
    assert run.returncode != 0
    last: Mapping[str, Mapping[str, str | None]] = json.loads(run.stdout.splitlines()[-1])
    assert set(last) == {"error"}
    assert set(last["error"]) == {"code", "blame", "message", "fix"}
    return last["error"]


@dataclass(frozen=True)
class Market:
    """A chain and a validator that run."""

    home: Path
    chain_url: str
    axon_port: int
    api_port: int

    def task(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return gradients(self.home, "task", *arguments, GRADIENTS_API_URL=f"http://127.0.0.1:{self.api_port}")

    def submit(self, dataset: Path, *arguments: str, base: str = "nano-lm") -> subprocess.CompletedProcess[str]:
        spec = ("--type", "instruct", "--base", base, "--dataset", str(dataset), "--hours", "0.1")
        return self.task("submit", *spec, "--json", *arguments)

    def outcome(self, dataset: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """What a customer sees who posts a task and waits for it."""
        posted = self.submit(dataset, *arguments)
        assert posted.returncode == 0, posted.stderr
        return self.task("watch", json.loads(posted.stdout)["id"], "--json")


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    home = tmp_path_factory.mktemp("home")
    with chain_process(home / "chain", "--block-seconds=0.25") as chain:
        address = open_wallet("//Validator", "//Validator//hot").coldkey.ss58_address
        asyncio.run(_fund(chain.url, address))
        registered = gradients(home, "register", *VALIDATOR, "-n", chain.url, "--yes")
        assert registered.returncode == 0, registered.stderr
        made = Market(home, chain.url, free_ports(HOST, 1)[0], free_ports("127.0.0.1", 1)[0])
        with validator_running(made):
            yield made


@contextmanager
def validator_running(market: Market) -> Iterator[None]:
    ports = (f"--axon-host={HOST}", f"--axon-port={market.axon_port}", f"--api-port={market.api_port}")
    arguments = command("validator", "run", *VALIDATOR, "-n", market.chain_url, *ports, "--log-style=json")
    log = market.home / "validator.log"
    with log.open("w") as output:
        process = subprocess.Popen(arguments, env=environment(market.home), stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 600
        while "validator_ready" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == 0, log.read_text()


def rows(folder: Path, count: int) -> Path:
    file = folder / "rows.jsonl"
    lines = [
        {"instruction": f"Say the number {n} in words that nobody else uses", "output": f"It is {n}"}
        for n in range(count)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


@pytest.mark.parametrize(
    "arguments",
    [("miner", "run"), ("validator", "run"), ("register", "--yes")],
    ids=" ".join,
)
def test_a_wallet_that_is_not_there_is_named_with_the_command_that_makes_it(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    said = complaint(gradients(tmp_path, *arguments, "-w", "mine", "-H", "hot", *NO_CHAIN))
    assert said.startswith(f"There is no wallet file {tmp_path}/.bittensor/wallets/mine/")
    assert "btcli wallet create -w mine -H hot" in said


@pytest.mark.parametrize(
    "arguments",
    [("validator", "run"), ("miner", "run"), ("register", "--json")],
    ids=" ".join,
)
def test_a_chain_that_is_down_is_said_in_time(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    run = gradients(tmp_path, *arguments, *NOBODY, *NO_CHAIN, GRADIENTS_CHAIN__START_SECONDS="0.5")
    assert complaint(run) == "The chain did not answer in 0.5 s. Check --network, and that its node runs"
    if "--json" in arguments:
        assert error_of(run)["code"] == "chain_unreachable"


def test_doctor_finds_what_is_missing_and_fails(tmp_path: Path, market: Market) -> None:
    run = gradients(tmp_path, "doctor", "-n", market.chain_url, "--json")
    found = {finding["name"]: finding for finding in json.loads(run.stdout)}
    assert run.returncode == 1
    assert (found["wallet"]["level"], found["chain"]["level"]) == ("missing", "ok")
    assert "btcli wallet create" in found["wallet"]["advice"]
    fine = gradients(tmp_path, "doctor", *VALIDATOR, "-n", market.chain_url)
    assert (fine.returncode, "MISSING" in fine.stdout) == (0, False)


def test_a_doctor_knows_the_running_daemons_ports_from_a_strangers(tmp_path: Path, market: Market) -> None:
    ports = (f"--axon-host={HOST}", f"--axon-port={market.axon_port}", f"--api-port={market.api_port}")
    known = ("validator", "doctor", *VALIDATOR, "-n", market.chain_url, *ports, "--json")
    running = {each["name"]: each for each in json.loads(gradients(market.home, *known).stdout)}
    assert [running[name]["level"] for name in ("axon", "api", "address", "ledger", "registered")] == ["ok"] * 5
    assert "the running daemon answers" in running["axon"]["found"]
    stranger = gradients(tmp_path, *known)
    found = {each["name"]: each for each in json.loads(stranger.stdout)}
    assert (stranger.returncode, found["axon"]["level"], found["api"]["level"]) == (1, "missing", "missing")


def test_a_hotkey_that_is_not_registered_is_told_to_register(tmp_path: Path, market: Market) -> None:
    said = complaint(gradients(tmp_path, "miner", "run", *NOBODY, "-n", market.chain_url))
    assert said.endswith("is not registered on subnet 1. Run `gradients register` first")


@pytest.mark.parametrize(
    ("daemon", "what", "host"),
    [("miner", "axon", HOST), ("validator", "axon", HOST), ("validator", "api", "127.0.0.1")],
)
def test_a_port_in_use_is_named(tmp_path: Path, market: Market, daemon: str, what: str, host: str) -> None:
    taken = {"axon": market.axon_port, "api": market.api_port}[what]
    places = {"axon": ("127.0.0.3", 0), "api": ("127.0.0.3", 0), what: (host, taken)}
    served = places if daemon == "validator" else {"axon": places["axon"]}
    flags = [
        f"--{part}-{name}={value}"
        for part, place in served.items()
        for name, value in zip(("host", "port"), place, strict=True)
    ]
    said = complaint(gradients(tmp_path, daemon, "run", *VALIDATOR, "-n", market.chain_url, *flags))
    assert said.startswith(f"Port {taken} of {host} cannot be used: Address already in use")
    assert said.endswith("choose another port")


def test_an_axon_on_every_interface_needs_the_public_address(tmp_path: Path, market: Market) -> None:
    said = complaint(gradients(tmp_path, "miner", "run", *VALIDATOR, "-n", market.chain_url, "--axon-port=0"))
    assert said == "0.0.0.0 is not an address that others can call. Give this machine's public one: --external-ip"


def test_a_folder_that_another_validator_holds_is_named(market: Market) -> None:
    said = complaint(gradients(market.home, "validator", "run", *VALIDATOR, "-n", market.chain_url))
    assert said.startswith(f"Another validator is at work in {market.home}/.gradients/validator")


def test_registering_again_costs_nothing(market: Market) -> None:
    run = gradients(market.home, "register", *VALIDATOR, "-n", market.chain_url, "--json")
    told = json.loads(run.stdout)
    assert (told["uid"], told["was_registered"], told["paid_tao"]) == (1, True, 0.0)
    said = gradients(market.home, "register", *VALIDATOR, "-n", market.chain_url).stdout
    assert "was registered already, and nothing was paid: it has uid 1 on " in said


def test_an_empty_purse_names_price_and_address(market: Market) -> None:
    run = gradients(market.home, "register", *NOBODY, "-n", market.chain_url, "--json")
    address = open_wallet("//Nobody", "//Nobody//hot").coldkey.ss58_address
    assert f"and {address} has 0" in str(error_of(run)["message"])


def test_an_unknown_base_is_named_with_what_there_is(market: Market, tmp_path: Path) -> None:
    error = error_of(market.submit(rows(tmp_path, 80), base="nano-llm"))
    assert (error["code"], error["message"]) == ("model_unknown", "There is no base model 'nano-llm'")
    assert "nano-lm" in str(error["fix"])


def test_an_unknown_type_is_named_with_what_there_is(market: Market, tmp_path: Path) -> None:
    error = error_of(market.submit(rows(tmp_path, 80), "--type", "knitting"))
    assert (error["code"], error["message"]) == ("task_invalid", "There is no task type 'knitting'")
    assert "instruct" in str(error["fix"])


def test_a_column_that_is_not_there_is_named_with_those_that_are(market: Market, tmp_path: Path) -> None:
    run = market.outcome(rows(tmp_path, 80), "--set", "columns.output=answer")
    assert error_of(run)["code"] == "column_missing"
    said = complaint(run)
    assert "has no column 'answer'" in said
    assert "It has: instruction, output; map them with --set" in said


def test_an_empty_data_set_is_said_to_be_empty(market: Market, tmp_path: Path) -> None:
    assert "has no rows. Give a data set with at least a few dozen rows" in complaint(market.outcome(rows(tmp_path, 0)))


def test_a_data_set_of_three_rows_is_said_to_be_too_small(market: Market, tmp_path: Path) -> None:
    run = market.outcome(rows(tmp_path, 3))
    assert error_of(run)["code"] == "too_few_rows"
    assert "There are 3 rows, and at least 64 are needed. Give a larger data set" in complaint(run)


def test_a_data_set_that_is_not_there_is_named(market: Market, tmp_path: Path) -> None:
    assert "There is no file or folder" in complaint(market.submit(tmp_path / "none.jsonl"))


def test_a_wrong_api_key_is_refused(market: Market) -> None:
    error = error_of(market.task("list", "--api-key", "gr_wrong", "--json"))
    assert error["code"] == "key_refused"


def test_a_task_that_nobody_posted_is_not_found(market: Market) -> None:
    assert error_of(market.task("show", "instruct-000000000000", "--json"))["code"] == "not_found"


def test_no_api_key_says_who_makes_one(tmp_path: Path) -> None:
    said = complaint(gradients(tmp_path, "task", "list"))
    assert said.startswith("There is no API key")
    assert "gradients validator key" in said


def test_an_api_that_is_down_is_named(tmp_path: Path) -> None:
    said = complaint(gradients(tmp_path, "task", "list", "--api-url", "http://127.0.0.1:1", "--api-key", "x"))
    assert said.startswith("The validator's API at http://127.0.0.1:1 does not answer")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("validator", "run", "-n", "mars"), "'mars' is not a network. Name finney, test"),
        (("miner", "run", "--config", "none.toml"), "There is no settings file none.toml"),
        (("miner", "run", "--recipe", "none.toml"), "none.toml cannot be read"),
        (("miner", "run", "--axon-port", "70000"), "axon.port: Input should be less than or equal to 65535"),
        (("miner", "run", "-w", "//Alice", "-n", "finney"), "//Alice is a development key"),
        (("validator", "run", "-w", "//Alice", "-n", "test"), "//Alice is a development key"),
        (("register", "-w", "//Alice", "-n", "wss://chain.example", "--yes"), "//Alice is a development key"),
        (("miner", "run", "-n", "finney", "--config", "paths.toml"), "others can ask what lies on this machine"),
        (("validator", "run", "-n", "finney", "--config", "paths.toml"), "others can ask what lies on this machine"),
        (("localnet", "--types", "knitting"), "Unknown task types: knitting. Choose from"),
        (("task", "submit", "--set", "columns.output", "--api-key", "x"), "--set columns.output has no value"),
    ],
    ids=lambda each: " ".join(each[:3]) if isinstance(each, tuple) else "",
)
def test_a_bad_setting_is_named(tmp_path: Path, arguments: tuple[str, ...], named: str) -> None:
    (tmp_path / "paths.toml").write_text("allow_local_paths = true\n")
    here = [str(tmp_path / word) if word == "paths.toml" else word for word in arguments]
    assert named in complaint(gradients(tmp_path, *here))


@pytest.mark.parametrize(
    ("name", "text", "arguments", "said"),
    [
        ("task.json", "[1]", (), "does not hold a task. Write one object"),
        ("task.json", '"text"', (), "does not hold a task. Write one object"),
        ("task.json", '{"parameters": 3}', ("--set", "a=1"), "`parameters` in {file} is not a table"),
        ("task.json", "{", (), "{file} is not valid JSON"),
        ("task.json", "[" * 10**5, (), "{file} is not valid JSON"),
        ("task.toml", "hours = ", (), "{file} is not valid TOML"),
        ("task.toml", "dataset = 2026-01-01", (), "a value that JSON cannot express"),
        ("task.toml", "hours = nan", (), "a value that JSON cannot express"),
        ("task.json", "{}", ("--hours", "nan"), "a value that JSON cannot express"),
    ],
)
def test_a_task_file_that_is_none_is_named(
    tmp_path: Path, name: str, text: str, arguments: tuple[str, ...], said: str
) -> None:
    file = tmp_path / name
    file.write_text(text)
    run = gradients(tmp_path, "task", "submit", "--spec", str(file), *arguments, "--api-key", "x", "--json")
    assert said.format(file=file) in complaint(run)
    assert error_of(run)["code"] == "task_invalid"


def test_an_unknown_option_is_usage_and_one_json_object(tmp_path: Path) -> None:
    run = gradients(tmp_path, "task", "list", "--jsno", "--json")
    assert (run.returncode, error_of(run)["code"]) == (2, "usage")
    assert "No such option: --jsno" in run.stderr


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    said = complaint(gradients(tmp_path, "miner", "run", *NOBODY, *NO_CHAIN, "--folder", str(tmp_path / "file" / "x")))
    assert said.startswith(f"The folder {tmp_path}/file/x cannot be used: Not a directory")


def test_a_validator_on_a_full_disk_says_so(tmp_path: Path) -> None:
    run = gradients(tmp_path, "validator", "run", *NOBODY, *NO_CHAIN, largest_file=4096)
    said = complaint(run)
    assert said.startswith(
        f"The ledger at sqlite:///{tmp_path}/.gradients/validator/ledger.db cannot be opened: disk I/O error"
    )
    assert said.endswith("and the room on its disk")


def test_a_download_on_a_full_disk_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    with model_server({"adapter_config.json": b"{}", "adapter_model.safetensors": b"w" * 100_000}) as url:
        arguments = ("task", "download", "instruct-000000000001", "--api-url", url, "--api-key", "x")
        said = complaint(gradients(tmp_path, *arguments, largest_file=50_000))
        assert "There is no room for" in said
        assert list((tmp_path / ".gradients" / "models").iterdir()) == []
        assert gradients(tmp_path, *arguments).returncode == 0
    (folder,) = (tmp_path / ".gradients" / "models").iterdir()
    assert sorted(file.name for file in folder.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "base",  # which no hub has
        "task.json",
    ]


@pytest.mark.parametrize(
    ("files", "damage", "named"),
    [({"model.safetensors": b"w" * 100}, b"!", "arrived damaged"), ({"../evil": b"x"}, b"", "which no model has")],
    ids=["damaged", "outside of the folder"],
)
def test_a_download_that_is_not_what_was_announced_leaves_nothing(
    tmp_path: Path, files: Mapping[str, bytes], damage: bytes, named: str
) -> None:
    with model_server(files, damage=damage) as url:
        arguments = ("task", "download", "instruct-000000000001", "--api-url", url, "--api-key", "x")
        assert named in complaint(gradients(tmp_path, *arguments))
    assert list((tmp_path / ".gradients" / "models").iterdir()) == []


@contextmanager
def model_server(files: Mapping[str, bytes], *, damage: bytes = b"") -> Iterator[str]:
    """A validator's API that knows one scored task with one model."""
    task = answers.task(answers.miner())
    listing = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
        for name, content in files.items()
    }

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            told = {"best": {"hotkey": "5Miner", "files": listing}, task.id: task.model_dump(mode="json")}
            body = json.dumps(told[name]).encode() if name in told else files.get(name, b"") + damage
            self.send_response(200)
            self.send_header("Content-Type", "application/json" if name in told else "application/octet-stream")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (http.server's own name)
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


async def _fund(url: str, address: str) -> None:
    async with operating(url) as operator:
        await operator.fund(address, 10**12)
