"""The pages over HTTP: who sees what, forms of other sites, and strangers' text that is never markup."""

from __future__ import annotations

import asyncio
import html
import re
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

from gradients.axon.messages import AttemptStatus
from gradients.bases.bases import BaseModels
from gradients.doctor.findings import Finding, Level
from gradients.domain.customer import Scope
from gradients.domain.failure import Failure
from gradients.domain.json import Json
from gradients.domain.submission import SubmissionState
from gradients.domain.task import Blob, Hotkey, TaskId, TaskState
from gradients.errors import Blame
from gradients.execution.inline import InlineExecutor
from gradients.repo.store import ContentStore
from gradients.tasks.registry import TYPES
from gradients.testing.axons import keypair_of
from gradients.testing.clock import HandClock
from gradients.testing.tiny_models import write_tiny_llama
from tests.unit.validator.market import PREPARED, TASK, assigned, claimed, found, request_for
from tests.unit.validator.paging import Served, measured, scored, served, token_in
from validator.api.rates import OwnRates
from validator.ledger import Ledger
from validator.pages.sessions import COOKIE, HOURS
from validator.settings import ValidatorSettings
from validator.wiring import build

ALICE, BOB = (Hotkey(keypair_of(name).ss58_address) for name in ("alice", "bob"))
PUBLIC = ("/", "/leaderboard", "/tasks", "/tasks?state=assigned&type=instruct", f"/tasks/{TASK}", "/sign-in", "/api")
SIGNED_IN = ("/account", "/new", "/tasks?mine=true", *(f"/new?type={kind}" for kind in TYPES))
EVIL = "<img src=x onerror=alert(1)>'\"&"


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> BaseModels:
    folder = tmp_path_factory.mktemp("bases")
    write_tiny_llama(folder / "tiny")
    return BaseModels(shipped=folder, cache=folder / "cache")


@pytest.fixture
def pages(tmp_path: Path, ledger: Ledger, clock: HandClock, bases: BaseModels) -> Served:
    return served(tmp_path, ledger, clock, executor=InlineExecutor(), bases=bases)


def test_every_page_is_a_whole_page_that_allows_scripts_of_this_site_only(pages: Served, clock: HandClock) -> None:
    scored(pages.ledger, clock, {ALICE: 2.0, BOB: 2.5})
    with pages.customer() as customer:
        for path in (*PUBLIC, *SIGNED_IN):
            answer = customer.get(path)
            assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8"), path
            assert "script-src 'self'" in answer.headers["content-security-policy"]
            assert answer.headers["cache-control"] == "no-store"
            assert "</html>" in answer.text
            assert not re.search(
                r"<script(?![^>]* src=)|\son\w+=|\sstyle=|javascript:|(?:src|href|action)=.https?://", answer.text
            ), path
            loaded = re.findall(r'(?:src|rel="stylesheet" href)="([^"]+)"', answer.text)
            assert len(loaded) == 5
            assert all(customer.get(html.unescape(each)).status_code == 200 for each in loaded)


def test_a_validator_serves_pages_beside_its_api_unless_its_operator_says_otherwise(tmp_path: Path) -> None:
    def first_page(**more: Json) -> tuple[int, str]:
        flags: dict[str, Json] = {
            "folder": str(tmp_path),
            "sandbox": "off",
            "chain": {"network": "ws://127.0.0.1:1"},
            "wallet": {"name": "//Alice", "hotkey": "//Alice"},
            **more,
        }
        daemon = build(ValidatorSettings.load(None, flags))
        answer = TestClient(daemon.api_app).get("/", headers={"accept": "text/html"})
        asyncio.run(daemon.client.close())
        return answer.status_code, answer.headers["content-type"]

    assert first_page() == (200, "text/html; charset=utf-8")  # the chain was never read
    assert first_page(pages={"serve": False}) == (404, "application/json")


def test_every_control_has_a_name_and_every_page_one_heading(pages: Served, clock: HandClock) -> None:
    scored(pages.ledger, clock, {ALICE: 2.0})
    with pages.customer() as customer:
        for path in (*PUBLIC, *SIGNED_IN):
            text = customer.get(path).text
            assert text.count("<h1>") == 1, path
            labelled = set(re.findall(r'<label[^>]* for="([^"]+)"', text))
            controls = re.findall(r"<(?:input|select|textarea)\b[^>]*>", text)
            free = [each for each in controls if 'type="hidden"' not in each and 'type="checkbox"' not in each]
            assert [each for each in free if re.search(r'id="([^"]+)"', each)[1] not in labelled] == [], path  # type: ignore[index]


def test_pages_of_a_customer_lead_to_where_one_signs_in_and_back(pages: Served) -> None:
    with pages.visitor() as stranger:
        for path in ("/account", "/new"):
            answer = stranger.get(path)
            assert (answer.status_code, answer.headers["location"]) == (303, f"/sign-in?then={path}")
        assert stranger.post("/new", data={"csrf": "x"}).status_code == 303
        assert stranger.post("/sign-in", data={"key": "gr_guessed"}).status_code == 401
        assert COOKIE not in stranger.cookies
        key = pages.ledger.customers.issue("acme")
        for then in ("https://evil.example/", "//evil.example", "/\\evil.example", "/\x0bx"):
            assert stranger.post("/sign-in", data={"key": key, "then": then}).headers["location"] == "/"


def test_a_cookie_holds_no_key_and_ends_by_the_servers_clock(pages: Served, clock: HandClock) -> None:
    key = pages.ledger.customers.issue("acme")
    with pages.visitor(key) as visitor:
        cookie = str(visitor.cookies[COOKIE])
        assert key not in cookie
        assert visitor.get("/account").status_code == 200
        clock.time += HOURS * 3600 + 1
        visitor.cookies.set(COOKIE, cookie, domain="127.0.0.1")  # a browser that forgets to forget
        assert visitor.get("/account").status_code == 303


def test_signing_out_ends_the_session_for_a_copied_cookie_too(pages: Served) -> None:
    with pages.customer() as visitor, pages.visitor() as thief:
        cookie = str(visitor.cookies[COOKIE])
        assert visitor.post("/sign-out", data={"csrf": token_in(visitor.get("/account").text)}).status_code == 303
        assert COOKIE not in visitor.cookies
        thief.cookies.set(COOKIE, cookie)
        assert thief.get("/account").status_code == 303


def test_a_cookie_is_for_no_script_no_other_site_and_elsewhere_than_on_this_machine_for_tls_only(pages: Served) -> None:
    key = pages.ledger.customers.issue("acme")
    with pages.visitor() as visitor:
        here = visitor.post("/sign-in", data={"key": key}).headers["set-cookie"].lower()
        there = visitor.post("http://validator.example/sign-in", data={"key": key}).headers["set-cookie"].lower()
    assert {"httponly", "samesite=strict"} <= set(here.split("; "))
    assert "secure" not in here
    assert "secure" in there.split("; ")


def test_a_revoked_key_ends_its_sessions(pages: Served) -> None:
    key = pages.ledger.customers.issue("acme")
    with pages.visitor(key) as visitor:
        assert visitor.get("/account").status_code == 200
        pages.ledger.customers.revoke(key)
        assert visitor.get("/account").status_code == 303


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ({}, "0" * 64),
        ({}, ""),
        ({"origin": "https://evil.example"}, None),
        ({"origin": "null"}, None),
        ({"sec-fetch-site": "cross-site"}, None),
    ],
)
@pytest.mark.parametrize(
    "path",
    [
        "/sign-out",
        "/new",
        "/new/estimate",
        "/new/rewards",
        f"/tasks/{TASK}/try",
        f"/tasks/{TASK}/votes",
        f"/tasks/{TASK}/cancel",
    ],
)
def test_a_form_of_another_site_or_session_does_nothing(
    pages: Served, path: str, headers: dict[str, str], token: str | None
) -> None:
    assigned(pages.ledger, [ALICE])
    with pages.customer() as customer:
        own = token_in(customer.get("/account").text)
        answer = customer.post(path, data={"csrf": own if token is None else token}, headers=headers)
        assert answer.status_code == 422
        assert "message bad" in answer.text
        assert customer.get("/account").status_code == 200
    assert pages.ledger.tasks.count() == 1


def test_another_site_cannot_sign_a_browser_in(pages: Served) -> None:
    key = pages.ledger.customers.issue("mallory")
    with pages.visitor() as visitor:
        answer = visitor.post("/sign-in", data={"key": key}, headers={"origin": "https://evil.example"})
        assert answer.status_code == 422
        assert COOKIE not in visitor.cookies


@pytest.mark.parametrize("state", [TaskState.ASSIGNED, TaskState.COLLECTED, TaskState.MEASURED])
def test_pages_of_a_running_task_show_no_held_out_row_no_score_and_to_strangers_no_miner(
    pages: Served, state: TaskState, tmp_path: Path
) -> None:
    store, secret_row = ContentStore(pages.folders.blobs), "zebras dislike umbrellas"
    file = tmp_path / "held-out"
    file.write_text(secret_row)
    digest = store.add_file(file)
    prepared = replace(PREPARED, held_out=Blob(digest, len(secret_row)))
    values: dict[str, float | Failure] = {ALICE: 1.2345678, BOB: 1.3456789}
    if state is TaskState.MEASURED:
        measured(pages.ledger, values, base=3.4567891)
    else:
        assigned(pages.ledger, list(values), prepared=prepared)
    pages.told.words[ALICE] = AttemptStatus(
        task_id=TASK, phase="training", recipe="lora", fraction=0.5, step=7, loss=9.8765
    )
    pages.told.losses[ALICE] = [(1, 11.25), (2, 9.8765)]
    if state is TaskState.COLLECTED:
        lease = claimed(pages.ledger, TaskState.ASSIGNED).lease
        pages.ledger.tasks.advance(lease, came_from=TaskState.ASSIGNED, to=TaskState.COLLECTED)

    unrevealed = ("1.23", "1.34", "3.45", secret_row, digest)
    with pages.visitor() as stranger, pages.customer("rival") as rival, pages.customer() as owner:
        for path in (*PUBLIC, f"/tasks/{TASK}/models/best", f"/tasks/{TASK}/models/{ALICE}/adapter_model.safetensors"):
            for reader in (stranger, rival):
                seen = reader.get(path).text
                assert [word for word in (*unrevealed, ALICE, BOB, "9.876", "11.25") if word in seen] == [], path
            assert [word for word in unrevealed if word in owner.get(path).text] == [], path
        assert ("9.876" in owner.get(f"/tasks/{TASK}").text) is True
        assert ALICE in owner.get(f"/tasks/{TASK}").text


def test_the_first_page_says_what_the_validator_lacks_for_its_work_and_no_longer_when_it_is_mended(
    pages: Served,
) -> None:
    states: tuple[tuple[Level, bool], ...] = (("missing", True), ("ok", False))
    for level, told in states:
        for name in ("permit", "chain"):
            pages.conditions.update(name, [Finding(name, level, "as the chain says", "stake more")])
        with pages.visitor() as visitor:
            text = visitor.get("/").text
            assert ("The validator cannot do its work now; it lacks: permit, chain." in text) == told
            assert visitor.get("/readyz").status_code == (503 if told else 200)


def test_a_model_that_was_dropped_has_since_when_in_the_place_of_its_links(pages: Served, clock: HandClock) -> None:
    scored(pages.ledger, clock, {ALICE: 2.0, BOB: 2.5})
    clock.time = 1_770_000_000.0
    winner, second = (f"/tasks/{TASK}/models/{name}" for name in ("best", BOB))
    with pages.customer() as owner:
        kept = owner.get(f"/tasks/{TASK}").text
        pages.ledger.submissions.drop(TASK, ALICE)
        dropped, refused = owner.get(f"/tasks/{TASK}"), owner.get(winner)
    assert (winner in kept, second in kept, "no longer kept since" in kept) == (True, True, False)
    assert (winner in dropped.text, second in dropped.text) == (False, True)
    assert ("can be downloaded" in kept, "The best model is no longer kept" in kept) == (True, False)
    assert ("can be downloaded" in dropped.text, "The best model is no longer kept" in dropped.text) == (False, True)
    assert f"continues={TASK}" not in dropped.text  # nobody goes on from what is gone
    assert (
        dropped.text.count("no longer kept since 2026-02-02 02:40 UTC") == 2
    )  # beside its result, and where the winner was taken
    assert refused.status_code == 410
    assert f"The model of {ALICE} is no longer kept since 2026-02-02 02:40 UTC" in html.unescape(refused.text)


def test_a_scored_task_shows_results_with_intervals_and_reasons_in_full(pages: Served, clock: HandClock) -> None:
    reason = "the manifest names a file that is not there, " * 12
    values: dict[str, float | Failure] = {ALICE: 2.0, BOB: Failure(Blame.MINER, "missing_file", reason)}
    scored(pages.ledger, clock, values)
    with pages.visitor() as stranger:
        text = stranger.get(f"/tasks/{TASK}").text
    assert "2.0000" in text
    assert "± 0.0196" in text  # 1.96 standard errors of 0.01
    assert re.search(r"\+33\.3%, between \+33\.\d% and \+33\.\d%", text)  # (3 - 2) / 3, from differences row by row
    assert "100.0%" in text
    assert f"missing_file: {reason.strip()}" in text
    assert "hx-trigger" not in text  # nothing more will happen


def test_what_a_private_tasks_failure_says_is_for_its_customer(pages: Served) -> None:
    pages.ledger.tasks.create(TASK, request_for(dataset="/srv/uploads/rows.jsonl"), customer="acme", salt=b"s" * 32)
    lease = claimed(pages.ledger, TaskState.DRAFT).lease
    failure = Failure(Blame.CUSTOMER, "wrong_type", "Row 3 is 'my secret recipe', not text")
    pages.ledger.tasks.advance(lease, came_from=TaskState.DRAFT, to=TaskState.FAILED, failure=failure)
    with pages.visitor() as stranger, pages.customer() as owner:
        for path in ("/", "/tasks", f"/tasks/{TASK}"):
            seen = stranger.get(path).text
            assert "secret recipe" not in seen
        assert "wrong_type" in seen
        assert "rows.jsonl" not in seen
        told = owner.get(f"/tasks/{TASK}").text
    assert "my secret recipe" in told
    assert "rows.jsonl" in told
    assert "/srv" not in told  # nobody is told a path of this machine


def test_strangers_text_is_never_markup(pages: Served, clock: HandClock) -> None:
    request = replace(request_for(base=EVIL, dataset=EVIL))
    scored(pages.ledger, clock, {ALICE: 2.0, BOB: Failure(Blame.MINER, "bad", f"{EVIL}\x1b[31m\u202e")}, request)
    running = TaskId("instruct-ffffffffffff")
    assigned(pages.ledger, [ALICE], request, task_id=running)
    words = AttemptStatus(task_id=running, phase="training", recipe=EVIL, fraction=0.5, step=1, loss=1.0, problem=EVIL)
    pages.told.words[ALICE] = words
    pages.told.losses["</data><script>alert(1)</script>"] = [(1, 1.0)]
    key = pages.ledger.customers.issue(EVIL[:64])
    with pages.customer() as owner, pages.visitor(key) as evil:
        for reader in (owner, evil):
            for path in (*PUBLIC, f"/tasks/{running}", "/account", "/new"):
                seen = reader.get(path).text
                assert "<img" not in seen
                assert "<script>" not in seen
                assert "\x1b" not in seen
                assert "\u202e" not in seen
        assert html.escape(EVIL, quote=False).partition("'")[0] in owner.get(f"/tasks/{running}").text
        form = {
            "csrf": token_in(owner.get("/new").text),
            "type": "instruct",
            "base": EVIL,
            "dataset": EVIL,
            "hours": EVIL,
        }
        answer = owner.post("/new", data=form)
        assert answer.status_code == 422
        assert "<img" not in answer.text


def test_a_task_that_is_not_there_or_anothers_model_is_a_page_for_people_and_json_for_scripts(pages: Served) -> None:
    assigned(pages.ledger, [ALICE])
    with pages.customer("rival") as rival:
        for path in ("/tasks/instruct-000000000000", f"/tasks/{TASK}/models/best", "/nowhere"):
            answer = rival.get(path)
            assert answer.status_code == 404
            assert "<h1>Not Found</h1>" in answer.text
            assert rival.get(path, headers={"accept": "application/json"}).json()["code"] in ("not_found", "http_404")
        assert rival.get("/v1/tasks").json()["code"] == "key_refused"  # a session is not a key for the API
        assert rival.request("PATCH", "/v1/tasks").status_code == 405


def test_a_form_that_is_sent_twice_posts_one_task_and_one_with_another_task_in_it_posts_that(pages: Served) -> None:
    with pages.customer() as customer:
        page = customer.get("/new").text
        shown = re.search('name="shown" value="([^"]+)"', page)
        assert shown is not None
        form = {"csrf": token_in(page), "type": "instruct", "base": "tiny", "dataset": "hub:acme/rows", "hours": "1"}
        form |= {"shown": shown[1], "columns.instruction": "q", "columns.output": "a"}
        first, again = (customer.post("/new", data=form).headers["location"] for _ in range(2))
        other = customer.post("/new", data={**form, "hours": "2"}).headers["location"]
        assert shown[1] not in customer.get("/new").text
    assert first == again != other
    assert pages.ledger.tasks.count() == 2


def test_the_reference_has_every_operation_and_every_body_of_the_document(pages: Served) -> None:
    with pages.visitor() as visitor:
        document, page = visitor.get("/openapi.json").json(), visitor.get("/api").text
    operations = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    assert set(re.findall(r"<summary><code>([^<]+)</code>", page)) == operations
    anchors = set(re.findall(r'<h3 id="(\w+)">', page))
    assert anchors == set(document["components"]["schemas"])
    assert set(re.findall(r'href="#(\w+)"', page)) - {"content"} <= anchors
    assert {"/openapi.json", "/llms.txt"} <= set(re.findall(r'href="([^"]+)"', page.partition("<footer>")[2]))


def test_pages_are_not_in_the_document_of_the_api(pages: Served) -> None:
    with pages.visitor() as visitor:
        paths = visitor.get("/openapi.json").json()["paths"]
    assert all(path.startswith(("/v1", "/llms", "/livez", "/readyz", "/version", "/metrics")) for path in paths)


def test_the_list_goes_on_from_page_to_page_without_a_gap(pages: Served) -> None:
    ids = [TaskId(f"instruct-{number:012x}") for number in range(120)]
    for task_id in ids:  # all in one moment of the clock
        pages.ledger.tasks.create(task_id, request_for(), customer="acme", salt=b"s" * 32)
    seen: list[str] = []
    path: str | None = "/tasks?state=draft&type=instruct"
    with pages.visitor() as visitor:
        while path is not None:
            text = visitor.get(path).text
            seen += re.findall(r'href="/tasks/(instruct-[0-9a-f]{12})"', text)
            more = re.search(r'href="([^"]+)">Older ones', text)
            path = html.unescape(more[1]) if more else None
        assert visitor.get("/tasks?state=scored").text.count("instruct-") == 0
        assert visitor.get("/tasks?type=dpo").text.count("/tasks/instruct-") == 0
        assert visitor.get("/tasks?before=nonsense/x&state=nonsense&type=%25").status_code == 200
    assert seen == sorted(ids)  # of one moment by id


def test_a_search_stays_from_page_to_page_and_finds_what_holds_it(pages: Served) -> None:
    for number in range(60):
        base = f"org/50%_{'odd' if number % 2 else 'even'}"
        pages.ledger.tasks.create(
            TaskId(f"instruct-{number:012x}"), request_for(base=base), customer="acme", salt=b"s" * 32
        )
    with pages.visitor() as visitor:
        assert "Older ones" not in visitor.get("/tasks", params={"search": "50%_ODD"}).text
        text = visitor.get("/tasks", params={"search": "50%_"}).text
        more = re.search(r'href="([^"]+)">Older ones', text)
        assert more is not None
        assert len(re.findall(r'href="/tasks/(instruct-[0-9a-f]{12})"', visitor.get(html.unescape(more[1])).text)) == 10
        assert "There is no such task" in visitor.get("/tasks", params={"search": "' OR 1=1 --"}).text


def test_a_customer_takes_a_task_back_while_it_can(pages: Served) -> None:
    pages.ledger.tasks.create(TASK, request_for(), customer="acme", salt=b"s" * 32)
    with pages.customer() as owner, pages.customer("rival") as rival:
        stolen = {"csrf": token_in(rival.get("/account").text)}
        assert rival.post(f"/tasks/{TASK}/cancel", data=stolen).status_code == 404
        form = {"csrf": token_in(owner.get("/account").text)}
        assert "Take the task back" in owner.get(f"/tasks/{TASK}").text
        assert owner.post(f"/tasks/{TASK}/cancel", data=form).status_code == 303
        assert "Take the task back" not in owner.get(f"/tasks/{TASK}").text
    assert found(pages.ledger).state is TaskState.CANCELLED


def test_a_key_that_may_only_read_posts_and_cancels_nothing(pages: Served) -> None:
    pages.ledger.tasks.create(TASK, request_for(), customer="acme", salt=b"s" * 32)
    with pages.visitor(pages.ledger.customers.issue("acme", scopes=[Scope.READ])) as reader:
        form = {"csrf": token_in(reader.get("/account").text)}
        assert "Take the task back" not in reader.get(f"/tasks/{TASK}").text
        for path in ("/new", "/new/estimate", "/new/rewards", f"/tasks/{TASK}/cancel", "/account/keys"):
            assert reader.post(path, data=form).status_code == 403, path
        assert reader.get("/new").status_code == 403
        assert reader.post("/new/datasets?name=a.jsonl", headers={"x-csrf-token": form["csrf"]}).status_code == 403
    assert pages.ledger.tasks.count() == 1


def test_a_key_with_the_scope_makes_keys_that_are_shown_once_and_revokes_them(pages: Served) -> None:
    with pages.visitor(pages.ledger.customers.issue("acme", scopes=tuple(Scope))) as admin:
        form = {"csrf": token_in(admin.get("/account").text), "name": EVIL, "days": "3", "scope": ["read"]}
        made = admin.post("/account/keys", data=form)
        key = re.search(r"<code>(gr_[\w-]+)</code>", made.text)
        assert key is not None
        assert "<img" not in made.text
        assert key[1] not in admin.get("/account").text
        known = pages.ledger.customers.find(key[1])
        assert known is not None
        assert (known.customer, known.scopes) == ("acme", (Scope.READ,))
        assert admin.post("/account/keys", data={**form, "scope": []}).status_code == 422
        assert admin.post(f"/account/keys/{known.id}/revoke", data=form).status_code == 303
        assert pages.ledger.customers.find(key[1]) is None
        other = pages.ledger.customers.issue("rival")
        theirs = pages.ledger.customers.keys_of("rival")[0].id
        assert admin.post(f"/account/keys/{theirs}/revoke", data=form).status_code == 404
        assert pages.ledger.customers.of_key(other) == "rival"


def test_a_customer_that_asks_too_often_hears_when_to_come_again(
    tmp_path: Path, ledger: Ledger, clock: HandClock, bases: BaseModels
) -> None:
    pages = served(tmp_path, ledger, clock, executor=InlineExecutor(), bases=bases, rates=OwnRates(3))
    with pages.customer() as customer:
        answers = [customer.get("/account") for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert answers[-1].headers["retry-after"] == "20"
        assert customer.get("/").status_code == 200  # what everybody may see is counted by address


def test_only_mine_are_the_signed_in_customers(pages: Served) -> None:
    for number, customer in enumerate(("acme", "rival")):
        pages.ledger.tasks.create(TaskId(f"instruct-{number:012x}"), request_for(), customer=customer, salt=b"s" * 32)
    with pages.customer("rival") as rival:
        text = rival.get("/tasks?mine=true").text
    assert "instruct-000000000001" in text
    assert "instruct-000000000000" not in text


def _post(customer: httpx.Client, **fields: str) -> httpx.Response:
    csrf = token_in(customer.get("/new").text)
    return customer.post("/new", data={"csrf": csrf, "type": "instruct", "base": "tiny", "hours": "0.5", **fields})


def test_a_task_is_posted_by_form_with_the_parameters_of_its_type(pages: Served) -> None:
    fields = {
        "dataset": "hub:org/rows",
        "parameters.columns.instruction": "question",
        "parameters.max_tokens": "256",
        "private": "on",
    }
    with pages.customer() as customer:
        answer = _post(customer, **fields)
        assert answer.status_code == 303, answer.text
        task = found(pages.ledger, answer.headers["location"].removeprefix("/tasks/"))
        assert customer.get(answer.headers["location"]).status_code == 200
    assert task.request.parameters["columns"]["instruction"] == "question"  # type: ignore[call-overload, index]
    assert task.request.parameters["max_tokens"] == 256
    assert (task.request.hours, task.request.private, task.request.base) == (0.5, True, "tiny")
    assert pages.ledger.tasks.customer_of(task.id) == "acme"


def test_a_scored_task_leads_to_a_form_that_goes_on_from_its_model_and_each_page_names_the_other(
    pages: Served, clock: HandClock
) -> None:
    scored(pages.ledger, clock, {ALICE: 2.0, BOB: 2.5})
    pages.folders.submission(TASK, ALICE).mkdir(parents=True, exist_ok=True)
    with pages.customer() as customer:
        assert f"/new?type=instruct&amp;continues={TASK}" in customer.get(f"/tasks/{TASK}").text
        form = customer.get(f"/new?type=instruct&continues={TASK}").text
        assert f'value="task:{TASK}"' in form
        assert 'name="private" checked' in form
        posted = _post(customer, base=f"task:{TASK}", dataset="hub:org/rows", private="on")
        child = posted.headers["location"].rpartition("/")[2]
        assert f'href="/tasks/{TASK}">{TASK}</a>' in customer.get(f"/tasks/{child}").text
        assert f'href="/tasks/{child}">{child}</a>' in customer.get(f"/tasks/{TASK}").text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"dataset": "/etc/passwd"}, "cannot name files"),
        ({"dataset": "hub:org/rows", "parameters.max_tokens": "many"}, "parameters.max_tokens is not a whole number"),
        ({"dataset": "hub:org/rows", "parameters.max_tokens": "3"}, "parameters.max_tokens"),
        ({"dataset": "hub:org/rows", "hours": "-1"}, "hours"),
        ({"dataset": "hub:org/rows", "base": "org/never\x00heard"}, "NUL"),
        ({"dataset": "{broken"}, "dataset is not JSON"),
        ({"dataset": "hub:org/rows", "type": "alchemy"}, "no task type"),
    ],
)
def test_a_form_that_cannot_be_used_comes_back_with_what_is_wrong(
    pages: Served, fields: dict[str, str], said: str
) -> None:
    with pages.customer() as customer:
        answer = _post(customer, **fields)
    assert answer.status_code == 422
    assert said in html.unescape(answer.text)
    assert pages.ledger.tasks.count() == 0
    if "type" not in fields:
        assert 'value="tiny"' in answer.text  # what was filled in stays


def test_a_file_is_uploaded_with_the_sessions_token_and_becomes_a_data_set(pages: Served) -> None:
    with pages.customer() as customer:
        text = customer.get("/new").text
        token = re.search(r'<meta name="csrf" content="([^"]+)"', text)
        assert token is not None
        send = {"content": b'{"a": 1}\n', "params": {"name": "../rows.jsonl"}}
        assert customer.post("/new/datasets", **send).status_code == 422  # type: ignore[arg-type]
        answer = customer.post("/new/datasets", headers={"x-csrf-token": token[1]}, **send)  # type: ignore[arg-type]
    assert answer.status_code == 201
    name = answer.json()["dataset"]
    assert name.startswith("upload:")
    assert pages.ledger.uploads.held_bytes("acme") == 9
    assert (pages.folders.uploads / name.removeprefix("upload:")).read_bytes() == b'{"a": 1}\n'


def test_an_estimate_that_cannot_be_made_says_why_beside_the_form(pages: Served) -> None:
    with pages.customer() as customer:
        csrf = token_in(customer.get("/new").text)
        form = {"csrf": csrf, "type": "instruct", "base": "tiny", "dataset": "upload:nothing"}
        answer = customer.post("/new/estimate", data=form, headers={"hx-request": "true"})
    assert answer.status_code == 200
    assert "upload" in answer.text
    assert "<html" not in answer.text


def test_the_leaderboard_counts_wins_faults_and_pay(pages: Served, clock: HandClock) -> None:
    ids = [TaskId(f"instruct-{number:012x}") for number in range(3)]
    for task_id in ids:
        scored(pages.ledger, clock, {ALICE: 2.0, BOB: Failure(Blame.MINER, "late", "too late")}, task_id=task_id)
    pages.ledger.outbox.decide("weights:1", {"shares": {ALICE: 0.75, BOB: 0.25}, "tasks": list(ids)}, block=40)
    [alice, bob] = pages.ledger.overview.standings(window_blocks=100)
    assert (alice.hotkey, alice.entered, alice.measured, alice.wins) == (ALICE, 3, 3, 3)
    assert (bob.entered, bob.measured, bob.at_fault, bob.wins) == (3, 0, 3, 0)
    with pages.visitor() as stranger:
        text = stranger.get("/leaderboard").text
    # Wilson's interval of 3 of 3: 1 / (1 + 1.96² / 3) = 43.8 % to 100 %
    assert "100.0%, between 43.8% and 100.0% (3 of 3)" in text
    assert "0.0%, between 0.0% and 56.2% (0 of 3)" in text
    assert "75.00%" in text
    assert text.index(ALICE) < text.index(BOB)


def test_submission_states_are_shown_to_the_customer_while_it_runs(pages: Served) -> None:
    assigned(pages.ledger, [ALICE, BOB])
    with pages.customer() as owner, pages.visitor() as stranger:
        mine, theirs = owner.get(f"/tasks/{TASK}").text, stranger.get(f"/tasks/{TASK}").text
    assert mine.count(f">{SubmissionState.STARTED}<") == 2
    assert 'hx-trigger="every 2s"' in mine
    assert "miners in the task" in theirs
