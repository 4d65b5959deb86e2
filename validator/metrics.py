"""Figures about this process for `/metrics`."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

SANDBOXED = Gauge(
    "gradients_sandboxed", "1 when workers on strangers' bytes run in a sandbox, 0 when nothing holds them"
)
HELD_BYTES = Gauge("gradients_held_bytes", "bytes on disk when last looked at: blobs, uploads, tasks", ["kind"])
PRUNED_BYTES = Counter("gradients_pruned_bytes", "bytes dropped because nobody needs them any more", ["kind"])
