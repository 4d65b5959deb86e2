"""What every task type must keep, whichever it is: names that resolve, light declarations, schemas that refuse the unknown."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest
from pydantic import ValidationError

from gradients.axon.messages import Offer
from gradients.execution.functions import resolve
from gradients.scoring.rules import CHANCE
from gradients.tasks.registry import TYPES, task_type

HEAVY = ("torch", "transformers", "diffusers", "peft", "datasets", "numpy", "pyarrow")


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("part", ["measure", "train", "generate"])
def test_the_worker_functions_exist_and_take_arguments_and_a_report(name: str, part: str) -> None:
    function = resolve(getattr(task_type(name), part))
    assert list(inspect.signature(function).parameters) == ["arguments", "report"]


@pytest.mark.parametrize("name", [name for name in TYPES if task_type(name).trial])
def test_the_worker_function_that_tries_a_base_exists(name: str) -> None:
    function = resolve(task_type(name).trial or "")
    assert list(inspect.signature(function).parameters) == ["arguments", "report"]


def test_every_type_that_fine_tunes_language_models_tries_them_first() -> None:
    assert all(task_type(name).trial for name in TYPES if task_type(name).base_family == "language")


@pytest.mark.parametrize("name", TYPES)
def test_a_type_is_declared_under_its_own_name_which_task_ids_begin_with(name: str) -> None:
    assert task_type(name).name == name
    offer = {"task_id": f"{name}-0123456789ab", "type": name, "base": "b", "base_digest": "0" * 64}
    Offer.model_validate({**offer, "base_parameters": 1, "train_rows": 1, "hours": 1})


@pytest.mark.parametrize("name", TYPES)
def test_a_type_is_paid_what_it_declares_unless_old_rules_say_otherwise(name: str) -> None:
    """A version of the rules keeps what types declared in its day; a declared share that changes needs a new version."""
    declared = task_type(name).schedule_share
    assert 0 < declared < 1
    assert CHANCE.type_shares.get(name, declared) == declared


@pytest.mark.parametrize("name", TYPES)
def test_a_type_is_demonstrated_and_may_be_scheduled(name: str) -> None:
    assert task_type(name).demonstrations
    assert 0 <= task_type(name).schedule_share <= 1


@pytest.mark.parametrize("name", TYPES)
def test_a_schema_refuses_unknown_keys_and_describes_every_field(name: str) -> None:
    schema = task_type(name).schema
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        schema.model_validate({"surprise": 1})
    assert [field for field, about in schema.model_fields.items() if not about.description] == []


def test_declaring_all_types_imports_nothing_heavy() -> None:
    """The control plane reads every declaration; torch and its kin belong to the workers."""
    program = (
        "import sys; from gradients.tasks.registry import TYPES, task_type; [task_type(name) for name in TYPES]; "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
