"""Where the sandbox does not work: a public network is refused, the switch starts it, and everybody is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from gradients.domain.json import Json
from gradients.errors import Blame, GradientsError, SetupError
from gradients.sandbox.mending import mend
from gradients.sandbox.trial import program_refusal, worker_refusal
from gradients.testing.sandboxes import reason_to_skip
from validator.confinement import confinement
from validator.settings import ValidatorSettings
from validator.wiring import build

NO_SANDBOX = reason_to_skip()
REFUSING = "#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n"


@pytest.fixture
def no_bubblewrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bwrap").write_text(REFUSING)
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.skipif(bool(NO_SANDBOX), reason=NO_SANDBOX or "there is one")
def test_where_it_works_workers_are_sandboxed_on_every_network() -> None:
    assert (worker_refusal(), program_refusal()) == (None, None)
    assert confinement("on", is_local=False).sandboxed
    assert confinement("on", is_local=True).sandboxed


@pytest.mark.usefixtures("no_bubblewrap")
def test_without_bubblewrap_a_public_network_is_refused_with_the_reason_and_the_mend() -> None:
    with pytest.raises(SetupError, match="bubblewrap is not installed") as refusal:
        confinement("on", is_local=False)
    assert (refusal.value.code, refusal.value.blame) == ("sandbox_missing", Blame.OPERATOR)
    assert "apt-get install bubblewrap" in str(refusal.value.fix)
    assert 'sandbox = "off"' in str(refusal.value.fix)


@pytest.mark.usefixtures("refused")
def test_where_bubblewrap_may_not_work_a_public_network_is_refused_too() -> None:
    with pytest.raises(SetupError, match="No permissions to create new namespace") as refusal:
        confinement("on", is_local=False)
    assert refusal.value.code == "sandbox_refused"


@pytest.mark.usefixtures("no_bubblewrap")
def test_a_network_of_one_machine_runs_without_and_says_so() -> None:
    found = confinement("on", is_local=True)
    assert not found.sandboxed
    assert "bubblewrap is not installed" in found.why_not


@pytest.mark.usefixtures("no_bubblewrap")
def test_the_switch_starts_it_anywhere_and_says_so() -> None:
    found = confinement("off", is_local=False)
    assert not found.sandboxed
    assert "switched off" in found.why_not


@pytest.mark.usefixtures("no_bubblewrap")
def test_a_validator_of_a_public_network_is_not_even_put_together_without_it(tmp_path: Path) -> None:
    settings = ValidatorSettings.load(
        None, {"folder": str(tmp_path / "validator"), "chain": {"network": "finney"}, "wallet": {"name": "real"}}
    )
    with pytest.raises(SetupError, match="without a sandbox"):
        build(settings)
    assert not (tmp_path / "validator").exists()


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("sys/kernel/unprivileged_userns_clone", "0\n", "kernel.unprivileged_userns_clone=1"),
        ("sys/user/max_user_namespaces", "0\n", "user.max_user_namespaces"),
        ("sys/kernel/apparmor_restrict_unprivileged_userns", "1\n", "AppArmor"),
        ("self/status", "Name:\tx\nSeccomp:\t2\n", "docker/seccomp.json"),
        ("self/status", "Name:\tx\nSeccomp:\t0\n", "gradients/sandbox/README.md"),
    ],
)
def test_the_mend_goes_by_what_the_kernel_says(tmp_path: Path, file: str, content: str, said: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(content)
    assert said in mend("No permissions to create new namespace", proc=tmp_path)


def test_a_proc_that_cannot_be_mounted_has_a_mend_of_its_own(tmp_path: Path) -> None:
    assert "systempaths=unconfined" in mend("Can't mount proc on /newroot/proc: Operation not permitted", proc=tmp_path)


@pytest.mark.usefixtures("no_bubblewrap")
def test_whoever_asks_a_validator_without_a_sandbox_is_told(tmp_path: Path) -> None:
    flags: dict[str, Json] = {
        "folder": str(tmp_path / "validator"),
        "sandbox": "off",
        "chain": {"network": "ws://127.0.0.1:1"},
        "wallet": {"name": "//Alice", "hotkey": "//Alice"},
    }
    daemon = build(ValidatorSettings.load(None, flags))
    answer = TestClient(daemon.api_app).get("/readyz").json()
    assert "switched off" in answer["notes"][0]
    with pytest.raises(GradientsError):  # there is no chain; its start is told before that
        asyncio.run(daemon.run(asyncio.Event()))
    assert "\ngradients_sandboxed 0.0\n" in TestClient(daemon.api_app).get("/metrics").text
