"""What a customer may say about a GRPO task, what its rows become, and what each reward says of an answer."""

from __future__ import annotations

import datetime
import decimal
import itertools
import json
import math
import re
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue, TypeAdapter, ValidationError

from gradients.datasets.rows import Row
from gradients.domain.task import Hotkey
from gradients.errors import Blame, DatasetInvalid, TaskInvalid
from gradients.scoring.contest import Contest, Entry
from gradients.scoring.rules import PAPER
from gradients.tasks import registry
from gradients.tasks.grpo.rewards.asserts import Expectation, expectations, holds
from gradients.tasks.grpo.rewards.base import Case
from gradients.tasks.grpo.rewards.catalogue import AnyReward, check_works, judge, weighted
from gradients.tasks.grpo.rewards.structure import conforms
from gradients.tasks.grpo.spec import GRPO, GrpoParameters, clean, text
from gradients.testing.sandboxes import reason_to_skip

NO_SANDBOX = reason_to_skip()
needs_sandbox = pytest.mark.skipif(bool(NO_SANDBOX), reason=NO_SANDBOX or "there is one")
REWARD: TypeAdapter[AnyReward] = TypeAdapter(AnyReward)
SHORT: JsonValue = {"kind": "length", "at_most": 5}


def reward(kind: str, **parameters: JsonValue) -> AnyReward:
    return REWARD.validate_python({"kind": kind, **parameters})


def score(asked: AnyReward, completion: str, **row: JsonValue) -> float:
    return judge(asked, [Case(completion, row)]).scores[0]


def parameters(*rewards: JsonValue, **more: JsonValue) -> GrpoParameters:
    return GrpoParameters.model_validate({"rewards": list(rewards or [SHORT]), **more})


def cleaned(asked: GrpoParameters, *rows: Row) -> list[Row]:
    return [numbered.row for numbered in clean(rows, asked).rows]


# ---- the catalogue


@pytest.mark.parametrize(
    ("answer", "said"),
    [("Paris", 1.0), (" paris. ", 1.0), ("PARIS", 1.0), ("Paris, France", 0.0), ("", 0.0), ("It is Paris", 0.0)],
)
def test_an_exact_answer_says_the_same_words(answer: str, said: float) -> None:
    assert score(reward("exact_answer"), answer, answer="Paris") == said


def test_an_exact_answer_may_be_asked_to_stand_behind_a_word() -> None:
    asked = reward("exact_answer", after="Answer:", ignore_case=False)
    assert score(asked, "Answer: London? No. Answer: Paris", answer="Paris") == 1.0
    assert score(asked, "Paris", answer="Paris") == 0.0
    assert score(asked, "Answer: paris", answer="Paris") == 0.0


@pytest.mark.parametrize(
    ("answer", "right", "said"),
    [
        ("So it is 42.", "42", 1.0),
        ("42 of 100", "42", 0.0),
        ("1,234.50", "#### 1234.5", 1.0),
        ("-3e2", "-300", 1.0),
        ("no number", "0", 0.0),
        ("0", "0.0", 1.0),
        ("1e999", "1", 0.0),
        ("99.9", "100", 0.0),
        ("", "7", 0.0),
        ("10-3", "3", 1.0),  # a minus takes away where something stands before it
        ("x-3", "3", 1.0),
        ("5 * (-3)", "-3", 1.0),
        ("1,2,3", "3", 1.0),  # commas stand between thousands alone
        ("12,34", "34", 1.0),
        ("1,234,567", "1234567", 1.0),
        ("1,2345", "2345", 1.0),
        ("10e-3", "0.01", 1.0),
        # signs and separators as people, word processors and LaTeX write them, on both sides
        *((sign + "5", "-5", 1.0) for sign in "\u2212\ufe63\uff0d\u2010\u2011\u2012\u2013"),
        *((sign + "5", "5", 0.0) for sign in "\u2212\ufe63\uff0d"),
        *(("-5", sign + "5", 1.0) for sign in "\u2212\ufe63\uff0d"),
        ("\uff0b5", "5", 1.0),
        ("pages 3\u20135", "5", 1.0),  # from 3 to 5
        ("\uff11\uff12\uff0e\uff15", "12.5", 1.0),
        ("\uff0d\uff11\uff0c\uff12\uff13\uff14", "-1234", 1.0),
        ("\u0661\u0662\u066b\u0665", "12.5", 1.0),
        *((f"12{space}345", "12345", 1.0) for space in "\u00a0\u202f\u2009"),
        ("1'234'567.5", "1234567.5", 1.0),
        ("1\u2019000", "1000", 1.0),
        ("1_000_000", "1000000", 1.0),
        ("1,23,45,678", "12345678", 1.0),  # as in India
        (r"\boxed{1{,}000}", "1000", 1.0),
        (r"$10,\!000$", "10000", 1.0),
        (r"12\,345", "12345", 1.0),
        ("-$5", "-5", 1.0),
        ("\u2212€1,000.50", "-1000.5", 1.0),
        ("50 %", "50%", 1.0),
        ("50%", "0.5", 0.0),  # what stands there is the number 50
    ],
)
def test_a_numeric_answer_ends_with_the_right_number(answer: str, right: str, said: float) -> None:
    assert score(reward("numeric_answer"), answer, answer=right) == said


def test_a_numeric_answer_may_be_off_by_its_tolerance() -> None:
    assert score(reward("numeric_answer", tolerance=0.01), "99.5", answer="100") == 1.0


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("<think>a</think> <answer>b</answer>", 1.0),
        ("Well: <think>a</think> <answer>b</answer>", 0.5),  # text where none may be
        ("<think>a</think><answer>b</answer><answer>c</answer>", 0.5),  # a part twice
        ("<think>a</think> b", 0.25),  # two of four parts, and another end
        ("<answer>b</answer><think>a</think>", 0.25),  # in order: the two last of think only
        ("b", 0.0),
        ("", 0.0),
    ],
)
def test_a_layout_counts_its_parts_in_order(answer: str, said: float) -> None:
    assert score(reward("format", layout="<think>{}</think>{}<answer>{}</answer>"), answer) == said


@pytest.mark.parametrize(
    ("answer", "said"), [("a b c", 1.0), ("a b c d", 1.0), ("a b", 2 / 3), ("", 0.0), ("a b c d e f g h", 0.5)]
)
def test_a_length_is_right_within_its_range_and_less_so_outside(answer: str, said: float) -> None:
    assert score(reward("length", at_least=3, at_most=4), answer) == said


def test_a_length_counts_characters_when_asked() -> None:
    assert score(reward("length", unit="characters", at_most=4), " abcd ") == 1.0


@pytest.mark.parametrize(
    ("where", "answer", "said"),
    [
        ("anywhere", "xab", 1.0),
        ("start", "xab", 0.0),
        ("start", "abx", 1.0),
        ("whole", "abx", 0.0),
        ("whole", "ab", 1.0),
    ],
)
def test_a_pattern_matches_where_it_has_to(where: str, answer: str, said: float) -> None:
    assert score(reward("regular_expression", pattern="ab", where=where), answer) == said
    assert score(reward("regular_expression", pattern="ab", where=where, negated=True), answer) == 1.0 - said


@pytest.mark.parametrize("negated", [False, True])
def test_a_pattern_that_never_ends_is_stopped_and_earns_nothing(negated: bool) -> None:
    asked = reward("regular_expression", pattern="(a|aa)+", where="whole", negated=negated)
    started = time.monotonic()
    judged = judge(asked, [Case("a" * 80 + "!", {}), Case("b" if negated else "a", {})])
    assert judged.scores == [0.0, 1.0]
    assert [(failure.code, failure.blame) for failure in judged.failures] == [("reward_slow", Blame.CUSTOMER)]
    assert time.monotonic() - started < 120


SHAPE: dict[str, JsonValue] = {
    "type": "object",
    "properties": {"age": {"type": "integer", "minimum": 0}, "tags": {"type": "array", "items": {"type": "string"}}},
    "required": ["age"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ('{"age": 3}', 1.0),
        ('Here:\n```json\n{"age": 3.0, "tags": ["x"]}\n```', 1.0),
        ('{"age": true}', 0.25),
        ('{"age": -1}', 0.25),
        ('{"age": 3, "tags": [1]}', 0.25),
        ('{"age": 3, "more": 1}', 0.25),
        ("{}", 0.25),
        ("3", 0.25),
        ("age: 3", 0.0),
        ("[" * 100_000, 0.0),
        ('{"age": ' + "9" * 400 + "}", 1.0),
        ('{"age": -' + "9" * 400 + "}", 0.25),
        ('{"age": 1e400}', 0.25),
        ('{"age": ' + "9" * 5000 + "}", 0.0),
        ("", 0.0),
    ],
)
def test_json_of_the_right_shape_beats_json_beats_text(answer: str, said: float) -> None:
    assert score(reward("json_schema", shape=SHAPE), answer) == said


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"enum": [1, "a"]}, [1, 1.0, "a"], [True, "b", None]),
        ({"const": None}, [None], [0, False, ""]),
        ({"anyOf": [{"type": "null"}, {"type": "string", "minLength": 2}]}, [None, "ab"], ["a", 1]),
        ({"type": ["number", "boolean"], "maximum": 3}, [3, True, 2.5], [3.5, "1"]),
        ({"minItems": 1, "maxItems": 2}, [[1], [1, 2], "no list"], [[], [1, 2, 3]]),
        ({"additionalProperties": {"type": "string"}, "properties": {"a": True}}, [{"a": 1, "b": "x"}], [{"b": 1}]),
        (True, [1, None], []),
        (False, [], [1, None]),
        ({"title": "anything"}, [1], []),
        ({"type": "number", "minimum": 10**400}, [10**400], [10**400 - 1, 1.5]),
    ],
)
def test_each_keyword_of_a_schema_means_what_json_schema_says(
    schema: JsonValue, good: Sequence[JsonValue], bad: Sequence[JsonValue]
) -> None:
    assert all(conforms(schema, value) for value in good)
    assert not any(conforms(schema, value) for value in bad)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
CHEAP = [
    reward("exact_answer"),
    reward("numeric_answer"),
    reward("format", layout="<a>{}</a>"),
    reward("length", at_least=2, at_most=9),
    reward("regular_expression", pattern="[a-z]+"),
    reward("json_schema", shape=SHAPE),
]


ODD_ANSWERS = [
    "9" * 400,
    "-" + "9" * 5000,
    "1e999",
    "NaN",
    '{"age": Infinity}',
    '{"age": ' + "9" * 400 + "}",
    "[" * 5000,
    "```json\n",
    "1," * 3000,
    "\ud800",
    "\x00",
    "<a>" * 500,
]
ANSWERS = (
    st.text()
    | st.lists(st.sampled_from(ODD_ANSWERS) | st.text(max_size=5), max_size=4).map("".join)
    | JSON.map(json.dumps)
)


@given(ANSWERS, ANSWERS)
def test_every_reward_lies_between_0_and_1_and_says_the_same_twice(completion: str, answer: str) -> None:
    for asked in CHEAP:
        said = score(asked, completion, answer=answer)
        assert 0.0 <= said <= 1.0
        assert said == score(asked, completion, answer=answer)


def test_the_mean_of_rewards_is_weighted() -> None:
    rewards = [reward("length", at_most=5, weight=3), reward("regular_expression", pattern="a")]
    assert weighted(rewards, [[1.0, 0.5], [0.0, 1.0]]) == [0.75, 0.625]  # (3·1 + 0) / 4, (3·0.5 + 1) / 4


# ---- rewards that run programs


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ("assert add(1, 2) == 3", Expectation("add(1, 2)", "Eq", 3)),
        ("assert f() == {'a': [1, (2,)]}", Expectation("f()", "Eq", {"a": [1, (2,)]})),
        ("assert is_even(4)", Expectation("is_even(4)", "Eq", True)),
        ("assert not is_even(3)", Expectation("is_even(3)", "Eq", False)),
        ("assert f(3) is None", Expectation("f(3)", "Is", None)),
        ("assert f(3) not in (1, 2)", Expectation("f(3)", "NotIn", (1, 2))),
        ("assert abs(f(2) - 1.4) < 1e-3", Expectation("f(2)", "Lt", 1e-3, from_=1.4)),
        ("assert abs(-1.4 - f(2)) <= 0.1", Expectation("f(2)", "LtE", 0.1, from_=-1.4)),
        ("assert sorted(f([0] * 3))[0] == 0", Expectation("sorted(f([0] * 3))[0]", "Eq", 0)),
        (
            "assert keep(lambda n: n % 2 == 0, [1, 2]) == [2]",
            Expectation("keep(lambda n: n % 2 == 0, [1, 2])", "Eq", [2]),
        ),
        ("assert (V(1) + V(2)).x == 3", Expectation("(V(1) + V(2)).x", "Eq", 3)),
    ],
)
def test_a_test_is_split_into_what_goes_in_and_what_stays_outside(test: str, expected: Expectation) -> None:
    assert expectations(test) == expectations([test]) == [expected]
    assert expectations([test, "assert f() == 1"]) == [expected, Expectation("f()", "Eq", 1)]


@pytest.mark.parametrize(
    "test",
    [
        "",
        "x = 1",
        "import os",
        "assert f() ==",
        "assert f() == g()",
        "assert f() == {[]: 1}",
        "assert f(2) is 3",
        "assert f",
        "assert 1 < f(2) < 3",
        "assert f(1) == 1 and f(2) == 4",  # what follows would be compared inside, by the answer
        "assert (f(4) == 16) == True",
        "assert isclose(f(2), 1.4)",
        "assert isclose(f(2), 1.4) == True",
        "assert all(f(n) == n * n for n in (1, 2))",
        "assert sum(x == y for x, y in zip(f(), [1, 2])) == 2",
        "assert f(4) - 16 == 0",
        "assert round(f(2) - 1.4, 2) == 0",
        "assert abs(f(2) - g(2)) < 1",
    ],
)
def test_other_statements_are_no_tests(test: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        expectations(test)


@pytest.mark.parametrize(
    ("test", "good", "bad"),
    [
        ("f() == 0.3", ["0.30000000000000004", "0.3"], ["0.31", "'0.3'", "[0.3]"]),
        ("f() == " + "9" * 400, ["9" * 400], ["1.5", "1e999", "-1"]),
        ("f() != 3", ["4", "'3'"], ["3", "3.0", "three"]),
        ("not f()", ["False"], ["True", "None", "''"]),
        ("f() < 3", ["2", "-1e999"], ["3", "'2'", "2j", "[2]"]),
        ("f() in {1, 2}", ["1", "2.0"], ["3", "[1]", "{}"]),
        ("f() is None", ["None"], ["0", "False"]),
        ("abs(f() - 1.4) < 1e-3", ["1.4005"], ["1.5", "'1.4'", "9" * 400, "1e999", "None", "{1}"]),
    ],
)
def test_what_is_expected_is_compared_outside(test: str, good: Sequence[str], bad: Sequence[str]) -> None:
    (expected,) = expectations(f"assert {test}")
    assert all(holds(expected, written) for written in good)
    broken: list[JsonValue] = [None, 3, ["3"], "", "f()", "-" * 90_000 + "1", "(" * 90_000, "\ud800", "x" * 100_001]
    assert not any(holds(expected, written) for written in [*bad, *broken])


@given(st.text(max_size=30))
def test_whatever_the_sandbox_wrote_is_right_or_wrong(written: str) -> None:
    for expected in expectations("assert f() == 3\nassert abs(f() - 1) < 2\nassert f() in 'abc'\nassert f() >= 1"):
        assert holds(expected, written) in (True, False)


TESTS = "assert add(1, 2) == 3\nassert add(-1, 1) == 0\nassert add(0.1, 0.2) == 0.3\nassert add('a', 'b') == 'ab'"


@needs_sandbox
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("def add(a, b):\n    return a + b", 1.0),
        ("Sure!\n```python\ndef add(a, b): return a + b\n```\nThat adds.", 1.0),
        ("def add(a, b):\n    return a - b", 0.0),
        ("def add(a, b):\n    return 3 if a == 1 else 1 / 0", 0.25),
        ("def add(a, b):\n    while a == 'a': pass\n    return a + b", 0.0),  # all tests share the time
        ("class Yes:\n    __eq__ = lambda *_: True\n    __repr__ = lambda _: 'True'\ndef add(a, b): return Yes()", 0.0),
        ('import os\nos.write(3, b\'["3", "3", "3", "3"]\')\nos._exit(0)', 0.25),  # knows not what is expected
        ("import sys; sys.exit(0)", 0.0),
        ("raise SystemExit", 0.0),
        ("not python", 0.0),
        ("", 0.0),
    ],
)
def test_python_gets_the_share_of_tests_that_it_passes(answer: str, said: float) -> None:
    assert score(reward("python_tests", cpu_seconds=1), answer, tests=TESTS) == said


@needs_sandbox
def test_rewards_that_run_programs_lie_between_0_and_1_too() -> None:
    cases = [
        Case(answer, {"tests": TESTS})
        for answer in (*ODD_ANSWERS, *(f"def add(a, b): return {odd}" for odd in ODD_ANSWERS))
    ]
    for asked in (reward("python_tests"), reward("function", source=ECHOES, high=9)):
        judged = judge(asked, cases)
        assert all(0.0 <= said <= 1.0 for said in judged.scores)
        assert len(judged.scores) == len(cases) > len(judged.failures)


@needs_sandbox
def test_an_answer_may_have_functions_that_are_called_like_pythons_own() -> None:
    answer = "repr = eval = type = all = None\ndef add(a, b):\n    return a + b"
    assert score(reward("python_tests"), answer, tests=TESTS) == 1.0


ECHOES = "def reward(completion, row):\n    return float(completion) if completion[:1].isdigit() else len(completion)"
COUNTS_E = "def reward(completion, row):\n    return completion.count(row['letter']) - 2"


@needs_sandbox
def test_a_customers_function_is_brought_into_its_range() -> None:
    asked = reward("function", source=COUNTS_E, columns=["letter"], low=-2, high=2)
    cases = [Case(completion, {"letter": "e"}) for completion in ("", "e", "ee", "eeee", "eeeeee")]
    assert judge(asked, cases).scores == [0.0, 0.25, 0.5, 1.0, 1.0]


@needs_sandbox
@pytest.mark.parametrize(
    "body",
    [
        "return 1 / 0",
        "return 'good'",
        "return None",
        "return float('nan')",
        "return 10 ** 400",
        "return completion[0]",
        "open('/etc/passwd')",
        "import socket; socket.socket()",
        "import os; os.fork()",
        "return len('x' * 10 ** 10)",
        "raise SystemExit(0)",
        "import os; os._exit(0)",
    ],
)
def test_a_customers_function_that_always_fails_is_the_customers_fault(body: str) -> None:
    asked = reward("function", source=f"def reward(completion, row):\n    {body}")
    judged = judge(asked, [Case("", {})])
    assert judged.scores == [0.0]
    assert [(failure.code, failure.blame) for failure in judged.failures] == [("reward_failed", Blame.CUSTOMER)]
    with pytest.raises(TaskInvalid):
        check_works(asked, [{"prompt": ""}])


@needs_sandbox
@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import math_verify\n{}", "there is no module 'math_verify' in the sandbox; it has the standard library"),
        ("from numpy.linalg import norm\n{}", "there is no module 'numpy' in the sandbox"),
        ("{}    import torch\n", "there is no module 'torch' in the sandbox"),
        ("limit = 1 / 0\n{}", "ZeroDivisionError: division by zero"),
        ("{}reward = reward(undefined, {{}})\n", "NameError: name 'undefined' is not defined"),
    ],
)
def test_a_function_that_cannot_be_set_up_is_told_in_one_sentence(source: str, says: str) -> None:
    written = source.format("def reward(completion, row):\n    return 1.0\n").replace(
        "    return 1.0\n    import torch", "    import torch"
    )
    with pytest.raises(TaskInvalid) as refused:
        clean(
            [{"prompt": f"Count to {number}"} for number in range(5)],
            parameters({"kind": "function", "source": written}),
        )
    assert refused.value.message.startswith(f"The reward function failed: {says}")
    assert "program.py" not in str(refused.value)


@needs_sandbox
@pytest.mark.parametrize(
    "source",
    [
        "\ufeffdef reward(completion, row):\n    return 1.0\n",
        "def reward(completion, row):\r\n    return 1.0\r\n",
        "\ufeffdef reward(completion, row):\r\n\treturn 1.0\r\n",
        "# -*- coding: utf-8 -*-\ndef reward(completion, row):\n\treturn 1.0",
    ],
    ids=["byte order mark", "line ends of Windows", "both, and tabs", "a line about its encoding"],
)
def test_how_an_editor_saves_a_function_does_not_matter(source: str) -> None:
    asked = reward("function", source=source)
    assert judge(asked, [Case("", {})]).scores == [1.0]


@needs_sandbox
@pytest.mark.parametrize(
    "trap",
    [
        "1 / 0",
        "raise SystemExit",
        "import os; os._exit(0)",
        "[0] * 10 ** 10",
        "while True: pass",
        "import re; re.match('(a+)+$', 'a' * 60 + 'b')",
    ],
)
def test_an_answer_that_trips_a_customers_function_earns_nothing_and_costs_no_other_answer(trap: str) -> None:
    source = (
        f"def reward(completion, row):\n    if 'trap' in completion:\n        {trap}\n    return len(completion) / 10"
    )
    asked = reward("function", source=source)
    judged = judge(asked, [Case(answer, {}) for answer in ("good", "a trap", "better")])
    assert judged.scores == [0.4, 0.0, 0.6]
    assert [failure.code for failure in judged.failures] == ["reward_failed"]
    assert judge(asked, [Case("trap", {})] * 2).scores == [0.0, 0.0]
    check_works(asked, [{"prompt": "What?"}])  # so the answers are to blame


@needs_sandbox
@pytest.mark.parametrize(
    ("source", "code"),
    [
        (
            "calls = []\ndef reward(completion, row):\n    calls.append(1)\n    return len(calls) / 100",
            "reward_not_pure",
        ),
        ("def reward(completion, row):\n    return row['tone']", "reward_failed"),
    ],
)
def test_a_customers_function_is_tried_before_the_task_is_offered(source: str, code: str) -> None:
    asked = parameters({"kind": "function", "source": source})
    with pytest.raises(TaskInvalid) as refused:
        clean([{"prompt": f"Count to {number}"} for number in range(5)], asked)
    assert refused.value.code == code


# ---- the schema


@pytest.mark.parametrize(
    "given_parameters",
    [
        {},
        {"rewards": []},
        {"rewards": [{"kind": "beauty"}]},
        {"rewards": [{"kind": "length"}]},
        {"rewards": [{"kind": "length", "at_least": 3, "at_most": 2}]},
        {"rewards": [{"kind": "length", "at_most": 2, "weight": 0}]},
        {"rewards": [{"kind": "length", "at_most": 2, "weight": -1}]},
        {"rewards": [{"kind": "length", "at_most": 2, "weight": float("inf")}]},
        {"rewards": [{"kind": "format", "layout": "{}"}]},
        {"rewards": [{"kind": "regular_expression", "pattern": "("}]},
        {"rewards": [{"kind": "regular_expression", "pattern": "((a{1000}){1000}){1000}"}]},
        {"rewards": [{"kind": "regular_expression", "pattern": "(a{,200}){3,200}"}]},
        {"rewards": [{"kind": "regular_expression", "pattern": "a{99999999999999999999}"}]},
        {"rewards": [{"kind": "regular_expression", "pattern": "(?:kitten){e<=2}(?R)"}]},
        {"rewards": [{"kind": "regular_expression", "pattern": "(?:hello){e<=2}"}]},
        {"rewards": [{"kind": "regular_expression", "pattern": "a{2}{i}"}]},
        {"rewards": [{"kind": "regular_expression", "pattern": "[[:alpha:]]"}]},
        {"rewards": [{"kind": "json_schema", "shape": {"pattern": "(a+)+$"}}]},
        {"rewards": [{"kind": "json_schema", "shape": {"$ref": "http://127.0.0.1/"}}]},
        {"rewards": [{"kind": "json_schema", "shape": {"type": "text"}}]},
        {"rewards": [{"kind": "json_schema", "shape": {"properties": [1]}}]},
        {"rewards": [{"kind": "json_schema", "shape": {"minimum": "low"}}]},
        {"rewards": [{"kind": "function", "source": "def score(completion, row): return 1"}]},
        {"rewards": [{"kind": "function", "source": "def reward("}]},
        {"rewards": [{"kind": "function", "source": COUNTS_E, "low": 1, "high": 1}]},
        {"rewards": [SHORT], "beta": 0},
        {"rewards": [SHORT], "samples": 0},
        {"rewards": [SHORT], "temperature": 0},
    ],
)
def test_parameters_that_make_no_task_are_refused(given_parameters: dict[str, JsonValue]) -> None:
    with pytest.raises(ValidationError):
        GrpoParameters.model_validate(given_parameters)


@pytest.mark.parametrize(
    ("pattern", "answer"),
    [(r"\{e<=2\}", "{e<=2}"), (r"[^{}]{2,3}[]{e}]", "ab{"), (r"\\\{", "\\{"), ("a{2}b{,3}", "aab")],
)
def test_braces_that_count_nothing_are_quoted(pattern: str, answer: str) -> None:
    assert score(reward("regular_expression", pattern=pattern, where="whole"), answer) == 1.0


@pytest.mark.parametrize(
    ("asked", "knobs"),
    [
        ({"samples": 64, "max_new_tokens": 129}, "samples times max_new_tokens is 8,256"),
        ({"samples": 2, "max_new_tokens": 8192}, "samples times max_new_tokens"),
        ({"samples": 1, "max_tokens": 131_072}, "max_tokens plus max_new_tokens"),
        ({"samples": 2, "rewards": [{"kind": "python_tests", "cpu_seconds": 60}]}, "cpu_seconds"),
        ({"samples": 33, "rewards": [{"kind": "regular_expression", "pattern": "a"}] * 2}, "cpu_seconds"),
    ],
)
def test_what_could_not_be_measured_in_time_is_refused_with_what_to_turn_down(
    asked: dict[str, JsonValue], knobs: str
) -> None:
    with pytest.raises(ValidationError, match=re.escape(knobs)):
        GrpoParameters.model_validate({"rewards": [SHORT], **asked})


@pytest.mark.parametrize(
    "asked",
    [
        {"samples": 64, "max_new_tokens": 128},
        {"samples": 1, "max_new_tokens": 8192, "max_tokens": 57_344},
        {"samples": 16, "rewards": [{"kind": "python_tests"}, {"kind": "function", "source": COUNTS_E}]},
    ],
)
def test_what_can_be_measured_in_time_is_taken(asked: dict[str, JsonValue]) -> None:
    assert GrpoParameters.model_validate({"rewards": [SHORT], **asked}).samples == asked["samples"]


@pytest.mark.parametrize(
    ("wanted", "needs"),
    [(SHORT, False), ({"kind": "python_tests"}, True), ({"kind": "function", "source": COUNTS_E}, True)],
)
def test_a_task_whose_rewards_run_programs_says_so(wanted: JsonValue, needs: bool) -> None:
    request = registry.validate_request(
        {
            "type": "grpo",
            "base": "b",
            "dataset": "d.jsonl",
            "hours": 1,
            "parameters": {"rewards": [SHORT, wanted], "columns": {"prompt": "q"}},
        }
    )
    assert registry.needs_sandbox(request) == needs


def test_reading_a_customers_function_does_not_run_it() -> None:
    source = "raise SystemExit('it was run')\ndef reward(completion, row): return 1.0"
    assert parameters({"kind": "function", "source": source}).rewards[0].kind == "function"


def test_parameters_survive_their_json_form() -> None:
    asked = parameters(
        SHORT,
        {"kind": "json_schema", "shape": SHAPE},
        {"kind": "function", "source": COUNTS_E, "columns": ["letter"]},
        {"kind": "python_tests"},
        columns={"prompt": "question", "system": "manner"},
    )
    assert GrpoParameters.model_validate_json(asked.model_dump_json()) == asked


# ---- the rows


def test_a_row_keeps_the_columns_that_its_rewards_read() -> None:
    asked = parameters(
        {"kind": "numeric_answer", "column": "result"},
        {"kind": "python_tests"},
        columns={"prompt": "question", "system": "manner"},
        system_prompt="Be brief.",
    )
    row: Row = {"question": " Add. ", "manner": "", "result": 3, "tests": ["assert f() == 3"], "unread": "x"}
    assert cleaned(asked, row) == [
        {"system": "Be brief.", "prompt": "Add.", "reference": {"result": "3", "tests": ["assert f() == 3"]}}
    ]
    assert text(cleaned(asked, row)[0]) == "Add."


def test_rows_without_a_prompt_or_an_answer_are_left_out_and_counted() -> None:
    asked = parameters({"kind": "exact_answer"})
    rows: list[Row] = [{"prompt": "Q", "answer": "A"}, {"prompt": "", "answer": "A"}, {"prompt": "Q", "answer": None}]
    result = clean(rows, asked)
    assert [numbered.number for numbered in result.rows] == [1]
    assert result.removed == {"empty": 2}


@pytest.mark.parametrize(
    ("asked", "column", "bad"),
    [
        ({"kind": "numeric_answer", "column": "about"}, "about", "many"),
        ({"kind": "python_tests", "column": "about"}, "about", "add(1, 2)"),
        ({"kind": "python_tests", "column": "about"}, "about", 7),
        ({"kind": "exact_answer", "column": "about"}, "about", {"text": "A"}),
        (SHORT, "prompt", ["a", "b"]),
    ],
)
def test_what_a_reward_cannot_read_is_refused_by_row(asked: JsonValue, column: str, bad: JsonValue) -> None:
    good: Row = {"prompt": "Q", "about": "assert f() == 1"}
    with pytest.raises(DatasetInvalid) as refused:
        clean([good, {**good, column: bad}, good], parameters(asked))
    assert refused.value.rows == (2,)


COUNTS_X: JsonValue = {"kind": "function", "source": "def reward(completion, row): return 1", "columns": ["about"]}


@pytest.mark.parametrize(
    "bad",
    [
        datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        datetime.date(2026, 1, 1),
        b"bytes",
        decimal.Decimal(1),
        math.inf,
        [1, math.nan],
        {"when": datetime.time(1)},
        {1: "a"},
        {"a"},
        "\ud800",
    ],
)
def test_what_is_no_json_is_refused_by_row_before_a_function_sees_it(bad: JsonValue) -> None:
    good: Row = {"prompt": "Q", "about": {"a": [1.5, None, True]}}
    with pytest.raises(DatasetInvalid) as refused:
        clean([good, {**good, "about": bad}, good], parameters(COUNTS_X))
    assert (refused.value.rows, refused.value.code) == ((2,), "wrong_type")


@pytest.mark.parametrize("empty", [None, "", "  ", math.nan, []])
@pytest.mark.parametrize("asked", [{"kind": "exact_answer", "column": "about"}, COUNTS_X], ids=["text", "any"])
@needs_sandbox
def test_an_empty_cell_is_left_out_however_it_is_written(asked: JsonValue, empty: JsonValue) -> None:
    if empty == [] and asked != COUNTS_X:
        empty = None  # a column of text holds no lists
    rows: list[Row] = [{"prompt": "Q", "about": "A"}, {"prompt": "Q", "about": empty}]
    assert clean(rows, parameters(asked)).removed == {"empty": 1}


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(DatasetInvalid, match="no column 'answer'"):
        clean([{"prompt": "Q", "answers": "A"}], parameters({"kind": "exact_answer"}))


# ---- what the market makes of the metric's numbers


@given(st.lists(st.floats(-3, 1), min_size=2, max_size=8, unique=True), st.floats(-3, 1))
def test_scores_below_zero_are_placed_like_all_others(values: list[float], base: float) -> None:
    entries = [Entry(Hotkey(f"miner-{i}"), (value,), i) for i, value in enumerate(values)]
    places = PAPER.place(Contest(tuple(entries), (base,), GRPO.metric.better, 1, 1.0))
    ranked = [values[int(placing.hotkey.removeprefix("miner-"))] for placing in places if placing.rank is not None]
    assert ranked == sorted((value for value in values if value != base), reverse=True)


@pytest.mark.parametrize("order", list(itertools.permutations(["early", "late", "better"])))
def test_a_tie_below_zero_goes_to_the_earlier_commitment_in_any_order(order: Sequence[str]) -> None:
    values = {"early": (-0.52, 1), "late": (-0.52, 2), "better": (-0.5, 3)}
    entries = [Entry(Hotkey(name), (values[name][0],), values[name][1]) for name in order]
    places = PAPER.place(Contest(tuple(entries), (-0.6,), GRPO.metric.better, 1, 1.0))
    assert [placing.hotkey for placing in places] == ["better", "early", "late"]
    assert places[0].points > places[1].points
