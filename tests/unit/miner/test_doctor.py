"""What a miner's doctor says of its machine, beside what both daemons' do."""

from __future__ import annotations

import pytest

from gradients.extras import how_to_install
from miner.doctor import low_bits
from miner.memory import GIB, Memory


def test_a_gpu_without_bitsandbytes_is_told_with_the_mend() -> None:
    (found,) = low_bits(Memory(80 * GIB, is_gpu=True, low_bits=False))
    assert (found.level, found.found) == (
        "note",
        "bitsandbytes or accelerate is not installed: no base in 4 bits, no moments in 8",
    )
    assert found.advice.startswith(f"{how_to_install('gpu')}; ")


@pytest.mark.parametrize("memory", [Memory(80 * GIB, is_gpu=True), Memory(80 * GIB, low_bits=False)])
def test_nothing_is_said_where_it_is_there_or_there_is_no_gpu(memory: Memory) -> None:
    assert list(low_bits(memory)) == []
