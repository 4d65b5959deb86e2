"""The files that start nodes elsewhere: readable, complete, and without a secret in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

FLEET = Path(__file__).parents[3] / "configs" / "fleet"
FILES = sorted(FLEET.glob("*.yaml"))


def read(file: Path) -> Any:  # noqa: ANN401 (YAML)
    return yaml.safe_load(file.read_text())


def test_rays_own_schema_takes_the_cluster_file() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(read(FLEET / "ray-cluster.yaml"))
    validate_config(config)
    assert config["provider"]["worker_ips"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_nodes_are_looked_at_before_they_start_and_have_a_token(file: Path) -> None:
    text = file.read_text()
    if "ray start" in text:
        assert "gradients worker doctor" in text
        assert re.search(r"RAY_AUTH_MODE[=:] ?token", text)
        assert text.count("ray start") == text.count("--disable-usage-stats")
    assert not re.search(r"[0-9a-f]{32}", text), "a secret?"
    assert file.name in (FLEET / "README.md").read_text()
    assert isinstance(read(file), dict)
