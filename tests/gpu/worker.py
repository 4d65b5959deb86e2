"""A worker function for the tests on a GPU."""

from __future__ import annotations

import torch

from gradients.domain.json import JsonObject
from gradients.execution.job import ReportProgress


def take_all_memory(arguments: JsonObject, report: ReportProgress) -> JsonObject:
    """Takes GPU memory until there is none."""
    held = []
    while True:
        held.append(torch.empty(2**30, dtype=torch.uint8, device="cuda"))
