"""Which submissions are measured again, and what is remembered of the others."""

from __future__ import annotations

from gradients.audit.recompute import placings, results_of
from gradients.audit.sample import Sample, without_rows
from gradients.record.models import TaskBody
from tests.unit.audit.conftest import Published


def tasks(published: Published) -> list[TaskBody]:
    return [TaskBody.model_validate(record.body) for record in published.records if record.kind == "task"]


def chosen(bodies: list[TaskBody], *, seed: int, most: int) -> list[tuple[str, list[str]]]:
    sample = Sample()
    for body in bodies:
        sample.consider(body, body.task_id, seed=seed, most=most)
    return [(body.task_id, hotkeys) for _, body, hotkeys in sample.by_task()]


def test_the_sample_has_its_size_goes_by_the_seed_and_not_by_the_order(published: Published) -> None:
    bodies = tasks(published)
    samples = {str(chosen(bodies, seed=seed, most=5)) for seed in range(10)}
    assert all(sum(len(hotkeys) for _, hotkeys in chosen(bodies, seed=seed, most=5)) == 5 for seed in range(10))
    assert len(samples) > 5
    assert chosen(bodies, seed=3, most=5) == chosen(bodies[::-1], seed=3, most=5)
    assert sum(len(hotkeys) for _, hotkeys in chosen(bodies, seed=0, most=1000)) == 12
    assert chosen([body.model_copy(update={"salt": None}) for body in bodies], seed=0, most=5) == []


def test_what_is_remembered_of_a_task_is_enough_for_whatever_rests_on_it(published: Published) -> None:
    *earlier, last = tasks(published)
    light = [without_rows(body) for body in earlier]
    assert results_of(light) == results_of(earlier)
    assert placings(last, light) == placings(last, earlier)
    assert len(light[0].model_dump_json()) < len(earlier[0].model_dump_json()) / 3
