"""What must hold for every task type, on a small task of each: from a customer's rows to a better model and a score that can be trusted."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from pathlib import Path

import pytest

from gradients.datasets.normal_texts import normalised
from gradients.datasets.rows import Row
from gradients.domain.json import Json, JsonObject
from gradients.errors import DatasetInvalid
from gradients.execution.functions import resolve
from gradients.tasks.jobs.models import KEEP, KeepJob, Kept
from gradients.tasks.preparation import PreparedData, prepare
from gradients.tasks.registry import TYPES, validate_request
from gradients.testing.task_samples import SourceRow
from tests.contract.prepared import SALT, SEED, Prepared, prepare_sample


@pytest.fixture(scope="module", params=TYPES)
def prepared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare_sample(request.param, tmp_path_factory.mktemp(request.param))


def test_a_request_in_its_normal_form_stays_as_it_is(prepared: Prepared) -> None:
    schema = prepared.kind.schema
    once = schema.model_validate(prepared.request.parameters).model_dump(mode="json")
    assert once == prepared.request.parameters == json.loads(json.dumps(once))


@pytest.mark.parametrize("problem", ["wrong_type", "huge"])
def test_a_malformed_row_is_refused_by_its_number(prepared: Prepared, problem: str) -> None:
    rows = [*prepared.sample.rows]
    rows.insert(4, getattr(prepared.sample, problem))
    with pytest.raises(DatasetInvalid) as refused:
        _prepare(prepared, prepared.spec(rows, name=problem))
    assert list(refused.value.rows) == [5]
    assert "5" in str(refused.value)


def test_text_in_another_encoding_is_refused(prepared: Prepared) -> None:
    spec = prepared.spec(prepared.sample.rows, name="latin")
    file = prepared.folder / "latin.jsonl"
    file.write_bytes(file.read_bytes() + b'{"text": "caf\xe9"}\n')
    with pytest.raises(DatasetInvalid, match="UTF-8") as refused:
        _prepare(prepared, spec)
    assert list(refused.value.rows) == [len(prepared.sample.rows) + 1]


def test_an_empty_row_is_left_out_and_counted(prepared: Prepared) -> None:
    data = _prepare(prepared, prepared.spec([*prepared.sample.rows, prepared.sample.empty], name="empty"))
    assert sum(dict(data.removed).values()) == sum(dict(prepared.data.removed).values()) + 1


def test_nothing_but_empty_rows_is_refused(prepared: Prepared) -> None:
    with pytest.raises(DatasetInvalid) as refused:
        _prepare(prepared, prepared.spec([prepared.sample.empty] * 100, name="hollow"))
    assert list(refused.value.rows)[:3] == [1, 2, 3]


def test_a_row_that_is_there_again_exactly_or_nearly_is_counted_and_stands_on_one_side(prepared: Prepared) -> None:
    sample = prepared.sample
    data = _prepare(prepared, prepared.spec([*sample.rows, sample.rows[0], sample.near], name="again"))
    assert _repeated(data) == _repeated(prepared.data) + 2
    same = {prepared.kind.text(_normal_form(prepared, row)) for row in (sample.rows[0], sample.near)}
    assert len(same) == 2
    train, held_out = (_texts(prepared, file) for file in (data.train_file, data.held_out_file))
    assert len(same & train) + len(same & held_out) == 1


def test_rows_that_belong_together_stand_on_one_side_whatever_the_salt(prepared: Prepared) -> None:
    group, beside = prepared.kind.group, prepared.sample.beside
    assert (group is None) == (beside is None)
    if group is None or beside is None:
        return
    spec = prepared.spec([*prepared.sample.rows, beside], name="beside")
    name = normalised(group(_normal_form(prepared, beside)))
    for salt in (b"one", b"two", b"three"):
        data = _prepare(prepared, spec, salt=salt)
        files = (data.train_file.read_text(encoding="utf-8"), data.held_out_file.read_text(encoding="utf-8"))
        counts = [sum(normalised(group(json.loads(line))) == name for line in file.splitlines()) for file in files]
        assert sorted(counts) == [0, 2]


def test_no_held_out_row_is_trained_on(prepared: Prepared) -> None:
    train, held_out = (_texts(prepared, file) for file in (prepared.data.train_file, prepared.data.held_out_file))
    assert train
    assert held_out
    assert not train & held_out


def test_training_improves_the_metric(prepared: Prepared, tmp_path: Path) -> None:
    measured = prepared.measure({"base": None, "ours": prepared.trained}, results=tmp_path)
    assert prepared.is_better(measured["ours"], measured["base"])


def test_rows_that_are_kept_from_training_can_be_measured_as_held_out_ones_are(
    prepared: Prepared, tmp_path: Path
) -> None:
    kept = tmp_path / "kept.jsonl"
    job = KeepJob(train_file=prepared.data.train_file, kept_file=kept, fraction=0.4, seed=SEED, most=4)
    told = Kept.model_validate(resolve(KEEP)(job.model_dump(mode="json"), _ignore))
    if not told.rows:  # of fewer than 20 rows none is kept
        assert told.of < 20
        return
    lines = kept.read_bytes().splitlines()
    assert told.rows == len(lines) == 4
    assert set(lines) <= set(prepared.data.train_file.read_bytes().splitlines())
    measured = prepared.measure({"base": None}, results=tmp_path / "results", held_out_file=kept)
    assert len(measured["base"].per_row) == 4


def test_neither_order_nor_company_nor_a_failure_changes_a_score(prepared: Prepared, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    alone = prepared.measure({"ours": prepared.trained}, results=tmp_path / "alone")
    entrants = {"broken": tmp_path / "broken", "twin": prepared.trained, "base": None, "ours": prepared.trained}
    together = prepared.measure(entrants, results=tmp_path / "together")
    assert together["broken"].value is None
    assert together["broken"].failure_blame == "miner"
    assert together["ours"].per_row == together["twin"].per_row == alone["ours"].per_row
    assert together["ours"].value == together["twin"].value == alone["ours"].value
    assert together["ours"].extras == together["twin"].extras == alone["ours"].extras
    assert together["base"].value is not None


def test_a_rows_score_depends_on_no_other_row(prepared: Prepared, tmp_path: Path) -> None:
    lines = prepared.data.held_out_file.read_bytes().splitlines(keepends=True)
    half = tmp_path / "half.jsonl"
    half.write_bytes(b"".join(lines[: len(lines) // 2]))
    whole = prepared.measure({"ours": prepared.trained}, results=tmp_path / "whole")["ours"].per_row
    part = prepared.measure({"ours": prepared.trained}, results=tmp_path / "part", held_out_file=half)["ours"].per_row
    assert part == pytest.approx(whole[: len(part)], abs=1e-6)


def test_a_block_of_rows_measures_as_these_rows_do_and_not_by_company(prepared: Prepared, tmp_path: Path) -> None:
    if not prepared.kind.by_blocks:
        return
    rows = len(prepared.data.held_out_file.read_bytes().splitlines())
    odd, even = tuple(range(1, rows, 2)), tuple(range(0, rows, 2))
    entrants = {"base": None, "ours": prepared.trained}
    whole = prepared.measure(entrants, results=tmp_path / "whole")
    both = prepared.measure(entrants, results=tmp_path / "both", blocks=(odd, even))
    last = prepared.measure({"ours": prepared.trained}, results=tmp_path / "last", blocks=(even,))
    for name in entrants:
        wanted = [whole[name].per_row[place] for place in (*odd, *even)]
        assert both[name].per_row == pytest.approx(wanted, abs=1e-5)
    assert (
        last["ours"].per_row == both["ours"].per_row[len(odd) :]
    )  # to the bit: whoever is measured on a block, and when
    assert last["ours"].value == pytest.approx(statistics.fmean(last["ours"].per_row))


def _prepare(prepared: Prepared, spec: Mapping[str, Json], *, salt: bytes = SALT) -> PreparedData:
    return prepare(prepared.kind, validate_request(spec), salt=salt, folder=prepared.folder / "again")


def _normal_form(prepared: Prepared, row: SourceRow) -> Row:
    """The row as its type cleans it."""
    parameters = prepared.kind.schema.model_validate(prepared.request.parameters)
    [cleaned] = prepared.kind.clean([row], parameters).rows
    return cleaned.row


def _repeated(data: PreparedData) -> int:
    return sum(count for reason, count in data.removed if reason in ("repeated", "nearly repeated"))


def _texts(prepared: Prepared, file: Path) -> set[str]:
    return {prepared.kind.text(json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()}


def _ignore(_: JsonObject) -> None:
    """Progress that nobody watches."""
