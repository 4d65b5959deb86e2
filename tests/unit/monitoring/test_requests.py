"""Requests are counted by route and answer, and strangers make no series."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client import REGISTRY
from starlette.responses import Response

from gradients.monitoring.requests import REQUESTS, SECONDS, CountedRequests


@pytest.fixture
def client() -> Iterator[TestClient]:
    REQUESTS.clear()
    SECONDS.clear()
    app = FastAPI()

    @app.get("/v1/tasks/{task_id}")
    async def task(task_id: str) -> Response:
        if task_id == "broken":
            raise ZeroDivisionError
        return Response(status_code=200 if task_id == "mine" else 404)

    yield TestClient(CountedRequests(app, "api"), raise_server_exceptions=False)
    REQUESTS.clear()
    SECONDS.clear()


def counted() -> dict[tuple[str, str, str], float]:
    samples = [sample for metric in REQUESTS.collect() for sample in metric.samples if sample.name.endswith("_total")]
    return {(s.labels["method"], s.labels["route"], s.labels["status"]): s.value for s in samples}


def test_a_route_is_one_series_whatever_stands_in_its_path(client: TestClient) -> None:
    for task_id in ("mine", "yours", "theirs"):
        client.get(f"/v1/tasks/{task_id}")
    route = "/v1/tasks/{task_id}"
    assert counted() == {("GET", route, "200"): 1, ("GET", route, "404"): 2}
    timed = {"server": "api", "method": "GET", "route": route}
    assert REGISTRY.get_sample_value("gradients_http_request_seconds_count", timed) == 3


def test_paths_and_methods_that_nobody_declared_are_one_series(client: TestClient) -> None:
    for number in range(5):
        client.get(f"/wp-login-{number}.php")
        client.request(f"BREW{number}", "/coffee")
    assert counted() == {("GET", "other", "404"): 5, ("other", "other", "404"): 5}


def test_a_crash_is_an_answer_of_500(client: TestClient) -> None:
    client.get("/v1/tasks/broken")
    assert counted() == {("GET", "/v1/tasks/{task_id}", "500"): 1}
