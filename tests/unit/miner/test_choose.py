"""Which tasks a miner takes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradients.axon.messages import Offer, Start
from gradients.tasks.registry import TYPES
from miner.choose import Situation, against_start, choose
from miner.memory import GIB
from miner.settings import MinerSettings
from tests.unit.miner.fakes import BASE_DIGEST, offer, start

SETTINGS = MinerSettings(task_types=("instruct",), max_hours=2.0, concurrent_tasks=2, max_data_bytes=1000)
FREE = Situation(running=0, base_digest=BASE_DIGEST, needed_bytes=1 * GIB, memory_bytes=8 * GIB)


def test_a_task_that_fits_is_taken_with_the_recipes_name() -> None:
    answer = choose(offer(), FREE, SETTINGS, recipe="lora-tuned")
    assert (answer.accepted, answer.reason, answer.recipe) == (True, "", "lora-tuned")


@pytest.mark.parametrize(
    ("changes", "situation", "reason"),
    [
        ({"type": "diffusion"}, FREE, "diffusion tasks are not taken here"),
        (
            {"needs_sandbox": True},
            replace(FREE, has_sandbox=False),
            "this instruct task runs programs, and there is no bubblewrap here",
        ),
        (
            {},
            replace(FREE, missing_packages=("diffusers", "PIL")),
            "instruct tasks need diffusers, PIL, not installed here",
        ),
        ({"hours": 2.5}, FREE, "2.5 hours are more than the 2 that are taken here"),
        ({}, replace(FREE, running=2), "2 tasks are being trained already"),
        (
            {},
            replace(FREE, base_digest=None, base_problem="no such model"),
            "the base tiny cannot be had here: no such model",
        ),
        ({"base_digest": "d" * 64}, FREE, "the base tiny is another one here than the validator's"),
        (
            {},
            replace(FREE, needed_bytes=9 * GIB),
            "training tiny takes about 9.0 GiB of memory, and a task may take 8.0 here",
        ),
        (
            {},
            replace(FREE, needed_disk_bytes=3 * GIB, free_disk_bytes=GIB),
            "a model of tiny takes 3.0 GiB of disk at the least, and 1.0 are free here",
        ),
    ],
    ids=["type", "sandbox", "packages", "hours", "too many", "base unknown", "other base", "memory", "disk"],
)
def test_a_task_that_does_not_fit_is_declined_with_the_reason(
    changes: dict[str, object], situation: Situation, reason: str
) -> None:
    message = Offer.model_validate({**offer().model_dump(), **changes})
    answer = choose(message, situation, SETTINGS, recipe="lora-tuned")
    assert (answer.accepted, answer.reason, answer.recipe) == (False, reason, "")


def test_a_sandbox_is_asked_for_only_by_tasks_that_need_one() -> None:
    needs = offer().model_copy(update={"needs_sandbox": True})
    assert choose(needs, FREE, SETTINGS, recipe="x").accepted
    assert choose(offer(), replace(FREE, has_sandbox=False), SETTINGS, recipe="x").accepted


@given(problem=st.text(max_size=2000))
def test_no_reason_is_too_long_for_its_message(problem: str) -> None:
    situation = replace(FREE, base_digest=None, base_problem=problem)
    assert len(choose(offer(), situation, SETTINGS, recipe="x").reason) <= 500


@given(hours=st.floats(0.001, 240), running=st.integers(0, 5), needed=st.integers(0, 20 * GIB), known=st.booleans())
def test_a_task_is_taken_exactly_when_every_bound_holds(hours: float, running: int, needed: int, known: bool) -> None:
    situation = Situation(running, BASE_DIGEST if known else None, needed_bytes=needed, memory_bytes=8 * GIB)
    fits = hours <= 2.0 and running < 2 and needed <= 8 * GIB and known
    assert choose(offer(hours=hours), situation, SETTINGS, recipe="x").accepted == fits


def test_every_kind_there_is_and_no_other_is_taken_by_default() -> None:
    settings = MinerSettings(task_types=None)
    assert all(choose(offer(type=kind), FREE, settings, recipe="x").accepted for kind in TYPES)
    assert not choose(offer(type="knitting"), FREE, settings, recipe="x").accepted


def test_a_start_inside_its_offer_is_begun() -> None:
    assert against_start(start(), SETTINGS, block=10, block_seconds=12.0) == ""


@pytest.mark.parametrize(
    ("changes", "block", "reason"),
    [
        ({}, 110, "no time is left before block 110"),
        ({}, 107, "no time is left before block 110"),  # three blocks are kept for the commitment
        ({"deadline_block": 310, "reveal_until_block": 400}, 10, "block 310 is 1.0 hours away, the offer said 0.5"),
        ({"reveal_until_block": 109}, 10, "the reveal ends at block 109, before the deadline"),
        (
            {"train": {"sha256": "a" * 64, "size_bytes": 1001}},
            10,
            "the train rows have 1,001 bytes, more than the 1,000 that are taken here",
        ),
    ],
    ids=["over", "nearly over", "longer than offered", "reveal before deadline", "too many bytes"],
)
def test_a_start_on_other_terms_is_declined_with_the_reason(
    changes: dict[str, object], block: int, reason: str
) -> None:
    message = Start.model_validate({**start().model_dump(), **changes})
    assert against_start(message, SETTINGS, block=block, block_seconds=12.0) == reason
