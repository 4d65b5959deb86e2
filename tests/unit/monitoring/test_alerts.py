"""Each alert fires on what it is for, and is quiet on what is right, as Prometheus' own tool evaluates it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

FILES = Path(__file__).parents[3] / "configs" / "monitoring"
RULES: list[dict[str, Any]] = [  # Any: YAML
    rule
    for group in yaml.safe_load((FILES / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
PROMTOOL = shutil.which("promtool")
pytestmark = pytest.mark.skipif(PROMTOOL is None and not os.environ.get("CI"), reason="scripts/services start")
AT = 'job="gradients-validator", instance="box"'


@dataclass(frozen=True)
class Case:
    """Series of minutes in promtool's notation ("0+1x60" grows by 1 sixty times), and the minute in which the alert is looked at."""

    alert: str
    fires: dict[str, str]
    quiet: dict[str, str]
    minute: int = 60


CASES = [
    Case("DaemonDown", {f"up{{{AT}}}": "1x50 0x10"}, {f"up{{{AT}}}": "1x59 0x1"}),
    Case(
        "ConditionBroken",
        {f'gradients_condition_ok{{{AT}, condition="permit"}}': "1x50 0x10"},
        {f'gradients_condition_ok{{{AT}, condition="permit"}}': "1x60"},
    ),
    Case(
        "ChainSilent",
        {f"gradients_chain_head_age_seconds{{{AT}}}": "5x50 180+60x10"},
        {
            f"gradients_chain_head_age_seconds{{{AT}}}": "12x60",
            f"gradients_chain_metagraph_age_seconds{{{AT}}}": "30x60",
        },
    ),
    Case(
        "DiskNearlyFull",
        {f"gradients_disk_free_bytes{{{AT}}}": "9x60", f"gradients_disk_size_bytes{{{AT}}}": "100x60"},
        {f"gradients_disk_free_bytes{{{AT}}}": "11x60", f"gradients_disk_size_bytes{{{AT}}}": "100x60"},
    ),
    Case(
        "GpuHot",
        {f'gradients_gpu_temperature_celsius{{{AT}, gpu="0"}}': "93x60"},
        {f'gradients_gpu_temperature_celsius{{{AT}, gpu="0"}}': "83x57 93x3"},
    ),
    Case(
        "WeightsOld",
        {f"gradients_weights_age_blocks{{{AT}}}": "2600x60", f"gradients_weights_cutoff_blocks{{{AT}}}": "5000x60"},
        {f"gradients_weights_age_blocks{{{AT}}}": "2400x60", f"gradients_weights_cutoff_blocks{{{AT}}}": "5000x60"},
    ),
    Case(
        "TaskStuck",
        {f'gradients_task_oldest_seconds{{{AT}, state="draft"}}': "20000+60x60"},
        {f'gradients_task_oldest_seconds{{{AT}, state="assigned"}}': "90000+60x60"},
    ),
    Case(
        "TasksWaitForWorkers",
        {f'gradients_tasks_due{{{AT}, state="collected"}}': "0x40 2x20"},
        {f'gradients_tasks_due{{{AT}, state="collected"}}': "2x50 0x1 2x9"},
    ),
    Case(
        "StepsFail",
        {f'gradients_step_failures_total{{{AT}, state="collected", blame="operator"}}': "0x40 0+1x20"},
        {f'gradients_step_failures_total{{{AT}, state="open", blame="outside"}}': "0x40 0+1x20"},
    ),
    Case(
        "WorkerDied",
        {f"gradients_leases_lapsed{{{AT}}}": "0x50 1x10"},
        {f"gradients_leases_lapsed{{{AT}}}": "0x58 1x2"},
    ),
    Case(
        "MinersFailedByUs",
        {f'gradients_submission_failures_total{{{AT}, blame="operator"}}': "0x50 1x10"},
        {
            f'gradients_submission_failures_total{{{AT}, blame="operator"}}': "4x60",
            f'gradients_submission_failures_total{{{AT}, blame="miner"}}': "0+1x60",
        },
    ),
    Case(
        "ApiFails",
        {
            f'gradients_http_requests_total{{{AT}, server="api", route="/v1/tasks", status="200"}}': "0+90x60",
            f'gradients_http_requests_total{{{AT}, server="api", route="/v1/tasks", status="500"}}': "0+10x60",
        },
        {
            f'gradients_http_requests_total{{{AT}, server="api", route="/v1/tasks", status="200"}}': "0+100x60",
            f'gradients_http_requests_total{{{AT}, server="api", route="/readyz", status="503"}}': "0+100x60",
        },
    ),
    Case(
        "ApiSlow",
        {
            f'gradients_http_request_seconds_bucket{{{AT}, server="api", route="/v1/tasks", le="2.0"}}': "0+9x60",
            f'gradients_http_request_seconds_bucket{{{AT}, server="api", route="/v1/tasks", le="10.0"}}': "0+20x60",
            f'gradients_http_request_seconds_bucket{{{AT}, server="api", route="/v1/tasks", le="+Inf"}}': "0+20x60",
        },
        {
            f'gradients_http_request_seconds_bucket{{{AT}, server="api", route="/v1/tasks", le="2.0"}}': "0+20x60",
            f'gradients_http_request_seconds_bucket{{{AT}, server="api", route="/v1/tasks", le="+Inf"}}': "0+20x60",
            f'gradients_http_request_seconds_bucket{{{AT}, server="api", route="/v1/estimates", le="+Inf"}}': "0+900x60",
        },
    ),
    Case("SandboxOff", {f"gradients_sandboxed{{{AT}}}": "0x90"}, {f"gradients_sandboxed{{{AT}}}": "1x90"}, minute=80),
    Case(
        "MinerFails",
        {f'gradients_miner_failures_total{{{AT}, blame="operator"}}': "0x50 1 2x9"},
        {f'gradients_miner_failures_total{{{AT}, blame="outside"}}': "0x50 1 2x9"},
    ),
    Case(
        "MinerUnasked",
        {f'gradients_miner_offers_total{{{AT}, answer="accepted"}}': "7x1600"},
        {
            f'gradients_miner_offers_total{{{AT}, answer="accepted"}}': "7x1600",
            f'gradients_miner_offers_total{{{AT}, answer="declined"}}': "0x1400 1x200",
        },
        minute=1560,
    ),
]


def promtool(*arguments: str) -> None:
    assert PROMTOOL is not None, "promtool is missing: scripts/services start"
    run = subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, check=False, timeout=600)
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_alert_has_a_case() -> None:
    assert [case.alert for case in CASES] == [rule["alert"] for rule in RULES]


def test_each_alert_fires_and_is_quiet(tmp_path: Path) -> None:
    """An alert that fires is counted once in ALERTS; one that is quiet leaves no sample."""

    def trial(case: Case, series: dict[str, str], *, fires: bool) -> dict[str, object]:
        return {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{case.alert}", alertstate="firing"}})',
                    "eval_time": f"{case.minute}m",
                    "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
                }
            ],
        }

    trials = [trial(case, case.fires, fires=True) for case in CASES]
    trials += [trial(case, case.quiet, fires=False) for case in CASES]
    (tmp_path / "trials.yml").write_text(
        yaml.safe_dump({"rule_files": [str(FILES / "alerts.yml")], "evaluation_interval": "1m", "tests": trials})
    )
    promtool("test", "rules", str(tmp_path / "trials.yml"))


def test_prometheus_takes_the_configuration_and_the_rules() -> None:
    promtool("check", "config", str(FILES / "prometheus.yml"))
    promtool("check", "rules", str(FILES / "alerts.yml"))


@pytest.mark.parametrize("name", ["validator", "miner"])
def test_prometheus_takes_every_expression_of_a_dashboard(name: str, tmp_path: Path) -> None:
    panels = json.loads((FILES / f"{name}.json").read_text(encoding="utf-8"))["panels"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    rules = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(asked)]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", str(tmp_path / "panels.yml"))
