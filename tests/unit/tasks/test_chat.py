"""What a customer may say about a chat task, what its conversations become, and what a template of the customer's own can do."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue, ValidationError

from gradients.datasets.rows import Cleaned, Row
from gradients.domain.dialogue import BEGIN_OF_TEXT, END_OF_TEXT, Shape
from gradients.errors import DatasetInvalid, TaskInvalid
from gradients.sandbox.templates import layouts
from gradients.tasks.chat.spec import CHAT, ChatParameters, clean, text
from gradients.tasks.chat.turns import Turn, dialogue

ONE, TWO = Shape(system=False, exchanges=1), Shape(system=True, exchanges=2)
CHATML = "{% for m in messages %}<|{{ m.role }}|>{{ m['content'] | trim }}<|end|>\n{% endfor %}"


def _cleaned(*rows: JsonValue, **parameters: JsonValue) -> Cleaned:
    """Rows are given as their conversations alone."""
    return clean([{"conversations": row} for row in rows], ChatParameters.model_validate(parameters))


def _row(*rows: JsonValue, **parameters: JsonValue) -> Row:
    [only] = _cleaned(*rows, **parameters).rows
    return only.row


def _turn(speaker: str, text: JsonValue) -> JsonValue:
    return {"from": speaker, "value": text}


def _exchange(prompt: str, completion: str) -> JsonValue:
    return {"prompt": prompt, "completion": completion}


ASKED = [_turn("human", "Hi"), _turn("gpt", "Hello")]


def test_turns_become_a_system_message_and_exchanges() -> None:
    assert _row([_turn("system", "Be kind."), *ASKED, _turn("human", "Bye"), _turn("gpt", "See you")]) == {
        "system": "Be kind.",
        "exchanges": [_exchange("Hi", "Hello"), _exchange("Bye", "See you")],
        "frames": None,
    }


@pytest.mark.parametrize(
    "turns",
    [
        [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}],
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
        [{"role": "user", "content": "Hi", "name": "Ann"}, {"from": "chatgpt", "value": "Hello", "weight": 1}],
        json.dumps([{"role": "user", "content": "Hi"}, {"role": "model", "content": "Hello"}]),
    ],
    ids=["ShareGPT", "OpenAI", "mixed, with more keys", "as JSON text"],
)
def test_the_usual_spellings_need_no_mapping(turns: JsonValue) -> None:
    assert _row(turns)["exchanges"] == [_exchange("Hi", "Hello")]


def test_other_spellings_are_mapped() -> None:
    turns: JsonValue = [{"who": "customer", "says": "Hi"}, {"who": "clerk", "says": 5}]
    mapped: dict[str, JsonValue] = {
        "keys": {"role": "who", "content": "says"},
        "roles": {"user": "customer", "assistant": "clerk"},
    }
    assert _row(turns, **mapped)["exchanges"] == [_exchange("Hi", "5")]


def test_a_name_that_the_customer_gives_goes_before_its_usual_meaning() -> None:
    turns: JsonValue = [_turn("gpt", "Hi"), _turn("human", "Hello")]
    assert _row(turns, roles={"user": "gpt", "assistant": "human"})["exchanges"] == [_exchange("Hi", "Hello")]


@pytest.mark.parametrize(
    ("own", "of_row", "of_task", "expected"),
    [
        ("own", "row", "task", "own"),
        (None, "row", "task", "row"),
        (None, " ", "task", "task"),
        (None, None, None, None),
    ],
)
def test_a_conversations_own_system_message_goes_first_then_the_rows_then_the_tasks(
    own: str | None, of_row: str | None, of_task: str | None, expected: str | None
) -> None:
    rows: list[Row] = [{"conversations": [*([_turn("system", own)] if own else []), *ASKED], "who": of_row}]
    parameters = ChatParameters.model_validate({"columns": {"system": "who"}, "system_prompt": of_task})
    assert clean(rows, parameters).rows[0].row["system"] == expected


def test_what_one_speaker_says_in_a_row_is_one_turn() -> None:
    turns = [_turn("human", "Hi"), _turn("human", "there"), _turn("gpt", "Hello"), _turn("gpt", "you")]
    assert _row(turns)["exchanges"] == [_exchange("Hi\n\nthere", "Hello\n\nyou")]


def test_what_nobody_asked_for_and_what_nobody_answered_is_dropped() -> None:
    assert _row([_turn("gpt", "How can I help?"), *ASKED, _turn("human", "Bye")])["exchanges"] == [
        _exchange("Hi", "Hello")
    ]


def test_from_an_empty_turn_on_nothing_counts() -> None:
    turns = [*ASKED, _turn("human", "And now?"), _turn("gpt", None), _turn("human", "Well?"), _turn("gpt", "Yes")]
    assert _row(turns)["exchanges"] == [_exchange("Hi", "Hello")]


def test_conversations_without_an_answer_are_counted_and_the_others_keep_their_numbers() -> None:
    cleaned = _cleaned(ASKED, [], None, "", [_turn("human", "Anybody?")], ASKED)
    assert [each.number for each in cleaned.rows] == [1, 6]
    assert cleaned.removed == {"empty": 4}
    with pytest.raises(DatasetInvalid, match="9 of 10 rows have no prompt with an answer"):
        _cleaned(ASKED, *[[]] * 9)


ROLES = st.sampled_from(["system", "user", "assistant"])


@given(st.lists(st.builds(Turn, ROLES.filter(lambda role: role != "system"), st.sampled_from(["", "a", "b"]))))
def test_a_dialogue_is_what_was_said_in_its_order_and_never_empty(turns: list[Turn]) -> None:
    said = dialogue(turns)
    flat = [text for exchange in said.exchanges for text in exchange]
    assert all(text.strip() for text in flat)
    words = "".join(turn.content for turn in turns)
    assert "".join("".join(flat).split()) in words


@pytest.mark.parametrize(
    ("conversation", "code", "says"),
    [
        ("Hi!", "wrong_type", "is not a list of turns"),
        (5, "wrong_type", "is not a list of turns"),
        (["Hi!"], "wrong_type", "has a turn that is not an object"),
        ([_turn("human", ["Hi!"])], "wrong_type", "has a turn that is not text"),
        ([{"from": 1, "value": "Hi!"}], "wrong_type", "has a turn that is not text"),
        ([_turn("gpt-9", "Hi!")], "role_unknown", "has turns of 'gpt-9'"),
        (
            [{"speaker": "human", "value": "Hi!"}],
            "turn_key_missing",
            "does not say who speaks; there is speaker, value",
        ),
        ([{"from": "human", "text": "Hi!"}], "turn_key_missing", "has a turn without its text; there is from, text"),
        ([*ASKED, _turn("system", "Stop")], "system_late", "has a system message behind another turn"),
        ([_turn("human", "x" * 200_001)], "turn_too_long", "has a turn of more than 200,000 characters"),
    ],
)
def test_a_malformed_conversation_is_refused_by_its_rows(conversation: JsonValue, code: str, says: str) -> None:
    with pytest.raises(DatasetInvalid) as caught:
        _cleaned(ASKED, conversation, ASKED, conversation)
    assert (caught.value.code, caught.value.rows) == (code, (2, 4))
    assert caught.value.message == f"Column 'conversations' {says} in rows 2, 4"
    assert caught.value.fix


def test_rows_are_compared_by_what_is_said_and_not_by_the_system_message() -> None:
    assert text(_row([_turn("system", "Be kind."), *ASKED])) == "Hi Hello"


@pytest.mark.parametrize(
    "parameters",
    [
        {"colums": {}},
        {"columns": {"conversations": ""}},
        {"keys": {"speaker": "from"}},
        {"roles": {"user": "x", "assistant": "x"}},
        {"template": "{{ bos_token }}"},
        {"template": "messages" + "x" * 20_000},
        {"max_tokens": 15},
    ],
)
def test_parameters_that_break_the_schema_are_refused(parameters: dict[str, JsonValue]) -> None:
    with pytest.raises(ValidationError):
        ChatParameters.model_validate(parameters)


def test_the_metric_names_its_version() -> None:
    assert (CHAT.metric.name, CHAT.metric.unit, CHAT.metric.version) == ("assistant cross-entropy", "nats/token", 2)


# A template of the customer's own


def test_an_own_template_gives_each_row_what_stands_around_its_turns() -> None:
    row = _row([_turn("system", "{{ 7 * 7 }}"), *ASKED], template=CHATML)
    assert row["system"] == "{{ 7 * 7 }}"
    assert row["frames"] == ["<|system|>", "<|end|>\n<|user|>", "<|end|>\n<|assistant|>", "<|end|>\n"]


def test_the_bases_tokens_are_filled_in_where_the_base_is_known() -> None:
    template = "{{ bos_token }}{% for m in messages %}[{{ m.content }}]{% endfor %}{{ eos_token }}"
    assert layouts(template, [ONE]) == {ONE: (f"{BEGIN_OF_TEXT}[", "][", f"]{END_OF_TEXT}")}


def test_a_template_without_system_messages_gets_them_with_the_first_prompt() -> None:
    template = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}[{{ m.content }}]{% endfor %}"
    assert layouts(template, [TWO]) == {TWO: ("[", "\n\n", "][", "][", "][", "]")}


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{% for m in messages %}", "Unexpected end of template"),
        ("{{ messages | reverse | list }}", "every turn once and in order"),
        ("{% for m in messages %}{{ m.role }}{% endfor %}", "every turn once and in order"),
        ("{% for m in messages %}{{ m.content * 2 }}{% endfor %}", "every turn once and in order"),
        ("{{ messages[0].content[1:] }}", "every turn once and in order"),
        ("{{ messages[99].content }}", "has no element 99"),
        ("{{ messages.clear() }}", "unsafe"),
        ("{{ messages.__class__.__mro__ }}", "unsafe"),
        ("{{ raise_exception.__globals__.os }}{{ messages }}", "unsafe"),
        ("{% include 'messages' %}", "no loader"),
        ("{{ 'x' * 300000 }}{{ messages }}", "more than 200,000 characters"),
        ("{{ messages[0].content + 1 }}", "concatenate"),
        ("{{ 1 // 0 }}{{ messages }}", "division"),
    ],
)
def test_a_template_that_cannot_be_used_is_the_customers_mistake(template: str, says: str) -> None:
    with pytest.raises(TaskInvalid, match=says) as caught:
        layouts(template, [ONE])
    assert caught.value.code == "template_unusable"
    assert caught.value.fix


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}{{ messages }}",
        "{{ 'x' * 10 ** 10 }}{{ messages }}",
        "{% set ns = namespace(x='x' * 100000) %}{% for a in range(9999) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ messages }}",
        "{{ 9 ** (9 ** 9) }}{{ messages }}",
    ],
    ids=["loops for ever", "asks for ten gigabytes", "grows", "a number without end"],
)
def test_a_template_that_takes_too_much_is_stopped(template: str) -> None:
    with pytest.raises(TaskInvalid, match=r"more time or memory|takes more than") as caught:
        layouts(template, [ONE], seconds=2)
    assert caught.value.code == "template_unusable"
