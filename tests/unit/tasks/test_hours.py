"""Hours by the rule: numbers worked out by hand, and what holds for any task."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradients.tasks.base import TaskType
from gradients.tasks.chat.spec import CHAT
from gradients.tasks.diffusion.spec import DIFFUSION
from gradients.tasks.dpo.spec import DPO
from gradients.tasks.grpo.spec import GRPO
from gradients.tasks.hours import (
    LATER_CODE,
    PAPER,
    Effort,
    Reference,
    Workload,
    budget,
    hours_by_rows,
    speed_of,
)
from gradients.tasks.instruct.spec import INSTRUCT

BILLION = 10**9
SEVEN = Workload(Effort(), rows=100_000, parameters=7 * BILLION, tokens_per_row=400.0)


def test_a_task_of_the_rule_worked_out_by_hand() -> None:
    """989e12 x 0.15 / (6 x 7e9) = 3,532.1 tokens a second on each of 2 GPUs; 2 x 40e6 / 7,064.3 / 3600 + 0.75 = 3.896 h: 4 h."""
    found = budget(SEVEN)
    assert found.gpus == 2
    assert found.tokens_per_second == pytest.approx(7064.3, abs=0.05)
    assert found.hours == 4.0


def test_dpo_does_more_with_each_token_and_has_more_gpus_for_it() -> None:
    """21 effective billions: 4 GPUs. 2 x 40e6 x 1.4 / 14,128.6 / 3600 + 0.75 = 2.952 h: 3 h."""
    found = budget(replace(SEVEN, effort=DPO.effort))
    assert (found.gpus, found.hours) == (4, 3.0)


@pytest.mark.parametrize(("billions", "hours"), [(0.1, 1.5), (4, 1.5), (4.1, 2.5), (12, 2.5), (40, 4.0), (41, 6.0)])
def test_grpo_goes_by_size(billions: float, hours: float) -> None:
    assert budget(Workload(GRPO.effort, rows=10**6, parameters=round(billions * BILLION))).hours == hours


def test_images_have_an_hour() -> None:
    assert budget(Workload(DIFFUSION.effort, rows=20, parameters=BILLION)) == (1.0, None, 1)


@pytest.mark.parametrize(("measured", "believed"), [(None, 1.0), (1.0, 0.33), (0.33, 0.33), (2.0, 2.0), (10.0**9, 3.0)])
def test_a_measurement_is_believed_between_a_third_and_three_times_of_the_rule(
    measured: float | None, believed: float
) -> None:
    rule = 989e12 * 0.15 / (6 * 7e9)
    shown = None if measured is None else 0.001 if measured == 1.0 else measured * rule
    assert speed_of(replace(SEVEN, tokens_per_second=shown), reference="h100") == pytest.approx(believed * rule)


def test_a_machine_that_counts_for_itself_is_believed() -> None:
    """2 x 400,000 tokens at 500 a second are 1,600 s, with 0.75 h for the rest 1.194 h: 1.25 h. An H100 has 8,159 a second at least."""
    work = Workload(Effort(), rows=1000, parameters=BILLION, tokens_per_row=400.0, tokens_per_second=500.0)
    assert budget(work, reference="here") == (1.25, 500.0, 1)
    assert budget(work).hours == 1.0


@pytest.mark.parametrize(("a_row", "tokens"), [(None, 40_000), (10.0, 6_400), (64.0, 6_400), (99.5, 9_950)])
def test_a_row_counts_64_tokens_at_least_and_400_before_anybody_has_counted(a_row: float | None, tokens: int) -> None:
    assert Workload(Effort(), rows=100, parameters=1, tokens_per_row=a_row).tokens == tokens


@pytest.mark.parametrize(
    ("kind", "billions", "gpus"),
    [(INSTRUCT, 4, 1), (INSTRUCT, 5, 2), (GRPO, 2, 1), (GRPO, 3, 2), (DPO, 13, 4), (CHAT, 70, 8)],
)
def test_gpus_go_by_the_weights_that_a_type_holds(kind: TaskType, billions: int, gpus: int) -> None:
    assert budget(Workload(kind.effort, rows=100, parameters=billions * BILLION)).gpus == gpus


@pytest.mark.parametrize(
    ("rows", "bounds"),
    [(10_000, (3, 6)), (25_000, (3, 6)), (25_001, (4, 8)), (50_000, (4, 8)), (100_000, (5, 9)), (500_000, (7, 10))],
)
def test_the_papers_table(rows: int, bounds: tuple[int, int]) -> None:
    assert hours_by_rows(rows, draws_images=False) == (*bounds, PAPER)


@pytest.mark.parametrize("rows", [1, 9_999])
def test_fewer_rows_than_the_paper_has_are_the_later_codes(rows: int) -> None:
    assert hours_by_rows(rows, draws_images=False) == (1, 3, LATER_CODE)


def test_the_papers_images_have_one_or_two_hours_whatever_their_number() -> None:
    assert {hours_by_rows(rows, draws_images=True) for rows in (5, 10**6)} == {(1, 2, PAPER)}


def test_types_whose_hours_do_not_go_by_tokens_are_not_measured() -> None:
    assert INSTRUCT.effort.goes_by_tokens
    assert not GRPO.effort.goes_by_tokens
    assert not DIFFUSION.effort.goes_by_tokens


WORK = st.builds(
    Workload,
    effort=st.sampled_from([INSTRUCT.effort, DPO.effort, GRPO.effort]),
    rows=st.integers(min_value=0, max_value=10**6),
    parameters=st.integers(min_value=1, max_value=10**12),
    tokens_per_row=st.none() | st.floats(min_value=1, max_value=10**5),
    tokens_per_second=st.none() | st.floats(min_value=0.01, max_value=10**9),
)


@given(work=WORK, reference=st.sampled_from(["h100", "here"]))
def test_any_task_has_whole_quarters_between_three_quarters_and_six_hours(work: Workload, reference: Reference) -> None:
    hours = budget(work, reference=reference).hours
    assert 0.75 <= hours <= 6
    assert hours * 4 == round(hours * 4)


@given(work=WORK, more=st.integers(min_value=1, max_value=10**6))
def test_more_rows_never_have_fewer_hours(work: Workload, more: int) -> None:
    assert budget(replace(work, rows=work.rows + more)).hours >= budget(work).hours
