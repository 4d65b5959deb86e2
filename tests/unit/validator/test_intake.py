"""From a spec to a task, its secrets, its settings and its keys."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradients.bases.bases import BaseModels
from gradients.clock import SystemClock
from gradients.domain.json import Json
from gradients.domain.seeds import seed
from gradients.domain.task import TaskState
from gradients.errors import ModelUnknown, OutsideError, SetupError, TaskInvalid
from gradients.testing.loopback_hub import loopback_hub
from gradients.testing.tiny_models import write_tiny_llama
from tests.unit.validator.market import NOWHERE, claimed, tiny_bases
from validator.ledger import Ledger
from validator.ledger.customers import keep_local_key
from validator.settings import ValidatorSettings
from validator.specs.intake import Intake
from validator.wiring import build


@pytest.fixture
def bases(tmp_path: Path) -> BaseModels:
    return tiny_bases(tmp_path)


def _spec(**changes: Json) -> dict[str, Json]:
    return {"type": "instruct", "base": "tiny", "dataset": "hub:acme/rows", "hours": 1, **changes}


def test_a_spec_becomes_a_draft_in_its_normal_form_and_somebody_is_told(ledger: Ledger, bases: BaseModels) -> None:
    told: list[str] = []
    task = Intake(ledger, bases, NOWHERE, lambda: told.append("now")).submit(_spec(), customer="acme")
    assert ledger.tasks.find(task.id) == task
    assert (task.state, task.request.hours, ledger.tasks.customer_of(task.id)) == (TaskState.DRAFT, 1.0, "acme")
    assert task.request.dataset == {"kind": "hub", "repo": "acme/rows", "revision": "main", "split": "train"}
    assert told == ["now"]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"hours": -1}, TaskInvalid),
        ({"base": "no-such-model"}, ModelUnknown),
        ({"base": "../tiny"}, ModelUnknown),
        ({"type": "diffusion"}, TaskInvalid),  # on a base that writes
    ],
)
def test_a_spec_that_cannot_be_run_leaves_no_task(
    ledger: Ledger, bases: BaseModels, changes: dict[str, Json], error: type[Exception]
) -> None:
    with pytest.raises(error):
        Intake(ledger, bases, NOWHERE, lambda: None).submit(_spec(**changes), customer="acme")
    assert ledger.tasks.count() == 0


def test_a_base_of_a_hub_is_looked_up_and_not_fetched(
    ledger: Ledger, bases: BaseModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_llama(tmp_path / "hub" / "models" / "org" / "tiny")
    intake = Intake(ledger, bases, NOWHERE, lambda: None)
    with loopback_hub(tmp_path / "hub") as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        intake.submit(_spec(base="org/tiny"), customer="acme")
        with pytest.raises(ModelUnknown):
            intake.submit(_spec(base="org/none"), customer="acme")
        with pytest.raises(TaskInvalid, match="org/tiny is not an image model"):
            intake.submit(_spec(base="org/tiny", type="diffusion"), customer="acme")
    with pytest.raises(OutsideError, match="does not answer"):
        intake.submit(_spec(base="org/tiny"), customer="acme")
    assert ledger.tasks.count() == 1
    assert not bases.is_here("org/tiny")


def test_every_task_has_a_salt_of_its_own(ledger: Ledger, bases: BaseModels) -> None:
    intake = Intake(ledger, bases, NOWHERE, lambda: None)
    for _ in range(3):
        intake.submit(_spec(), customer="acme")
    salts = [claimed(ledger, TaskState.DRAFT).salt for _ in range(3)]
    assert {len(salt) for salt in salts} == {32}
    assert len(set(salts)) == 3


def test_with_a_seed_the_nth_task_has_the_same_salt_in_every_run(tmp_path: Path, bases: BaseModels) -> None:
    runs = [_salts_of_a_run(tmp_path / name, bases, number) for name, number in (("a", 7), ("b", 7), ("c", 8))]
    assert runs[0] == runs[1] != runs[2]
    assert len(set(runs[0])) == 2


def _salts_of_a_run(folder: Path, bases: BaseModels, number: int) -> list[bytes]:
    ledger = Ledger.open(f"sqlite:///{folder}/ledger.db", SystemClock())
    intake = Intake(ledger, bases, NOWHERE, lambda: None, seed=number)
    for _ in range(2):
        intake.submit(_spec(), customer="acme")
    salts = [claimed(ledger, TaskState.DRAFT).salt for _ in range(2)]
    ledger.engine.dispose()
    return salts


def test_a_seed_is_refused_on_a_network_that_is_not_local(tmp_path: Path) -> None:
    settings = ValidatorSettings.load(None, {"folder": str(tmp_path), "seed": 7, "chain": {"network": "finney"}})
    with pytest.raises(SetupError, match="predictable"):
        build(settings)


PURPOSES = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")), min_size=1, max_size=3
).map(tuple)


@given(salt=st.binary(min_size=32, max_size=32), one=PURPOSES, other=PURPOSES)
def test_a_seed_is_of_one_purpose_and_one_salt(salt: bytes, one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert 0 <= seed(salt, *one) < 2**63
    assert (seed(salt, *one) == seed(salt, *other)) == (one == other)
    assert seed(salt, *one) != seed(salt + b"x", *one)


def test_settings_say_which_field_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "validator.toml"
    file.write_text("[offer]\ntries = 13\n")
    with pytest.raises(SetupError, match=r"offer\.tries: .*12"):
        ValidatorSettings.load(file, {})
    file.write_text("[offers]\ntries = 3\n")
    with pytest.raises(SetupError, match="offers"):
        ValidatorSettings.load(file, {})


def test_the_ledger_lies_in_the_folder_unless_a_url_is_given(tmp_path: Path) -> None:
    assert ValidatorSettings(folder=tmp_path).resolved_ledger_url() == f"sqlite:///{tmp_path}/ledger.db"
    other = ValidatorSettings(folder=tmp_path, ledger_url="postgresql://host/db")
    assert other.resolved_ledger_url() == "postgresql://host/db"


def test_the_machines_own_key_is_made_once_and_only_its_owner_reads_it(ledger: Ledger, tmp_path: Path) -> None:
    file = tmp_path / "not made yet" / "api.key"
    keep_local_key(ledger.customers, file)
    key = file.read_text()
    assert ledger.customers.of_key(key) == "local"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    keep_local_key(ledger.customers, file)
    assert file.read_text() == key


@pytest.mark.parametrize("before", ["", "gr_of another ledger"])
def test_a_key_that_opens_nothing_is_made_anew(ledger: Ledger, tmp_path: Path, before: str) -> None:
    file = tmp_path / "api.key"
    file.write_text(before)
    keep_local_key(ledger.customers, file)
    assert ledger.customers.of_key(file.read_text()) == "local"
