"""Which GPUs hold a training; what it takes of memory by the way of training is tested beside the miner's plans."""

from __future__ import annotations

from dataclasses import replace

from gradients.tasks.base import TrainingLoad
from gradients.tasks.footprint import KNOWN, smallest_gpu

SMALL, MIDDLE, LARGE = KNOWN[3], KNOWN[5], KNOWN[8]  # 1.5, 7 and 70 billion weights


def test_the_smallest_gpu_holds_weights_what_trains_and_one_row() -> None:
    """1.5 billion weights, rows of 2,048 tokens: a LoRA 3.1 + 0.7 + 4.9 GB, all weights 24.7 + 2.2 + 5.0 GB; 92 % of a GPU can be used."""
    rows = TrainingLoad(2_048)
    sizes = [(smallest_gpu(shape, "lora", rows), smallest_gpu(shape, "full", rows)) for shape in (SMALL, MIDDLE, LARGE)]
    assert sizes == [(12, 48), (24, 141), (180, None)]
    assert smallest_gpu(SMALL, "lora", TrainingLoad(512)) == 8


def test_what_a_type_has_beside_it_asks_for_more() -> None:
    plain, drawn = TrainingLoad(2_048), TrainingLoad(2_048, logits=4.0, reference=True)
    assert smallest_gpu(SMALL, "full", plain) == 48
    assert smallest_gpu(SMALL, "full", drawn) == 80
    assert smallest_gpu(replace(SMALL, vocabulary=32_000), "lora", plain) == 8
