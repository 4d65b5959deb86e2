"""Which way of training fits the memory: the recipe's own where it does, else the next best that does, with the reasons. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from miner.footprint import Footprint, Method, Shape, Way, footprint
from miner.memory import GIB, Memory

USABLE = 0.92  # of the memory: the rest is the driver's or the system's, and lost between blocks
CPU_RUNTIME_BYTES = 1 * GIB
STEP_TOKENS = 256  # micro-batches are multiples of it, where they have so many
MOST_TOKENS = {True: 16_384, False: 2_048}  # of a micro-batch, on a GPU or a CPU: more is no faster


@dataclass(frozen=True, slots=True)
class Fit:
    """A way that fits, or the least that would be needed."""

    way: Way
    tokens: int  # of a micro-batch; 0 when nothing fits
    footprint: Footprint
    there: int  # bytes that may be used
    reasons: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether there is a way at all."""
        return self.tokens > 0

    def needed(self, row_tokens: int) -> int:
        """Bytes with the micro-batch that was chosen; with a single row, where nothing fits."""
        return self.footprint.total(self.tokens or row_tokens)


def fit(shape: Shape, memory: Memory, *, method: Method, rank: int, row_tokens: int) -> Fit:
    """The first way that holds the longest row, in the order: as asked, with layers computed again, a LoRA instead of all weights.

    Args:
        memory: that one task may take.
        row_tokens: of the longest row.
    """
    gpu = memory.bytes if memory.is_gpu else None
    there = int(USABLE * memory.bytes) - (0 if memory.is_gpu else CPU_RUNTIME_BYTES)
    methods: tuple[Method, ...] = ("full", "lora") if method == "full" else ("lora",)
    reasons = list[str]()
    for chosen in methods:
        for checkpointing in (False, True):
            way = Way(chosen, rank, checkpointing)
            taken = footprint(shape, way, gpu_bytes=gpu)
            tokens = int((there - taken.standing) / taken.by_token)
            if tokens >= row_tokens:
                most = min(tokens, MOST_TOKENS[memory.is_gpu])
                rounded = most - most % STEP_TOKENS if most >= STEP_TOKENS else most
                return Fit(way, max(rounded, row_tokens), taken, there, (*reasons, _why(way, taken, there)))
            reasons.append(
                f"{_name(way)} needs {taken.total(row_tokens) / GIB:.1f} GiB for one row of {row_tokens} tokens"
            )
    return Fit(way, 0, taken, there, (*reasons, f"{there / GIB:.1f} GiB can be used"))


def _why(way: Way, taken: Footprint, there: int) -> str:
    return f"{_name(way)}: {taken.standing / GIB:.1f} of {there / GIB:.1f} GiB stand, {taken.by_token / 2**20:.2f} MiB a token"


def _name(way: Way) -> str:
    named = {"full": "all weights", "lora": f"a LoRA of rank {way.rank}"}[way.method]
    return f"{named} with layers computed again" if way.checkpointing else named
