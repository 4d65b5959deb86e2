"""What a spec may name, where paths of the validator's machine are allowed and where not. The rest is tried over HTTP in tests/e2e."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradients.domain.json import Json
from gradients.errors import TaskInvalid
from gradients.localnet.plan import Options, plan_market, write_settings
from miner.settings import MinerSettings
from validator.api.uploads import Uploads
from validator.settings import ValidatorSettings

SPEC: dict[str, Json] = {"type": "instruct", "base": "tiny", "dataset": "/data/rows.jsonl", "hours": 1}


def test_paths_are_for_networks_whose_operator_says_so(tmp_path: Path) -> None:
    with pytest.raises(TaskInvalid, match="cannot name files"):
        Uploads(tmp_path, 10).resolve(SPEC)
    assert Uploads(tmp_path, 10, allow_local_paths=True).resolve(SPEC) == SPEC


def test_paths_are_refused_by_default_and_allowed_in_the_market_on_one_machine(tmp_path: Path) -> None:
    assert not ValidatorSettings(folder=tmp_path).allow_local_paths
    assert not MinerSettings(folder=tmp_path).allow_local_paths
    options = Options(
        tmp_path, ("instruct",), tasks=1, miners=1, seed=0, hours=0.1, block_seconds=1, tempo_blocks=20, base=None
    )
    plan = plan_market(options)
    write_settings(plan)
    assert ValidatorSettings.load(plan.validator.settings_file, {}).allow_local_paths
    assert MinerSettings.load(plan.miners[0].settings_file, {}).allow_local_paths
