"""What the market on one machine posts."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradients.errors import TaskInvalid
from gradients.localnet.demo import spec
from gradients.tasks.registry import TYPES, task_type, validate_request


@pytest.mark.parametrize("name", TYPES)
def test_every_task_type_has_a_demonstration_on_data_that_ships(name: str) -> None:
    demonstrations = task_type(name).demonstrations
    assert demonstrations
    for number in range(len(demonstrations)):
        asked = validate_request(spec(name, number=number, hours=0.02, base=None))
        assert (asked.type, asked.hours) == (name, 0.02)
        assert Path(str(asked.dataset["path"])).is_file()


def test_a_person_and_a_style_take_turns() -> None:
    specs = [spec("diffusion", number=number, hours=1.0, base=None) for number in range(3)]
    subjects = [validate_request(each).parameters["subject"] for each in specs]
    assert subjects == ["person", "style", "person"]


def test_another_base_is_for_language_models_only() -> None:
    assert spec("chat", number=0, hours=1.0, base="smollm2")["base"] == "smollm2"
    assert spec("diffusion", number=0, hours=1.0, base="smollm2")["base"] == "nano-image"


def test_a_type_that_nobody_knows_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(TaskInvalid, match="instruct"):
        spec("song", number=0, hours=1.0, base=None)
