"""The answers of `gradients miner check`, for people and for scripts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from gradients.domain.json import JsonObject
from miner.check import Measured, Report

SIGMAS = 1.96  # of an interval that holds the value in 95 of 100 cases


def as_json(report: Report) -> JsonObject:
    """Everything; intervals are of 95 %."""
    metric, size = report.kind.metric, abs(report.base.value) or 1.0
    gain = Measured(report.gain.value / size, report.gain.stderr / size)
    return {
        "refused": False,
        "counts": report.counts,
        "reason": report.placing.reason,
        "copy_of": str(report.copied) if report.copied else report.placing.copy_of,
        "repo": asdict(report.repo),
        "metric": metric.name,
        "unit": metric.unit,
        "better": metric.better,
        "rows": report.rows.count,
        "rows_kept_from_training": report.rows.kept,
        "base": _interval(report.base),
        "model": _interval(report.model),
        "gain": _interval(gain),
    }


def as_text(report: Report) -> Iterator[str]:
    """A line each."""
    repo, metric, size = report.repo, report.kind.metric, abs(report.base.value) or 1.0
    low, high = (100 * edge / size for edge in _edges(report.gain))
    which = "train rows that are kept from training" if report.rows.kept else "rows of the file"
    yield f"A validator could measure it: kind {repo.kind}, {repo.files} files, {repo.size_bytes:,} bytes, {repo.changed} weights changed"
    yield f"{metric.name} in {metric.unit} on {report.rows.count} {which}, {metric.better} is better:"
    for name, measured in (("base", report.base), ("model", report.model)):
        yield f"  {name:<6}{measured.value:>9.4f}   95 %: {_edges(measured)[0]:.4f} to {_edges(measured)[1]:.4f}"
    yield f"  gain  {100 * report.gain.value / size:>+8.1f}%   95 %: {low:+.1f} to {high:+.1f} %, row by row"
    yield ("It would count as a fine-tune" if report.counts else "It would not be paid") + f": {_reason(report)}"


def _reason(report: Report) -> str:
    if report.copied is not None:
        return f"it is the same model as {report.copied}"
    if report.counts:
        return "better than the base beyond noise"
    return report.placing.reason


def _edges(measured: Measured) -> tuple[float, float]:
    return measured.value - SIGMAS * measured.stderr, measured.value + SIGMAS * measured.stderr


def _interval(measured: Measured) -> JsonObject:
    low, high = _edges(measured)
    return {"value": measured.value, "low": low, "high": high}
