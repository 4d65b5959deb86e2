"""What a machine needs for each task type."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gradients.domain.json import Json
from gradients.errors import TaskInvalid
from gradients.tasks.registry import TYPES, missing_packages, validate_request


@pytest.mark.parametrize("name", TYPES)
def test_nothing_is_missing_where_everything_is_installed(name: str) -> None:
    assert missing_packages(name) == ()


def test_of_a_type_that_nobody_knows_nothing_is_missing() -> None:
    assert missing_packages("song") == ()


def test_what_is_not_installed_is_named_by_the_types_that_need_it() -> None:
    """Without the folder of packages Python finds none of them."""
    program = (
        "import sys; from gradients.tasks.registry import missing_packages as m; m('diffusion'), m('instruct');"
        "sys.path[:] = [p for p in sys.path if 'site-packages' not in p]; sys.path_importer_cache.clear();"
        "print(m('instruct'), m('diffusion')[-2:])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "('torch', 'transformers', 'peft', 'safetensors') ('diffusers', 'PIL')"


def test_a_mistake_inside_of_a_list_is_told_once_and_not_as_a_list_that_is_too_short() -> None:
    wish: dict[str, Json] = {
        "type": "grpo",
        "base": "nano-lm",
        "dataset": "rows.jsonl",
        "hours": 1,
        "parameters": {"rewards": [{"kind": "function", "source": "def reward(:"}]},
    }
    with pytest.raises(TaskInvalid, match="it is not Python") as refused:
        validate_request(wish)
    assert "at least 1 item" not in str(refused.value)
