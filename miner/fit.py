"""Which way of training fits the memory: the recipe's own where it does, else the next best that does, with the reasons. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from gradients.tasks.base import TrainingLoad
from gradients.tasks.footprint import NARROW_BYTES, USABLE, Footprint, Shape, Way, footprint, weight_bytes
from gradients.tasks.picture_footprint import Pipeline, Size, picture_footprint
from miner.memory import GIB, Memory

CPU_RUNTIME_BYTES = 1 * GIB
STEP_TOKENS = 256  # micro-batches are multiples of it, where they have so many
MOST_TOKENS = {True: 16_384, False: 2_048}  # of a micro-batch, on a GPU or a CPU: more is no faster
MOST_PICTURES = 8


@dataclass(frozen=True, slots=True)
class Fit:
    """A way that fits, or the least that would be needed."""

    way: Way
    tokens: int  # of a micro-batch, or its pictures where the base is a pipeline of images; 0 when nothing fits
    footprint: Footprint
    there: int  # bytes that may be used, of each device
    reasons: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether there is a way at all."""
        return self.tokens > 0

    def needed(self, row_tokens: int) -> int:
        """Bytes with the micro-batch that was chosen; with a single row, where nothing fits."""
        return self.footprint.total(self.tokens or row_tokens)


def fit(shape: Size, memory: Memory, *, asked: Way, load: TrainingLoad, lowered: int = 0) -> Fit:
    """The first way that holds the largest step, in the order of `_ladder`; several devices are used where one does not hold a better one.

    Args:
        memory: that one task may take.
        asked: for, by the recipe.
        load: of the task's type; a base that reads less cuts it.
        lowered: how many ways that should have fitted ran out of memory: each time the next one counts that takes less.
    """
    gpu = memory.bytes if memory.is_gpu else None
    there = int(USABLE * memory.bytes) - (0 if memory.is_gpu else CPU_RUNTIME_BYTES)
    pictures = isinstance(shape, Pipeline)
    low_bits = memory.low_bits and isinstance(shape, Shape) and not shape.has_experts
    most_at_once = MOST_PICTURES if pictures else MOST_TOKENS[memory.is_gpu]
    least = "picture" if pictures else f"row of {load.tokens} tokens"
    reasons = list[str]()
    failed: int | None = None  # bytes that a way took for one row, which were too many
    for way in _ladder(asked, low_bits=low_bits, devices=1 if pictures else memory.devices):
        taken = _reckoned(shape, way, gpu_bytes=gpu, load=load)
        tokens, row = int((there - taken.standing) / taken.by_token), taken.total(load.tokens)
        if way.method == "full" and way.devices == 1 and _is_narrow(shape, gpu_bytes=gpu):
            reasons.append(
                f"{name_of(way)}: in bfloat16, which these weights would be kept in, small steps are rounded away"
            )
        elif tokens < load.tokens:
            reasons.append(f"{name_of(way)}: {row / GIB:.1f} GiB needed for one {least}")
        elif failed is not None and row >= failed:
            reasons.append(f"{name_of(way)}: takes no less than what ran out of memory")
        elif lowered > 0:
            lowered, failed = lowered - 1, row
            reasons.append(f"{name_of(way)}: ran out of memory here")
        else:
            most = min(tokens, most_at_once)
            rounded = most - most % STEP_TOKENS if most >= STEP_TOKENS else most
            unit = least if pictures else "token"
            return Fit(way, max(rounded, load.tokens), taken, there, (*reasons, _why(way, taken, there, unit)))
    return Fit(way, 0, taken, there, (*reasons, f"{there / GIB:.1f} GiB can be used"))


def _ladder(asked: Way, *, low_bits: bool, devices: int) -> Iterator[Way]:
    """What costs time before what costs quality: layers computed again, moments in 8 bits, several devices; a LoRA; its base in 4 bits."""
    lora = asked if asked.method == "lora" else replace(asked, method="lora", optimiser="adamw")
    small = replace(asked, optimiser="adamw_8bit") if low_bits else asked
    steps: list[list[Way]] = [[lora]] if asked == lora else [[asked, small], [lora]]
    if low_bits:
        steps.append([replace(lora, load_in_4bit=True)])
    for step in steps:
        ways = list(dict.fromkeys(each for way in step for each in (way, replace(way, checkpointing=True))))
        yield from ways
        if devices > 1:
            yield from (replace(way, devices=devices) for way in ways if way.spreads)


def _reckoned(shape: Size, way: Way, *, gpu_bytes: int | None, load: TrainingLoad) -> Footprint:
    if isinstance(shape, Pipeline):
        return picture_footprint(shape, way, gpu_bytes=gpu_bytes, pixels=load.pixels)
    return footprint(shape, way, gpu_bytes=gpu_bytes, logits=load.logits, reference=load.reference)


def _is_narrow(shape: Size, *, gpu_bytes: int | None) -> bool:
    return isinstance(shape, Shape) and weight_bytes(shape, gpu_bytes=gpu_bytes) == NARROW_BYTES


def _why(way: Way, taken: Footprint, there: int, unit: str) -> str:
    return f"{name_of(way)}: {taken.standing / GIB:.1f} of {there / GIB:.1f} GiB stand, {taken.by_token / 2**20:.2f} MiB a {unit}"


def name_of(way: Way) -> str:
    """A way in words."""
    named = {"full": "all weights", "lora": f"a LoRA of rank {way.rank}"}[way.method]
    more = [
        "with moments in 8 bits" if way.optimiser == "adamw_8bit" else "",
        "on a base in 4 bits" if way.load_in_4bit else "",
        "with layers computed again" if way.checkpointing else "",
        f"spread over {way.devices} devices" if way.devices > 1 else "",
    ]
    return " ".join([named, *filter(None, more)])
