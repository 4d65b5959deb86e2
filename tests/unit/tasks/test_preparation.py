"""From a data set to two files by digest: whole, the same again, and bound before the start."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from gradients.datasets.access import Access, SynthesisEndpoint
from gradients.datasets.sources import DatasetLimits
from gradients.domain.json import canonical
from gradients.domain.task import TaskRequest
from gradients.errors import DatasetInvalid, TaskInvalid
from gradients.tasks.instruct.spec import INSTRUCT
from gradients.tasks.preparation import (
    PreparedData,
    fetch_sources,
    held_out_commitment,
    prepare,
    prepare_fetched,
)
from gradients.tasks.registry import validate_request
from gradients.testing.loopback_site import Page, loopback_site, pages

SALT = bytes(range(32))
LINES = [json.dumps({"q": f"What is the sum of {i} and {i * i}?", "a": f"It is {i + i * i}. Ω"}) for i in range(100)]
UNFIT = [
    LINES[7],
    json.dumps({"q": "", "a": "empty"}),
    json.dumps({"q": "What is the SUM of 3 and 9", "a": "it is 12 Ω"}),
]


@pytest.fixture
def request_of_rows(tmp_path: Path) -> TaskRequest:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join([*LINES, *UNFIT]), encoding="utf-8")
    columns = {"instruction": "q", "output": "a"}
    return validate_request(
        {"type": "instruct", "base": "nano-lm", "dataset": str(file), "hours": 1, "parameters": {"columns": columns}}
    )


def _prepare(request: TaskRequest, folder: Path, salt: bytes = SALT) -> PreparedData:
    return prepare(INSTRUCT, request, salt=salt, folder=folder)


def _rows(file: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_every_row_comes_out_once_in_its_normal_form(request_of_rows: TaskRequest, tmp_path: Path) -> None:
    made = _prepare(request_of_rows, tmp_path / "prepared")
    expected = {json.loads(line)["q"]: json.loads(line)["a"] for line in LINES}
    both = _rows(made.train_file) + _rows(made.held_out_file)
    assert {row["prompt"]: row["completion"] for row in both} == expected
    assert len(both) == 100
    assert (made.train_rows, made.held_out_rows) == (84, 16)
    assert (len(_rows(made.train_file)), len(_rows(made.held_out_file))) == (84, 16)


def test_what_was_left_out_is_counted_by_reason(request_of_rows: TaskRequest, tmp_path: Path) -> None:
    assert dict(_prepare(request_of_rows, tmp_path / "prepared").removed) == {
        "empty": 1,
        "repeated": 1,
        "nearly repeated": 1,
    }


def test_rows_that_were_made_up_are_held_out_last_and_counted(request_of_rows: TaskRequest, tmp_path: Path) -> None:
    fresh = [{"q": f"Who wrote the {word} song?", "a": f"The {word} singer"} for word in ("oldest", "loudest", "last")]
    written = [*fresh, json.loads(LINES[3]), {"q": "No answer"}]
    said = json.dumps({"choices": [{"message": {"content": json.dumps(written)}}]}).encode()
    with loopback_site(lambda _: Page([said])) as site:
        made = prepare(
            INSTRUCT,
            request_of_rows,
            salt=SALT,
            folder=tmp_path / "more",
            endpoint=SynthesisEndpoint(site.url, "model", rows=5),
        )
    without = _prepare(request_of_rows, tmp_path / "prepared")
    assert made.train == without.train
    assert (made.held_out_rows, made.made_up_rows, without.made_up_rows) == (19, 3, 0)
    assert [row["prompt"] for row in _rows(made.held_out_file)[16:]] == [row["q"] for row in fresh]
    assert dict(made.removed) == {
        "empty": 1,
        "repeated": 1,
        "nearly repeated": 1,
        "synthetic, malformed": 1,
        "synthetic, near another row": 1,
    }
    shown = json.loads(site.requests[0].body)["messages"][1]["content"].splitlines()
    held_out = {row["prompt"] for row in _rows(without.held_out_file)}
    assert not held_out & {json.loads(line)["q"] for line in shown}


def test_rows_of_a_private_address_are_for_local_networks(request_of_rows: TaskRequest, tmp_path: Path) -> None:
    with loopback_site(pages({"/rows.jsonl": Page(["\n".join(LINES).encode()])})) as site:
        behind = replace(request_of_rows, dataset={"kind": "url", "url": f"{site.url}/rows.jsonl"})
        local = prepare(INSTRUCT, behind, salt=SALT, folder=tmp_path / "local", access=Access(private_addresses=True))
        with pytest.raises(DatasetInvalid, match="public internet"):
            _prepare(behind, tmp_path / "public")
    assert local.train_rows == 84


def test_the_digests_are_those_of_the_files(request_of_rows: TaskRequest, tmp_path: Path) -> None:
    made = _prepare(request_of_rows, tmp_path / "prepared")
    for file, blob in ((made.train_file, made.train), (made.held_out_file, made.held_out)):
        assert blob.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
        assert blob.size_bytes == file.stat().st_size
    assert sorted(path.name for path in (tmp_path / "prepared").iterdir()) == ["held_out.jsonl", "train.jsonl"]


def test_the_same_request_and_salt_leave_the_same_bytes(request_of_rows: TaskRequest, tmp_path: Path) -> None:
    once, again = (_prepare(request_of_rows, tmp_path / name) for name in ("once", "again"))
    assert (once.train, once.held_out, once.held_out_commitment) == (
        again.train,
        again.held_out,
        again.held_out_commitment,
    )
    other = _prepare(request_of_rows, tmp_path / "other", salt=b"x" * 32)
    assert other.held_out != once.held_out


def test_the_commitment_binds_salt_held_out_rows_and_request(request_of_rows: TaskRequest, tmp_path: Path) -> None:
    made = _prepare(request_of_rows, tmp_path / "prepared")
    asked = hashlib.sha256(canonical(asdict(request_of_rows))).digest()
    rows = hashlib.sha256(made.held_out_file.read_bytes()).digest()
    expected = hashlib.sha256(SALT + rows + asked).hexdigest()
    assert made.held_out_commitment == expected
    others = (
        held_out_commitment(b"x" * 32, made.held_out.sha256, request_of_rows),
        held_out_commitment(SALT, made.train.sha256, request_of_rows),
        *(
            held_out_commitment(SALT, made.held_out.sha256, other)
            for other in (
                replace(request_of_rows, dataset={}),
                replace(request_of_rows, parameters={}),
                replace(request_of_rows, hours=7.0),
                replace(request_of_rows, private=False),
                replace(request_of_rows, base="another"),
            )
        ),
    )
    assert expected not in others


def test_limits_reach_the_source(request_of_rows: TaskRequest, tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid, match="more than 102 rows"):
        prepare(INSTRUCT, request_of_rows, salt=SALT, folder=tmp_path / "prepared", limits=DatasetLimits(rows=102))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"type": "chant"}, "There is no task type 'chant'"),
        ({"hours": 0}, "hours: Input should be greater than 0"),
        ({"hours": 48.5}, "hours: Input should be less than or equal to 48"),
        ({"hours": float("nan")}, "hours"),
        ({"base": ""}, "base"),
        ({"dataset": "hub:nothing"}, "dataset"),
        ({"parameters": {"max_tokens": 1}}, "parameters.max_tokens"),
        ({"parameters": {"columns": {"outptu": "a"}}}, "parameters.columns.outptu"),
        ({"priority": 1}, "priority: Extra inputs are not permitted"),
    ],
)
def test_a_spec_that_breaks_its_schema_names_the_field(spec: dict[str, object], said: str) -> None:
    good: dict[str, object] = {"type": "instruct", "base": "nano-lm", "dataset": "rows.jsonl", "hours": 1}
    with pytest.raises(TaskInvalid, match=said):
        validate_request(good | spec)  # type: ignore[arg-type]  # some of it is not JSON on purpose
    validate_request(good)  # type: ignore[arg-type]  # as above


def test_a_request_is_its_own_normal_form(request_of_rows: TaskRequest) -> None:
    again = validate_request(
        {
            "type": request_of_rows.type,
            "base": request_of_rows.base,
            "dataset": request_of_rows.dataset,
            "hours": request_of_rows.hours,
            "parameters": request_of_rows.parameters,
        }
    )
    assert again == request_of_rows


@pytest.mark.parametrize(
    ("most", "raced", "held_out"), [(None, True, 30), (20, True, 20), (1000, True, 30), (20, False, 30)]
)
def test_a_validator_may_say_how_many_rows_are_held_out_where_a_field_can_be_raced(
    tmp_path: Path, most: int | None, raced: bool, held_out: int
) -> None:
    file = tmp_path / "rows.jsonl"
    lines = [json.dumps({"q": f"How is {word} spelt {word * 2}?", "a": word}) for word in map(_word, range(300))]
    file.write_text("\n".join(lines), encoding="utf-8")
    columns = {"instruction": "q", "output": "a"}
    request = validate_request(
        {"type": "instruct", "base": "nano-lm", "dataset": str(file), "hours": 1, "parameters": {"columns": columns}}
    )
    kind = replace(INSTRUCT, by_blocks=raced)
    fetched = fetch_sources(kind, request, tmp_path / "fetched")
    made = prepare_fetched(kind, request, fetched, salt=SALT, folder=tmp_path / "made", most_held_out=most)
    assert (made.train_rows + made.held_out_rows, made.held_out_rows) == (300, held_out)


def _word(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:12]
