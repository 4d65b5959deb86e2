"""What a spec will take, also where nothing can be measured. The measurement itself is tried in tests/ml, the route in tests/e2e."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gradients.bases.bases import BaseModels
from gradients.datasets.access import Access
from gradients.domain.json import Json, JsonObject
from gradients.errors import DatasetInvalid, JobFailed, ModelUnknown, TaskInvalid
from gradients.execution.inline import InlineExecutor
from gradients.execution.job import Job, ReportProgress
from gradients.tasks.jobs.machine import MEASURE_THROUGHPUT, ThroughputJob
from gradients.tasks.jobs.rows import SURVEY, Lengths
from gradients.tasks.preparation import prepare
from gradients.tasks.registry import task_type, validate_request
from gradients.testing.loopback_site import Page, Request, loopback_site
from tests.unit.validator.market import tiny_bases
from validator.settings import EstimateSettings
from validator.specs.estimates import SAMPLE_ROWS, Estimates

ROWS = [{"instruction": f"Which letter has number {i}?", "output": f"It is letter {i}"} for i in range(400)]


@dataclass
class Bench:
    """An executor that measures what it is told, or nothing, and remembers what it was asked."""

    answer: Callable[[], JsonObject]
    texts: list[str] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    at_once: int = 0
    trial: Callable[[], JsonObject] = lambda: {"rows": 400, "cut_rows": 3, "loss": 5.0}

    async def run(self, job: Job, *, report: ReportProgress) -> JsonObject:
        if job.function == SURVEY:
            return await InlineExecutor().run(job, report=report)
        assert self.at_once == 0, "one model at a time"
        self.at_once += 1
        self.jobs.append(job)
        if job.function.endswith(":trial"):
            self.at_once -= 1
            return self.trial()
        asked = ThroughputJob.model_validate(job.arguments)
        self.texts = [json.loads(line) for line in asked.texts_file.read_text().splitlines()]
        await asyncio.sleep(0.01)
        self.at_once -= 1
        return self.answer()


def _at(tokens_per_second: float) -> Callable[[], JsonObject]:
    return lambda: {"tokens_per_row": 100.0, "tokens_per_second": tokens_per_second, "steps": 3, "device": "bench"}


def _crashing() -> JsonObject:
    raise JobFailed("out of memory", code="out_of_memory")


@pytest.fixture
def spec(tmp_path: Path) -> dict[str, Json]:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, ROWS)))
    return {"type": "instruct", "base": "tiny", "dataset": str(file)}


def _estimates(folder: Path, bench: Bench, **settings: str) -> Estimates:
    return Estimates(tiny_bases(folder), bench, Access(), EstimateSettings.model_validate(settings))


def test_hours_come_from_what_is_counted_and_measured(spec: dict[str, Json], tmp_path: Path) -> None:
    """2 x 400 x 100 tokens at 20 a second are 4,000 s; with 0.75 h for the rest 1.861 h: 2 h."""
    bench = Bench(_at(20.0))
    found = asyncio.run(_estimates(tmp_path, bench, reference="here").of(spec))
    assert (found.rows, found.tokens, found.tokens_per_second, found.hours) == (400, 40_000, 20.0, 2.0)
    assert found.measured is not None
    assert found.measured.device == "bench"
    assert [job.function for job in bench.jobs] == [task_type("instruct").trial, MEASURE_THROUGHPUT]
    assert (found.tried_rows, found.cut_rows) == (400, 3)
    assert [(each.method, each.gpu_gib) for each in found.memory] == [("lora", 8), ("full", 8)]


def test_of_pictures_a_lora_is_reckoned_by_the_pipelines_shape(tmp_path: Path) -> None:
    shown = task_type("diffusion").demonstrations[0]
    estimates = Estimates(BaseModels.default(tmp_path), Bench(_at(20.0)), Access(), EstimateSettings())
    asked: dict[str, Json] = {"type": "diffusion", "base": "nano-image", "dataset": str(shown.dataset)}
    asked["parameters"] = dict(shown.parameters)
    found = asyncio.run(estimates.of(asked))
    assert [(each.method, each.gpu_gib) for each in found.memory] == [("lora", 8)]


def test_a_worker_sees_a_sample_of_what_models_read_and_write(spec: dict[str, Json], tmp_path: Path) -> None:
    bench = Bench(_at(20.0))
    asyncio.run(_estimates(tmp_path, bench).of(spec))
    assert len(set(bench.texts)) == SAMPLE_ROWS
    assert set(bench.texts) <= {f"{row['instruction']} {row['output']}" for row in ROWS}


def test_a_report_says_what_will_become_of_the_rows(tmp_path: Path) -> None:
    """400 rows, one of them twice, one nearly, two without an answer: 400 are left, of which a tenth is held out."""
    words = [
        f"Tell me {i * 7919 % 1009} facts about number {i}, in {i % 17} words, {chr(97 + i % 26) * 9}."
        for i in range(400)
    ]
    rows: list[dict[str, str]] = [{"instruction": text, "output": f"It is number {i}"} for i, text in enumerate(words)]
    rows += [
        rows[0],
        {**rows[1], "output": "It is  NUMBER 1!"},
        {"instruction": "What?", "output": ""},
        {"output": "x"},
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    spec: dict[str, Json] = {"type": "instruct", "base": "tiny", "dataset": str(file)}
    report = asyncio.run(_estimates(tmp_path, Bench(_at(20.0))).of(spec)).data
    assert report is not None
    request = validate_request({**spec, "hours": 1})
    made = prepare(task_type("instruct"), request, salt=b"s" * 32, folder=tmp_path / "made")
    assert report.rows == 404
    assert {name: report.removed[name] for name in ("empty", "repeated", "nearly repeated")} == {
        name: dict(made.removed)[name] for name in ("empty", "repeated", "nearly repeated")
    }
    assert report.train_rows is not None
    assert report.held_out_rows == made.held_out_rows
    assert report.train_rows + report.held_out_rows + sum(report.removed.values()) == 404
    assert sum(bar.rows for bar in report.characters.histogram) == report.characters.rows == 402
    assert report.samples[0] == {"system": None, "prompt": words[0], "completion": "It is number 0"}


def test_lengths_are_summed_up_by_powers_of_two() -> None:
    """1 and 2 end their bars, 3 and 4 share one, 100 stands far off: of five rows the fifth is beyond 95 of 100."""
    lengths = Lengths.of([4, 1, 100, 3, 2])
    assert (lengths.shortest, lengths.median, lengths.most_of_95_percent, lengths.longest) == (1, 3, 100, 100)
    assert lengths.histogram == ((1, 1), (2, 1), (4, 2), (8, 0), (16, 0), (32, 0), (64, 0), (128, 1))
    assert Lengths.of([7]).histogram == ((8, 1),)
    assert Lengths.of([0]).histogram == ((1, 1),)


def test_where_nothing_can_be_measured_the_rule_alone_is_told(spec: dict[str, Json], tmp_path: Path) -> None:
    found = asyncio.run(_estimates(tmp_path, Bench(_crashing)).of(spec))
    assert (found.measured, found.tokens, found.hours) == (None, 400 * 400, 1.0)


def test_one_model_at_a_time_is_loaded(spec: dict[str, Json], tmp_path: Path) -> None:
    bench = Bench(_at(20.0))

    async def three() -> None:
        estimates = _estimates(tmp_path, bench)
        await asyncio.gather(*(estimates.of(spec) for _ in range(3)))

    asyncio.run(three())
    assert len(bench.jobs) == 6  # a trial and a measurement of each


def test_a_type_whose_hours_go_by_size_is_not_measured(spec: dict[str, Json], tmp_path: Path) -> None:
    bench = Bench(_crashing)
    parameters: Json = {
        "columns": {"prompt": "instruction"},
        "rewards": [{"kind": "length", "at_least": 8, "at_most": 14}],
    }
    found = asyncio.run(_estimates(tmp_path, bench).of({**spec, "type": "grpo", "parameters": parameters}))
    assert [job.function for job in bench.jobs] == [task_type("grpo").trial]
    assert (found.hours, found.tokens, found.tokens_per_second) == (1.5, None, None)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"base": "nowhere"}, ModelUnknown),
        ({"parameters": {"columns": {"output": "no such"}}}, DatasetInvalid),
        ({"type": "diffusion"}, TaskInvalid),  # on a base that writes
    ],
)
def test_a_spec_that_cannot_be_run_has_no_estimate(
    spec: dict[str, Json], tmp_path: Path, changes: dict[str, Json], error: type[Exception]
) -> None:
    with pytest.raises(error):
        asyncio.run(_estimates(tmp_path, Bench(_crashing)).of({**spec, **changes}))


def test_too_few_rows_have_no_estimate(spec: dict[str, Json], tmp_path: Path) -> None:
    file = tmp_path / "few.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in ROWS[:63]))
    with pytest.raises(DatasetInvalid, match="There are 63 rows, and at least 64 are needed") as caught:
        asyncio.run(_estimates(tmp_path, Bench(_crashing)).of({**spec, "dataset": str(file)}))
    assert caught.value.code == "too_few_rows"


def test_a_source_that_is_slow_holds_up_nobody_else(spec: dict[str, Json], tmp_path: Path) -> None:
    served = threading.Event()

    def answer(_: Request) -> Page:
        served.wait(600)
        return Page(["\n".join(map(json.dumps, ROWS)).encode()])

    async def both(url: str) -> None:
        estimates = Estimates(
            tiny_bases(tmp_path), Bench(_at(20.0)), Access(private_addresses=True), EstimateSettings()
        )
        slow = asyncio.create_task(estimates.of({**spec, "dataset": f"{url}/rows.jsonl"}))
        await asyncio.sleep(0.1)
        assert (await estimates.of(spec)).rows == 400
        assert not slow.done()
        served.set()
        assert (await slow).rows == 400

    with loopback_site(answer) as site:
        asyncio.run(both(site.url))


def test_what_a_trial_refuses_is_the_customers_and_said_at_once(spec: dict[str, Json], tmp_path: Path) -> None:
    def refused() -> JsonObject:
        raise TaskInvalid("The base's chat template refuses a dialogue", code="template_unusable")

    bench = Bench(_at(20.0), trial=refused)
    with pytest.raises(TaskInvalid, match="chat template"):
        asyncio.run(_estimates(tmp_path, bench).of(spec))
    assert len(bench.jobs) == 1  # nothing is measured then


def test_a_trial_that_breaks_off_costs_no_estimate_and_one_without_end_is_the_bases_fault(
    spec: dict[str, Json], tmp_path: Path
) -> None:
    found = asyncio.run(_estimates(tmp_path, Bench(_at(20.0), trial=_crashing)).of(spec))
    assert (found.rows, found.tried_rows, found.cut_rows) == (400, 0, 0)

    def endless() -> JsonObject:
        raise JobFailed("was killed at its deadline", code="job_deadline")

    with pytest.raises(TaskInvalid, match="take more than") as caught:
        asyncio.run(_estimates(tmp_path, Bench(_at(20.0), trial=endless)).of(spec))
    assert caught.value.code == "base_too_slow"
