"""Spans of what a daemon does, sent to a collector (OTLP over HTTP) when its settings name one; else they cost next to nothing.

Our spans carry ids of tasks, states and outcomes; no rows, no keys. Requests are FastAPI's own spans, with their paths. Nothing is told to
peers: a trace ends at the axon.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import Span

from gradients import __version__
from gradients.config import TracingSettings
from gradients.errors import SetupError
from gradients.extras import how_to_install

TRACER = trace.get_tracer("gradients", __version__)  # finds the provider that `tracing` sets, whenever that is


@contextmanager
def span(name: str, **attributes: str | int) -> Iterator[Span]:
    """A span around the body; one that is raised through is marked as an error."""
    with TRACER.start_as_current_span(name, attributes=attributes) as current:
        yield current


@contextmanager
def tracing(daemon: str, settings: TracingSettings) -> Iterator[None]:
    """Send this process's spans for the body, which is its life: OpenTelemetry takes one provider a process.

    Raises SetupError when a collector is named and the packages are not there.
    """
    if settings.endpoint is None:
        yield
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
    except ModuleNotFoundError as error:
        raise SetupError(
            "Traces need OpenTelemetry's SDK",
            fix=f"{how_to_install('tracing')}, or leave [tracing] endpoint out",
        ) from error
    resource = Resource.create({"service.name": f"gradients-{daemon}", "service.version": __version__})
    provider = TracerProvider(resource=resource, sampler=ParentBased(TraceIdRatioBased(settings.share)))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=settings.endpoint)))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        provider.shutdown()  # sends what is left
