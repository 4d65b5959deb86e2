"""What a customer may say about a chat task, what its conversations become, and what a template of the customer's own can do."""

from __future__ import annotations

import itertools
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
from gradients.tasks.turns import Turn, dialogue

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
    cleaned = _cleaned([_turn("gpt", "How can I help?"), *ASKED, _turn("human", "Bye")])
    assert cleaned.rows[0].row["exchanges"] == [_exchange("Hi", "Hello")]
    assert cleaned.removed == {"empty": 0, "answers without a prompt": 1, "prompts without an answer": 1}


@pytest.mark.parametrize("nothing", [None, "", "  ", []])
def test_a_prompt_without_an_answer_goes_alone_and_is_counted(nothing: JsonValue) -> None:
    turns = [*ASKED, _turn("human", "And now?"), _turn("gpt", nothing), _turn("human", "Well?"), _turn("gpt", "Yes")]
    cleaned = _cleaned(turns)
    assert cleaned.rows[0].row["exchanges"] == [_exchange("Hi", "Hello"), _exchange("Well?", "Yes")]
    assert cleaned.removed == {"empty": 0, "prompts without an answer": 1}


def test_an_answer_to_an_empty_prompt_goes_alone_and_is_counted() -> None:
    turns = [_turn("human", " "), _turn("gpt", "Hello?"), *ASKED, _turn("human", None), _turn("gpt", "Still there?")]
    cleaned = _cleaned(turns)
    assert cleaned.rows[0].row["exchanges"] == [_exchange("Hi", "Hello")]
    assert cleaned.removed == {"empty": 0, "answers without a prompt": 2}


def test_conversations_without_an_answer_are_counted_and_the_others_keep_their_numbers() -> None:
    cleaned = _cleaned(ASKED, [], None, "", [_turn("human", "Anybody?")], ASKED)
    assert [each.number for each in cleaned.rows] == [1, 6]
    assert cleaned.removed == {"empty": 4}
    with pytest.raises(DatasetInvalid, match="9 of 10 rows have no prompt with an answer"):
        _cleaned(ASKED, *[[]] * 9)


# Turns that say more than their text


@pytest.mark.parametrize(
    ("key", "value", "learnt"),
    [
        ("weight", 0, False),
        ("weight", 1, True),
        ("weight", 0.0, False),
        ("weight", "0", False),
        ("weight", None, True),
        ("train", False, False),
        ("training", False, False),
        ("training", True, True),
        ("loss", False, False),
        ("mask", 1, False),
        ("masked", True, False),
        ("masked", False, True),
    ],
)
def test_an_answer_that_is_not_to_be_learnt_says_so_in_its_row(key: str, value: JsonValue, learnt: bool) -> None:
    first: JsonValue = {"role": "assistant", "content": "Hello", key: value}
    exchanges = _row([{"role": "user", "content": "Hi"}, first, _turn("human", "Bye"), _turn("gpt", "See you")])[
        "exchanges"
    ]
    expected: JsonValue = {"prompt": "Hi", "completion": "Hello", **({} if learnt else {"learn": False})}
    assert exchanges == [expected, _exchange("Bye", "See you")]


def test_last_answers_that_are_not_to_be_learnt_go_and_are_counted() -> None:
    unlearnt: JsonValue = {"from": "gpt", "value": "Bad", "weight": 0}
    cleaned = _cleaned([*ASKED, _turn("human", "Bye"), unlearnt], [_turn("human", "Hm"), unlearnt])
    assert [each.row["exchanges"] for each in cleaned.rows] == [[_exchange("Hi", "Hello")]]
    assert cleaned.removed == {"empty": 1, "last answers not to be learnt": 1}


@pytest.mark.parametrize(
    "content", [[{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}], {"type": "text", "text": "Hello"}]
)
def test_content_in_parts_of_text_is_text(content: JsonValue) -> None:
    assert _row([_turn("human", "Hi"), {"role": "assistant", "content": content}])["exchanges"] == [
        _exchange("Hi", "Hello")
    ]


IMAGE: JsonValue = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
CALL: JsonValue = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("answer", "code", "says"),
    [
        ({"content": None, "tool_calls": [CALL]}, "tool_calls", "has turns with 'tool_calls'"),
        ({"content": "Let me see.", "tool_calls": [CALL]}, "tool_calls", "has turns with 'tool_calls'"),
        ({"content": "Hm", "function_call": {"name": "look"}}, "tool_calls", "has turns with 'function_call'"),
        ({"content": None, "refusal": "I cannot."}, "turn_says_more", "has turns with 'refusal'"),
        ({"content": "Hi", "reasoning_content": "so"}, "turn_says_more", "has turns with 'reasoning_content'"),
        ({"content": "Hi", "train_detail": [{"begin_offset": 0}]}, "turn_says_more", "has turns with 'train_detail'"),
        ({"content": [{"type": "text", "text": "See"}, IMAGE]}, "part_not_text", "a part of type 'image_url'"),
        ({"content": [{"type": "text"}]}, "part_not_text", "a part of type 'text'"),
        ({"content": "Hi", "weight": 0.5}, "weight_unknown", "has a 'weight' that is neither 0 nor 1"),
        ({"content": "Hi", "train": "maybe"}, "weight_unknown", "has a 'train' that is neither 0 nor 1"),
    ],
)
def test_what_a_turn_says_beside_its_text_is_refused_by_row(answer: JsonValue, code: str, says: str) -> None:
    assert isinstance(answer, dict)
    bad: JsonValue = [{"role": "user", "content": "Hi"}, {"role": "assistant", **answer}]
    with pytest.raises(DatasetInvalid, match=says) as caught:
        _cleaned(ASKED, bad, ASKED, bad)
    assert (caught.value.code, caught.value.rows) == (code, (2, 4))


@pytest.mark.parametrize("empty", [None, [], "", {}, False])
def test_keys_that_say_nothing_are_ignored(empty: JsonValue) -> None:
    answer: JsonValue = {"role": "assistant", "content": "Hello", "tool_calls": empty, "refusal": empty}
    assert _row([_turn("human", "Hi"), answer])["exchanges"] == [_exchange("Hi", "Hello")]


def test_a_prompt_cannot_be_learnt_and_answers_in_a_row_are_learnt_together() -> None:
    with pytest.raises(DatasetInvalid, match="a prompt is to be learnt"):
        _cleaned([{"from": "human", "value": "Hi", "train": True}, _turn("gpt", "Hello")])
    parted: list[JsonValue] = [_turn("human", "Hi"), {"from": "gpt", "value": "a", "weight": 0}, _turn("gpt", "b")]
    with pytest.raises(DatasetInvalid, match="only some are to be learnt"):
        _cleaned(parted)


@pytest.mark.parametrize("name", ["messages", "conversation", "dialog"])
def test_a_column_of_conversations_by_another_name_is_told_with_the_line_that_reads_it(name: str) -> None:
    with pytest.raises(DatasetInvalid, match=f"--set columns.conversations={name}$"):
        clean([{name: ASKED}], ChatParameters.model_validate({}))
    read = clean([{name: ASKED}], ChatParameters.model_validate({"columns": {"conversations": name}}))
    assert read.rows[0].row["exchanges"] == [_exchange("Hi", "Hello")]


ROLES = st.sampled_from(["system", "user", "assistant"])


@given(
    st.lists(
        st.builds(Turn, ROLES.filter(lambda role: role != "system"), st.sampled_from(["", "a", "b"]), st.just(True))
    )
)
def test_a_dialogue_is_what_was_said_in_its_order_and_never_empty(turns: list[Turn]) -> None:
    said = dialogue(turns)
    flat = [text for exchange in said.exchanges for text in (exchange.prompt, exchange.completion)]
    assert all(text.strip() for text in flat)
    words = iter("".join(turn.content for turn in turns))
    assert all(letter in words for letter in "".join(flat).replace("\n", ""))  # in its order
    joined = [any(t.content for t in said) for _, said in itertools.groupby(turns, key=lambda turn: turn.role)]
    assert sum(joined) == len(flat) + sum(said.dropped.values())  # what is left out is counted


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
