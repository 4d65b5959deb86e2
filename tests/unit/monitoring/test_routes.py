"""What an operator's tools get of a daemon, over HTTP on loopback."""

from __future__ import annotations

import asyncio

import httpx
from structlog.testing import capture_logs

from gradients.axon.ports import free_ports
from gradients.conditions.state import Conditions
from gradients.config import MonitoringSettings
from gradients.doctor.findings import Finding
from gradients.monitoring.routes import monitoring, readiness


def test_an_operators_tools_can_ask_a_daemon_on_a_port_of_its_own() -> None:
    conditions = Conditions()
    conditions.update("subnet", [Finding("registered", "missing", "no uid", "gradients register")])
    (port,) = free_ports("127.0.0.1", 1)

    async def scenario() -> dict[str, httpx.Response]:
        async with (
            monitoring(MonitoringSettings(port=port), lambda: readiness(conditions)),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as tools,
        ):
            return {path: await tools.get(path) for path in ("/livez", "/readyz", "/version", "/metrics", "/docs")}

    answers = asyncio.run(scenario())
    assert {path: answer.status_code for path, answer in answers.items()} == {
        "/livez": 200,
        "/readyz": 503,
        "/version": 200,
        "/metrics": 200,
        "/docs": 404,
    }
    assert answers["/readyz"].json() == {
        "ready": False,
        "notes": [],
        "conditions": [{"name": "registered", "level": "missing", "found": "no uid", "advice": "gradients register"}],
    }
    assert 'gradients_condition_ok{condition="registered"} 0.0' in answers["/metrics"].text


def test_a_port_that_is_taken_costs_the_monitoring_and_not_the_daemon() -> None:
    (port,) = free_ports("127.0.0.1", 1)

    async def scenario() -> None:
        settings = MonitoringSettings(port=port)
        async with (
            monitoring(settings, lambda: readiness(Conditions())),
            monitoring(settings, lambda: readiness(Conditions())),
        ):
            pass

    with capture_logs() as said:
        asyncio.run(scenario())
    assert [line["event"] for line in said] == ["monitoring_served", "monitoring_off"]
