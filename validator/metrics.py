"""Figures about this process for `/metrics`."""

from __future__ import annotations

from prometheus_client import Gauge

SANDBOXED = Gauge(
    "gradients_sandboxed", "1 when workers on strangers' bytes run in a sandbox, 0 when nothing holds them"
)
