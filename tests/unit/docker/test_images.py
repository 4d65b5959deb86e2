"""What can be known of the images without building them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml  # type: ignore[import-untyped]

from gradients.axon.server import OPEN_PATHS
from miner.settings import MinerSettings
from validator.settings import ValidatorSettings

ROOT = Path(__file__).parents[3]
FILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
COMPOSE = yaml.safe_load((ROOT / "docker" / "compose.yml").read_text(encoding="utf-8"))
SERVED: dict[str, dict[int, frozenset[str]]] = {
    "miner": {MinerSettings().axon.port: OPEN_PATHS},
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
    assert all(re.fullmatch(r"python:3\.11\.\d+-slim-[a-z]+", base) for base in bases)


@images
def test_what_is_copied_exists_and_is_sent_to_the_builder(file: Path) -> None:
    sent = set(re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), flags=re.MULTILINE))
    copied = [step.text.split()[:-1] for step in steps(file) if step.name == "COPY" and "--from" not in step.text]
    sources = {source for each in copied for source in each}
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
    assert f"--uid {user}" in file.read_text(encoding="utf-8")


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
        timeout=60,
    )
    assert (run.returncode, run.stderr.startswith("gradients: There is no settings file")) == (1, True), run.stderr


@images
def test_the_health_check_asks_for_what_is_served(file: Path) -> None:
    found = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", last(file, "HEALTHCHECK"))
    assert found is not None
    port, path = int(found[1]), found[2]
    assert path in SERVED[file.stem][port]
    assert sorted(SERVED[file.stem]) == [int(each) for each in last(file, "EXPOSE").split()]


def test_compose_builds_every_image_and_gives_it_a_gpu_and_a_volume() -> None:
    assert set(COMPOSE["services"]) == {file.stem for file in FILES}
    for name, service in COMPOSE["services"].items():
        assert service["build"] == {"context": "..", "dockerfile": f"docker/{name}.Dockerfile"}
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device["capabilities"] == ["gpu"]
        assert service["volumes"][0] == f"{name}:{last(ROOT / 'docker' / f'{name}.Dockerfile', 'VOLUME')}"
        assert name in COMPOSE["volumes"]


def test_compose_takes_away_what_a_daemon_does_not_need() -> None:
    for service in COMPOSE["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert service["volumes"][1].endswith("/.bittensor/wallets:ro")


def test_compose_keeps_the_api_on_the_machine() -> None:
    assert COMPOSE["services"]["validator"]["ports"] == ["8091:8091", "127.0.0.1:8090:8090"]
    assert COMPOSE["services"]["miner"]["ports"] == ["8091:8091"]


def test_compose_sets_variables_that_settings_know() -> None:
    for service in COMPOSE["services"].values():
        for name in service["environment"]:
            if name.startswith("GRADIENTS_"):
                section, field = name.removeprefix("GRADIENTS_").lower().split("__")
                assert field in type(getattr(MinerSettings(), section)).model_fields
            else:
                assert name in ("BT_NETWORK", "BT_NETUID", "BT_WALLET", "BT_WALLET_HOTKEY")


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
    for service in COMPOSE["services"].values():
        options = set(service["security_opt"])
        assert {"seccomp=./seccomp.json", "systempaths=unconfined", "apparmor=unconfined"} <= options
        assert "no-new-privileges:true" in options
        assert service["cap_drop"] == ["ALL"]
