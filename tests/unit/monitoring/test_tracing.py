"""Spans arrive at a collector that a daemon's settings name, as OpenTelemetry's protocol has them; without one nothing is sent."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Mapping

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pydantic import ValidationError

from gradients.config import TracingSettings
from gradients.testing.loopback_site import Page, Request, Site, loopback_site

# A process of its own: OpenTelemetry takes one provider a process, for good.
PROGRAM = """
import sys
from fastapi import FastAPI
from fastapi.testclient import TestClient
from gradients.config import TracingSettings
from gradients.monitoring.tracing import span, tracing

app = FastAPI()
app.get("/v1/tasks/{task_id}")(lambda task_id: task_id)
with tracing("validator", TracingSettings(endpoint=sys.argv[1] or None)):
    try:
        with span("step", task="instruct-1", state="open", attempt=2), span("inner"):
            raise RuntimeError("it went wrong")
    except RuntimeError:
        pass
    TestClient(app).get("/v1/tasks/mine")
"""


def traced(endpoint: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, endpoint], capture_output=True, text=True, check=False, timeout=600
    )
    assert run.returncode == 0, run.stderr


def spans(site: Site) -> dict[str, Mapping[str, str]]:
    """Name -> attributes, of everything that came."""
    came: dict[str, Mapping[str, str]] = {}
    for request in site.requests:
        body = gzip.decompress(request.body) if request.headers.get("content-encoding") == "gzip" else request.body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = {each.key: each.value.string_value for each in resource.resource.attributes}
            assert about["service.name"] == "gradients-validator"
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                values = {each.key: each.value.string_value or str(each.value.int_value) for each in span.attributes}
                came[span.name] = {
                    **values,
                    "is_error": str(span.status.code == 2),
                    "has_parent": str(bool(span.parent_span_id)),
                }
    return came


def accepted(_: Request) -> Page:
    return Page(headers={"Content-Type": "application/x-protobuf", "Content-Length": "0"})


def test_what_a_daemon_does_arrives_with_its_task_and_its_failure() -> None:
    with loopback_site(accepted) as site:
        traced(f"{site.url}/v1/traces")
    came = spans(site)
    attributes = {"task": "instruct-1", "state": "open", "attempt": "2"}
    assert came["step"] == {**attributes, "is_error": "True", "has_parent": "False"}
    assert came["inner"] == {"is_error": "True", "has_parent": "True"}
    assert came["GET /v1/tasks/{task_id}"]["http.response.status_code"] == "200"  # FastAPI's own


def test_without_a_collector_nothing_is_sent() -> None:
    with loopback_site(accepted) as site:
        traced("")
    assert site.requests == []


def test_a_collector_is_named_by_a_url() -> None:
    with pytest.raises(ValidationError, match="endpoint"):
        TracingSettings(endpoint="localhost:4318")
