"""Which GPUs torch sees."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch

from gradients.domain.json import JsonObject


def find(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """{"devices": [[name, memory in bytes]]}; names are what CUDA_VISIBLE_DEVICES calls them, in its order."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = told.split(",") if told else [str(number) for number in range(count)]
    return {
        "devices": [
            [name.strip(), torch.cuda.get_device_properties(number).total_memory]
            for number, name in enumerate(names[:count])
        ]
    }
