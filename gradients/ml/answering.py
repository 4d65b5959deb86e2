"""How likely a model finds the right answers to prompts, and what it answers itself to some of them; each prompt is read once for both."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from gradients.ml.base_model import LoadedBase
from gradients.ml.batching import batch_tokens, measuring_tokens
from gradients.ml.device import is_out_of_memory
from gradients.ml.losses import RowLoss, measure_rows
from gradients.ml.reading import Reading, answer_losses, join, read_prompts, write
from gradients.ml.sampling import Sampling, answer
from gradients.ml.text import Example

_WRITTEN_FACTOR = (
    4  # more tokens stand in a batch that is written than in one that is read: a step takes one of each row
)


@dataclass(frozen=True, slots=True)
class Answering:
    """How answers are written."""

    stop: list[int]
    max_new_tokens: int
    padded: bool  # whether prompts of different lengths may share a batch, see `reads_once`


class Answered(NamedTuple):
    """What a model makes of rows."""

    losses: list[RowLoss]  # in the rows' order
    texts: dict[int, str]  # by the row's position


def losses_and_answers(
    base: LoadedBase,
    examples: Sequence[Example],
    asked: Collection[int],
    how: Answering,
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> Answered:
    """The loss of every row, a prompt and its answer, and texts for the rows that are asked: the likeliest token each time.

    Texts end within the base's context. No row's company changes its numbers by more than rounding; where memory runs out, rows are read
    whole and written one by one.
    """
    prompts = [example.tokens[: example.spans[0].start] for example in examples]
    room = {row: max(1, min(how.max_new_tokens, base.context - len(prompts[row]))) for row in asked}
    if how.padded:
        try:
            return _in_batches(base, examples, prompts, room=room, stop=how.stop, progress=progress)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        base.device.forget_unused()
    most = measuring_tokens(base.device, base.vocabulary)
    losses = measure_rows(base.model, examples, device=base.device, max_tokens=most, progress=progress)
    texts = {
        row: answer(base, prompts[row], stop=how.stop, sampling=Sampling(max_new_tokens=tokens))
        for row, tokens in room.items()
    }
    return Answered(losses, texts)


def _in_batches(
    base: LoadedBase,
    examples: Sequence[Example],
    prompts: Sequence[list[int]],
    *,
    room: Mapping[int, int],
    stop: Sequence[int],
    progress: Callable[[int], None],
) -> Answered:
    most = measuring_tokens(base.device, base.vocabulary)
    most_written = _WRITTEN_FACTOR * batch_tokens(base.device, base.vocabulary)
    by_row, texts, done = dict[int, RowLoss](), dict[int, str](), 0
    waiting: list[tuple[list[int], Reading]] = []  # rows that are asked, read and not yet answered
    for positions, reading in read_prompts(base.model, prompts, base.device, max_tokens=most):
        answers = [examples[i].tokens[len(prompts[i]) :] for i in positions]
        with torch.inference_mode(), base.device.precision():
            found = answer_losses(reading, range(len(positions)), answers, max_tokens=most)
            if places := [place for place, row in enumerate(positions) if row in room]:
                some = torch.tensor(places, device=base.device.name)
                waiting.append(([positions[place] for place in places], reading.select(some)))
        by_row.update(zip(positions, found, strict=True))
        done += len(positions)
        full = sum(each.mask.numel() for _, each in waiting) > most_written
        if waiting and (full or done == len(examples)):
            rows = [row for some, _ in waiting for row in some]
            written = _written(base, [each for _, each in waiting], stop=stop, room=[room[row] for row in rows])
            texts.update(zip(rows, written, strict=True))
            waiting.clear()
        progress(done)
    return Answered([by_row[row] for row in range(len(examples))], texts)


def _written(base: LoadedBase, readings: Sequence[Reading], *, stop: Sequence[int], room: Sequence[int]) -> list[str]:
    with torch.inference_mode(), base.device.precision():
        tokens = write(join(readings), choose=lambda logits, _, __: logits.float().argmax(dim=-1), stop=stop, room=room)
    texts: list[str] = base.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return [text.strip() for text in texts]
