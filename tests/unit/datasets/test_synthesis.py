"""Synthetic rows: what it is shown, what is taken of what it says, and that it can harm no task."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import repeat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from gradients.datasets.access import SynthesisEndpoint
from gradients.datasets.rows import Cleaned, Row
from gradients.datasets.synthesis import MALFORMED, NEAR, Synthetic, synthesise
from gradients.tasks.chat.spec import CHAT, ChatParameters
from gradients.tasks.instruct.spec import INSTRUCT, InstructParameters
from gradients.testing.loopback_site import Page, Request, Site, loopback_site

TRAIN: list[Row] = [
    {"instruction": f"Name the capital of region {i} in the old atlas", "output": f"Town {i}"} for i in range(40)
]
PARAMETERS = InstructParameters()
HELD_OUT: Row = {"instruction": "Which bird sings at night near the mill?", "output": "An owl"}
KNOWN = [row.row for row in INSTRUCT.clean([*TRAIN, HELD_OUT], PARAMETERS).rows]


def _clean(rows: Sequence[Row]) -> Cleaned:
    return INSTRUCT.clean(rows, PARAMETERS)


def _fresh(number: int) -> dict[str, JsonValue]:
    words = f"w{number}a w{number}b w{number}c w{number}d w{number}e"
    return {"instruction": f"Explain {words}", "output": f"It is {number}"}


def _saying(content: str) -> Page:
    return Page([json.dumps({"id": "x", "choices": [{"message": {"role": "assistant", "content": content}}]}).encode()])


def _writing(rows: Sequence[JsonValue]) -> Callable[[Request], Page]:
    return lambda _: _saying(json.dumps(rows))


def _made(
    answer: Callable[[Request], Page],
    *,
    rows: int = 8,
    examples: Sequence[Row] = TRAIN,
) -> tuple[Synthetic, Site]:
    with loopback_site(answer) as site:
        endpoint = SynthesisEndpoint(f"{site.url}/v1/", "some-model", rows, key="canary")
        made = synthesise(
            endpoint, examples, clean=_clean, text=INSTRUCT.text, group=INSTRUCT.group, known=KNOWN, after=100, seed=5
        )
    return made, site


def test_rows_come_out_in_the_types_normal_form_numbered_behind_the_source() -> None:
    made, _ = _made(_writing([_fresh(1), _fresh(2)]), rows=2)
    assert [row.number for row in made.rows] == [101, 102]
    assert made.rows[0].row == {"system": None, "prompt": "Explain w1a w1b w1c w1d w1e", "completion": "It is 1"}
    assert made.dropped == {}


def test_the_endpoint_is_asked_as_openais_is_and_shown_train_rows_only() -> None:
    _, site = _made(_writing([_fresh(1)]), rows=3)
    [request] = site.requests
    asked = json.loads(request.body)
    assert (request.path, request.headers["authorization"]) == ("/v1/chat/completions", "Bearer canary")
    assert asked["model"] == "some-model"
    system, user = asked["messages"]
    assert "3 new rows" in system["content"]
    shown = [json.loads(line) for line in user["content"].splitlines()]
    assert len(shown) == 4
    assert all(row in TRAIN for row in shown)


def test_the_same_seed_shows_the_same_rows() -> None:
    shown = [_made(_writing([]), rows=24)[1].requests for _ in range(2)]
    first, second = ([request.body for request in requests] for requests in shown)
    assert first == second
    assert len(set(first)) == 3


def test_no_more_rows_are_taken_than_were_asked_for() -> None:
    """Twenty rows in requests of eight, eight and four; the endpoint always writes thirty."""
    answers = iter([_saying(json.dumps([_fresh(100 * n + i) for i in range(30)])) for n in range(3)])
    made, site = _made(lambda _: next(answers), rows=20)
    assert len(site.requests) == 3
    assert len(made.rows) == 20


def test_what_the_type_does_not_take_is_dropped_and_counted() -> None:
    unfit: list[JsonValue] = [
        {"instruction": "Without an answer"},
        {"instruction": "With an empty one", "output": " "},
        {"instruction": ["a", "list"], "output": "x"},
        "text",
        {"instruction": "half of a character \ud83d", "output": "x"},
        {"instruction": "x" * 300_000, "output": "x"},
    ]
    made, _ = _made(_writing([*unfit, _fresh(1)]))
    assert [row.row["completion"] for row in made.rows] == ["It is 1"]
    assert made.dropped == {MALFORMED: 6}


def test_what_is_near_a_row_of_either_side_or_another_one_is_dropped() -> None:
    held_out: JsonValue = {"instruction": "Which bird sings at night near the mill?", "output": "an OWL"}
    again: JsonValue = {**_fresh(1), "output": "It is 1!"}
    made, _ = _made(_writing([dict(TRAIN[3]), held_out, _fresh(1), again, _fresh(2)]))
    assert [row.row["completion"] for row in made.rows] == ["It is 1", "It is 2"]
    assert made.dropped == {NEAR: 3}


def test_another_answer_to_what_a_known_row_asks_is_dropped() -> None:
    other: JsonValue = {
        "instruction": "which bird sings at night near the MILL?",
        "output": "A nightingale of great age and fame",
    }
    made, _ = _made(_writing([other, _fresh(1)]))
    assert [row.row["completion"] for row in made.rows] == ["It is 1"]
    assert made.dropped == {NEAR: 1}


def test_fifty_copies_of_a_train_row_are_all_near_it() -> None:
    """What the copies share is more than ten rows', and yet no template."""
    copies: list[JsonValue] = [{**TRAIN[3], "output": f"Town 3 number {n}"} for n in range(50)]
    answers = iter([_saying(json.dumps(copies[n : n + 8])) for n in range(0, 50, 8)])
    made, _ = _made(lambda _: next(answers), rows=50)
    assert made.dropped == {NEAR: 50}


def test_a_row_that_the_task_as_such_cannot_take_is_dropped_too() -> None:
    """A chat template that refuses long conversations does so with TaskInvalid, not DatasetInvalid."""

    def clean(rows: Sequence[Row]) -> Cleaned:
        chat = ChatParameters(
            template="{% for m in messages %}{{ m.content }}{% if loop.index > 2 %}{{ 1 / 0 }}{% endif %}{% endfor %}"
        )
        return CHAT.clean([{"conversations": row["turns"]} for row in rows], chat)

    long: list[JsonValue] = [
        {"role": role, "content": f"word {number}"} for number in range(2) for role in ("user", "assistant")
    ]
    with loopback_site(_writing([{"turns": long}, {"turns": long[:2]}])) as site:
        made = synthesise(
            SynthesisEndpoint(site.url, "model", 8), TRAIN, clean=clean, text=CHAT.text, known=[], after=100, seed=5
        )
    assert (len(made.rows), made.dropped) == (1, {MALFORMED: 1})


@pytest.mark.parametrize(
    "content",
    ["Here you are:\n```json\n{}\n```\nAnything else?", "{}", "Sure! {}"],
)
def test_words_and_fences_around_the_rows_are_passed_over(content: str) -> None:
    made, _ = _made(lambda _: _saying(content.replace("{}", json.dumps([_fresh(1)]))))
    assert len(made.rows) == 1


@pytest.mark.parametrize(
    "page",
    [
        Page(status=500),
        Page(status=401),
        Page(status=302, headers={"Location": "http://169.254.169.254/"}),
        Page([b"no json"]),
        Page([b'{"choices": []}']),
        Page([b'{"choices": [{"message": {"content": null}}]}']),
        Page([b"{}"], headers={"Content-Length": "100"}),
        Page(repeat(b"x" * 10_000)),
        _saying("I would rather not."),
        _saying('[{"instruction": '),
        _saying("[" * 100_000 + "]"),
        _saying('[{"instruction": "a", "output": NaN}]'),
        _saying("[]"),
    ],
)
def test_whatever_the_endpoint_answers_the_task_goes_on_without(page: Page) -> None:
    made, _ = _made(lambda _: page)
    assert made.rows == ()


def test_an_endpoint_that_is_away_leaves_the_task_as_it_is() -> None:
    with loopback_site(_writing([])) as site:
        pass  # the port was free a moment ago, and nobody listens there now
    for url in (site.url, "http://[::1", "no url at all"):
        endpoint = SynthesisEndpoint(url, "some-model", 8)
        made = synthesise(endpoint, TRAIN, clean=_clean, text=INSTRUCT.text, known=KNOWN, after=100, seed=5)
        assert made.rows == ()


def test_what_came_before_a_failure_is_kept() -> None:
    answers = iter([_saying(json.dumps([_fresh(i) for i in range(8)])), Page(status=503)])
    made, site = _made(lambda _: next(answers), rows=40)
    assert (len(made.rows), len(site.requests)) == (8, 2)


def test_rows_that_are_too_large_to_show_are_not_shown() -> None:
    large: list[Row] = [{"instruction": "x" * 5000, "output": "x"}]
    assert _made(_writing([_fresh(1)]), examples=large)[1].requests == []
    assert "xxxxx" not in _made(_writing([]), examples=large + TRAIN[:1])[1].requests[0].body.decode()


ROW = st.dictionaries(
    st.sampled_from(["instruction", "output", "other"]), st.none() | st.integers() | st.text() | st.lists(st.text())
)


@settings(deadline=None, max_examples=30)
@given(st.lists(ROW | st.integers() | st.text(), max_size=8))
def test_any_rows_are_taken_or_counted(given_rows: list[JsonValue]) -> None:
    made, _ = _made(_writing(given_rows))
    assert len(made.rows) + sum(made.dropped.values()) == len(given_rows)


def test_the_key_is_shown_to_nobody() -> None:
    endpoint = SynthesisEndpoint("http://host", "model", 1, key="canary")
    assert "canary" not in repr(replace(endpoint, rows=2))
