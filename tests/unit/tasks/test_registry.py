"""What a machine needs for each task type."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gradients.tasks.registry import TYPES, missing_packages


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
