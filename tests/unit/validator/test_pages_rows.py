"""Held-out rows, archives, sheets and rewards on pages: whose they are, text that is never markup, and what is said when files are gone."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import struct
import tarfile
import zlib
from html import unescape
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from safetensors.numpy import save

from gradients.bases.bases import BaseModels
from gradients.client.estimates import Estimate
from gradients.client.models import examples
from gradients.domain.customer import Scope
from gradients.domain.json import JsonObject
from gradients.domain.submission import BASE_ENTRANT
from gradients.domain.task import TaskState
from gradients.execution.inline import InlineExecutor
from gradients.execution.job import Job, ReportProgress
from gradients.repo.manifest import TrainingSummary, describe_folder
from gradients.repo.store import ContentStore
from gradients.testing.clock import HandClock
from gradients.testing.tiny_models import write_tiny_llama
from tests.unit.validator.exploring import ALICE, BASE, BOB, OURS, ROWS, explored
from tests.unit.validator.market import TASK
from tests.unit.validator.paging import Served, served, token_in
from validator.api.archives import Archive, Member
from validator.ledger import Ledger
from validator.pages.app import site

EVIL = "<img src=x onerror=alert(1)>\u202e\x1b[31m"


def png(width: int, height: int) -> bytes:
    """A black picture of this size."""

    def chunk(name: bytes, content: bytes) -> bytes:
        body = name + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    pixels = zlib.compress(b"".join(b"\x00" + bytes(width) for _ in range(height)))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


class Judge:
    """An executor whose rewards give each answer the share of letters in it."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    async def run(self, job: Job, *, report: ReportProgress) -> JsonObject:
        self.jobs.append(job)
        rows, answers = (
            cast(list[JsonObject], job.arguments["rows"]),
            cast(list[list[str]] | None, job.arguments["answers"]),
        )
        given = answers or [["", str(row["prompt"])] for row in rows]
        told: list[JsonObject] = [
            {
                "row": number,
                "prompt": str(row["prompt"]),
                "answers": [
                    {"answer": text, "reward": 0.25, "scores": [0.25, None], "failures": [f"length: {EVIL}"]}
                    for text in asked
                ],
            }
            for number, (row, asked) in enumerate(zip(rows, given, strict=True), start=1)
        ]
        return {"rewards": ["length", "custom"], "rows": told}


@pytest.fixture
def pages(tmp_path: Path, ledger: Ledger, clock: HandClock) -> Served:
    return served(tmp_path, ledger, clock, executor=InlineExecutor(), bases=BaseModels(tmp_path, tmp_path))


def test_a_customer_sees_rows_by_gain_and_finds_them_from_the_task(pages: Served) -> None:
    explored(pages, {BASE_ENTRANT: BASE, ALICE: OURS, BOB: BASE})
    with pages.customer() as owner:
        assert f'href="/tasks/{TASK}/rows"' in owner.get(f"/tasks/{TASK}").text
        text = owner.get(f"/tasks/{TASK}/rows").text
        assert re.findall(r'id="row-(\d)"', text) == ["1", "4", "3", "2"]
        assert "+2.0000 better" in text
        assert "-0.5000 worse" in text
        assert "+0.0000 the same" in text
        assert "Which number is zero?" in text
        assert "base 3.0000, uid 1 (place 1): 1.0000" in text
        lost = owner.get(f"/tasks/{TASK}/rows?order=lost&miner={ALICE}").text
        assert re.findall(r'id="row-(\d)"', lost) == ["2", "3", "4", "1"]
        assert re.findall(r'id="row-(\d)"', owner.get(f"/tasks/{TASK}/rows?after=3").text) == ["2"]
        assert "no more rows" in owner.get(f"/tasks/{TASK}/rows?after=9").text
        assert "uid 2 (place 2): 3.0000" in owner.get(f"/tasks/{TASK}/rows/1").text
        assert owner.get(f"/tasks/{TASK}/rows/5").status_code == 404


def test_pages_of_rows_are_the_customers_alone_and_wait_for_the_score(pages: Served) -> None:
    explored(pages, {BASE_ENTRANT: BASE, ALICE: OURS}, state=TaskState.MEASURED)
    secret = "Which number is"
    paths = [f"/tasks/{TASK}/rows", f"/tasks/{TASK}/rows/1", f"/tasks/{TASK}/rows/1/picture?field=prompt"]
    with pages.visitor() as stranger, pages.customer("rival") as rival, pages.customer() as owner:
        for path in paths:
            assert stranger.get(path).status_code == 303
            assert rival.get(path).status_code == 404
            early = owner.get(path)
            assert early.status_code == 404
            assert secret not in early.text
        with pages.ledger.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE tasks SET state = 'scored'")
        for reader in (stranger, rival):
            assert secret not in reader.get(f"/tasks/{TASK}").text
            assert all(secret not in reader.get(path).text for path in paths)
        assert secret in owner.get(paths[0]).text


def test_a_rows_text_is_never_markup_and_a_long_one_can_be_seen_whole(pages: Served) -> None:
    end = "the very end"
    long: JsonObject = {
        "completion": "answered",
        "prompt": EVIL,
        EVIL: [{"completion": "w" * 3_000 + end}],
        "reference": {"count": 3},
    }
    explored(pages, {BASE_ENTRANT: BASE, ALICE: OURS}, [long, *ROWS[1:]])
    with pages.customer() as owner:
        listed, whole = owner.get(f"/tasks/{TASK}/rows").text, owner.get(f"/tasks/{TASK}/rows/1").text
    for text in (listed, whole):
        assert "<img" not in text
        assert "\u202e" not in text
        assert "\x1b" not in text
        assert "&lt;img src=x onerror=alert(1)&gt;" in text
        assert "reference, count" in text
    assert (
        listed.index("<dt>prompt</dt>")
        < listed.index("<dt>reference, count</dt>")
        < listed.index("<dt>completion</dt>")
    )
    assert "w" * 2_000 not in listed
    assert re.search(rf'href="/tasks/{TASK}/rows/1\?miner={ALICE}"[^>]*hx-select="#row-1"', listed)
    assert "w" * 3_000 + end in whole
    assert "The whole row" not in whole


def test_rows_that_are_no_longer_kept_are_told_of_in_words_with_their_numbers(pages: Served) -> None:
    digest = explored(pages, {BASE_ENTRANT: BASE, ALICE: OURS})
    ContentStore(pages.folders.blobs).path(digest).unlink()
    with pages.customer() as owner:
        for path in (f"/tasks/{TASK}/rows", f"/tasks/{TASK}/rows/1"):
            text = owner.get(path).text
            assert "no longer kept here; their numbers are" in text
            assert "48 hours after its end" in text
            assert "+2.0000 better" in text
            assert "Which number" not in text


def test_a_picture_in_a_row_is_shown_and_nothing_else_is_given_out_as_one(pages: Served) -> None:
    drawn = png(16, 16)
    rows = [{"caption": f"{n}", "image": base64.b64encode(drawn).decode(), "script": "PHNjcmlwdD4="} for n in range(4)]
    explored(pages, {BASE_ENTRANT: BASE, ALICE: OURS}, rows)
    with pages.customer() as owner:
        text = owner.get(f"/tasks/{TASK}/rows").text
        address = f"/tasks/{TASK}/rows/1/picture?field=image"
        assert f'src="{address}" alt="the picture of row 1" width="192" height="192" loading="lazy"' in text
        assert "The whole row" not in text  # the picture is
        answer = owner.get(address)
        assert (answer.content, answer.headers["content-type"]) == (drawn, "image/png")
        assert answer.headers["x-content-type-options"] == "nosniff"
        for field in ("script", "caption", "nothing"):
            assert owner.get(f"/tasks/{TASK}/rows/1/picture?field={field}").status_code == 404


def test_a_contact_sheet_is_a_picture_with_room_left_for_it(pages: Served, tmp_path: Path) -> None:
    explored(pages, {BASE_ENTRANT: BASE, ALICE: OURS})
    sheet = pages.folders.contact_sheet(TASK)
    sheet.parent.mkdir(parents=True)
    with pages.customer() as owner, pages.visitor() as stranger:
        assert "Contact sheet" not in owner.get(f"/tasks/{TASK}").text
        (tmp_path / "elsewhere.png").write_bytes(png(30, 20))
        sheet.symlink_to(tmp_path / "elsewhere.png")
        assert "Contact sheet" not in owner.get(f"/tasks/{TASK}").text
        sheet.unlink()
        sheet.write_bytes(b"not a picture, and long enough")
        assert "Contact sheet" not in owner.get(f"/tasks/{TASK}").text
        sheet.write_bytes(png(30, 20))
        shown = f'src="/tasks/{TASK}/contact-sheet" alt='
        assert re.search(rf'{shown}"[^"]+" width="30" height="20" loading="lazy"', owner.get(f"/tasks/{TASK}").text)
        assert shown not in stranger.get(f"/tasks/{TASK}").text


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 3 * (1 << 20) + 7])
def test_an_archive_is_as_long_as_it_was_said_to_be_and_any_tar_reads_it(tmp_path: Path, size: int) -> None:
    content = bytes(number % 251 for number in range(size))
    (tmp_path / "weights").write_bytes(content)
    members = [Member("README.md", 5, b"words"), Member("a" * 120, size, tmp_path / "weights")]
    archive = Archive("model", members, 1_790_000_000.5)
    chunks = list(archive.chunks())
    assert max(map(len, chunks)) <= 1 << 20
    whole = b"".join(chunks)
    assert len(whole) == archive.size_bytes
    with tarfile.open(fileobj=io.BytesIO(whole)) as read:
        found = {each.name: (read.extractfile(each), each.mtime, each.mode) for each in read.getmembers()}
        assert {name: (file.read() if file else None, *more) for name, (file, *more) in found.items()} == {
            "model/README.md": (b"words", 1_790_000_000, 0o644),
            f"model/{'a' * 120}": (content, 1_790_000_000, 0o644),
        }


def test_an_archive_whose_file_has_shrunk_ends_too_early_instead_of_looking_whole(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"short")
    with pytest.raises(EOFError, match="weights has become shorter"):
        list(Archive("model", [Member("weights", 9, tmp_path / "weights")], 0.0).chunks())


def test_a_model_is_downloaded_as_one_archive_with_digests_by_its_customer(
    tmp_path: Path, ledger: Ledger, clock: HandClock
) -> None:
    write_tiny_llama(tmp_path / "bases" / "tiny")
    bases = BaseModels(shipped=tmp_path / "bases", cache=tmp_path / "cache")
    pages = served(tmp_path, ledger, clock, executor=InlineExecutor(), bases=bases)
    explored(pages, {BASE_ENTRANT: BASE, ALICE: OURS})
    _hand_in(pages)
    key = ledger.customers.issue("acme", scopes=[Scope.READ])
    with pages.customer() as owner, pages.customer("rival") as rival, pages.visitor() as api:
        path = f"/tasks/{TASK}/models/best/archive.tar"
        assert f'href="{path}"' in owner.get(f"/tasks/{TASK}").text
        assert f'href="/tasks/{TASK}/models/{ALICE}/archive.tar"' in owner.get(f"/tasks/{TASK}/models/best").text
        assert rival.get(path).status_code == 404
        assert api.get(f"/v1{path}").status_code == 401
        answer = owner.get(path)
        assert answer.content == api.get(f"/v1{path}", headers={"authorization": f"Bearer {key}"}).content
        listing = api.get(f"/v1/tasks/{TASK}/models/best", headers={"authorization": f"Bearer {key}"}).json()
    folder = f"{TASK}-{ALICE[:8]}"
    assert answer.headers["content-type"] == "application/x-tar"
    assert answer.headers["content-length"] == str(len(answer.content))
    assert answer.headers["content-disposition"] == f'attachment; filename="{folder}.tar"'
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as read:
        contents = {each.name: read.extractfile(each) for each in read.getmembers()}
        files = {name.removeprefix(f"{folder}/"): file.read() for name, file in contents.items() if file}
    sums = files.pop("SHA256SUMS").decode().splitlines()
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    assert digests == {name: file["sha256"] for name, file in listing["files"].items()}
    assert sums == [f"{digest}  {name}" for name, digest in sorted(digests.items())]
    assert "adapter_model.safetensors" in files


def test_an_estimate_shows_how_many_rows_are_how_long(pages: Served) -> None:
    example = Estimate.model_validate(examples()["Estimate"])
    assert example.data is not None
    characters = example.data.characters
    tokens = characters.model_copy(update={"rows": 7, "histogram": characters.histogram[:1]})
    found = example.model_copy(update={"data": example.data.model_copy(update={"tokens": tokens})})
    text = bytes(site().page("estimate.html", found=found, problem=None).body).decode()
    for lengths in (tokens, characters):
        most = max(bar.rows for bar in lengths.histogram)
        for bar in lengths.histogram:
            width = f'<rect width="{100 * bar.rows / most:.2f}" height="8" />'
            assert re.search(
                rf'up to {bar.up_to:,}</th><td><svg[^>]*>{width}</svg></td><td class="n">{bar.rows:,}<', text
            )
    assert "Rows by their tokens, of 7 that were looked at" in text


def test_rewards_are_tried_from_the_form_that_is_being_filled_in(
    tmp_path: Path, ledger: Ledger, clock: HandClock
) -> None:
    judge = Judge()
    pages = served(tmp_path, ledger, clock, executor=judge, bases=BaseModels(tmp_path, tmp_path))
    rewards = [{"kind": "length", "at_least": 1, "at_most": 9}]
    with pages.customer() as customer:
        assert "Try the rewards" not in customer.get("/new?type=instruct").text
        page = customer.get("/new?type=grpo").text
        example = re.search(r'<textarea id="rows"[^>]*>([^<]+)</textarea>', page)
        assert example is not None
        assert all("question" in json.loads(line) for line in unescape(example[1]).splitlines())
        form = {
            "csrf": token_in(page),
            "type": "grpo",
            "parameters.rewards": json.dumps(rewards),
            "rows": '{"prompt": "one"}\r\n\r\n{"prompt": "two"}',
            "answers": f"short\r\n{EVIL}",
        }
        text = customer.post("/new/rewards", data=form, headers={"hx-request": "true"}).text
        assert "<html" not in text
        assert "<img" not in text
        assert text.count("<strong>0.250</strong>") == 4
        assert "Row 2: two" in text
        assert text.count(">failed<") == 4
        customer.post("/new/rewards", data={**form, "answers": '["two\\nlines"]'})
        customer.post("/new/rewards", data={**form, "answers": " "})
    asked = [job.arguments for job in judge.jobs]
    assert [each["rows"] for each in asked] == [[{"prompt": "one"}, {"prompt": "two"}]] * 3
    assert [each["answers"] for each in asked] == [[["short", EVIL]] * 2, [["two\nlines"]] * 2, None]
    told = cast(list[JsonObject], cast(JsonObject, asked[0]["parameters"])["rewards"])
    assert (told[0]["kind"], told[0]["at_most"]) == ("length", 9)
    assert ledger.tasks.count() == 0


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"rows": '{"prompt": "one"}\n{broken'}, "Line 2 of the rows cannot be read as JSON"),
        ({"rows": "3"}, "rows.0"),
        ({"rows": ""}, "rows"),
        ({"answers": "[3]"}, "not a JSON list of texts"),
        ({"answers": "one\ntwo\nthree\nfour\nfive"}, "at most 4 answers"),
        ({"type": "instruct"}, "have no rewards"),
        ({"parameters.rewards": "[]"}, "rewards"),
    ],
)
def test_a_trial_that_cannot_be_made_says_why_beside_the_form(
    tmp_path: Path, ledger: Ledger, clock: HandClock, fields: dict[str, str], said: str
) -> None:
    judge = Judge()
    pages = served(tmp_path, ledger, clock, executor=judge, bases=BaseModels(tmp_path, tmp_path))
    with pages.customer() as customer:
        form = {
            "csrf": token_in(customer.get("/new").text),
            "type": "grpo",
            "parameters.rewards": '[{"kind": "length", "at_least": 1, "at_most": 9}]',
            "rows": '{"prompt": "one"}',
            "answers": "",
            **fields,
        }
        answer = customer.post("/new/rewards", data=form, headers={"hx-request": "true"})
    assert answer.status_code == 200
    assert said in unescape(answer.text)
    assert "message bad" in answer.text
    assert judge.jobs == []


def _hand_in(pages: Served) -> None:
    """Alice's adapter, in the folder and in the ledger."""
    folder = pages.folders.submission(TASK, ALICE)
    folder.mkdir(parents=True)
    layer = "base_model.model.model.layers.0.self_attn.q_proj"
    tensors = {f"{layer}.lora_{side}.weight": np.ones((2, 2), np.float32) for side in "AB"}
    (folder / "adapter_model.safetensors").write_bytes(save(tensors))
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4}))
    about = describe_folder(
        folder, task_id=TASK, hotkey=ALICE, base_digest="b" * 64, kind="adapter", training=TrainingSummary()
    )
    with pages.ledger.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE submissions SET manifest = :text", {"text": about.text()})
