"""Figures about a validator for `/metrics`; docs/monitoring.md says what each is good for."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from gradients.errors import Blame

SANDBOXED = Gauge(
    "gradients_sandboxed", "1 when workers on strangers' bytes run in a sandbox, 0 when nothing holds them"
)
HELD_BYTES = Gauge("gradients_held_bytes", "bytes on disk when last looked at: blobs, uploads, tasks", ["kind"])
PRUNED_BYTES = Counter("gradients_pruned_bytes", "bytes dropped because nobody needs them any more", ["kind"])

TASKS = Gauge("gradients_tasks", "tasks in the ledger", ["state"])
WAITED = Gauge("gradients_task_oldest_seconds", "how long the task is in this state that is longest in it", ["state"])
DUE = Gauge("gradients_tasks_due", "tasks that could be worked on now, and are not", ["state"])
LEASED = Gauge("gradients_leases", "tasks that somebody works on")
LAPSED = Gauge(
    "gradients_leases_lapsed", "tasks whose worker went away in the middle and which nobody has taken up yet"
)
CALLS = Gauge("gradients_weights_calls", "decided rows of weights in the ledger", ["state"])
WEIGHTS_AGE = Gauge("gradients_weights_age_blocks", "blocks since the chain took our weights last")
WEIGHTS_CUTOFF = Gauge("gradients_weights_cutoff_blocks", "blocks of silence after which the chain counts us no more")

STEP_SECONDS = Histogram(
    "gradients_step_seconds",
    "how long steps took, by the state that they take tasks out of and how they ended",
    ["state", "outcome"],
    buckets=(0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 36_000.0),
)
FAILURES = Counter("gradients_submission_failures", "submissions that failed, by whose fault it was", ["blame"])
STEP_FAILURES = Counter("gradients_step_failures", "steps that failed, by whose fault it was", ["state", "blame"])

for _blame in Blame:  # 0 and not absent, so that the first one is a rise
    FAILURES.labels(_blame)
