"""Chat templates see what transformers gives them, but for the date, and run under limits, whoever wrote them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import jinja2
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import _compile_jinja_template

from gradients.domain.dialogue import Shape
from gradients.errors import Blame, TaskInvalid
from gradients.ml.dialogue import DialogueFormat, DialogueRow
from gradients.ml.text import ChatFormat, Exchange
from gradients.sandbox.templates import TODAY, environment, layouts

ONE = Shape(system=False, exchanges=1)
MESSAGES = [{"role": "user", "content": 'a "<b>" & ü'}, {"role": "assistant", "content": "c"}]


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages | tojson }}",
        "{{ messages | tojson(ensure_ascii=True) }}",
        "{{ messages | tojson(indent=2) }}",
        "{{ messages | tojson(indent=2, sort_keys=True, separators=(',', ':')) }}",
        "{{ messages | tojson(False, 4) }}",
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
        "{% for m in messages %}{% if m.role == 'user' %}{%- generation -%}{{ m.content }}{%- endgeneration -%}{% endif %}{% endfor %}",
        "{% for m in messages %}{% if loop.index == 2 %}{% break %}{% endif %}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{% if m.role == 'user' %}{% continue %}{% endif %}{{ m.content }}{% endfor %}",
        "{% set n = namespace(x=1, self=2) %}{% set n.x = n.x + 1 %}{{ n.x }}{{ n.self }}",
        "{{ dict(a=1) | tojson }}{{ dict.fromkeys(['a'], 1) }}",
        "  {% if true %}\n  {{ messages[0].content }}\n  {% endif %}\n",  # white space around blocks
        "{{ tools is none }}{{ tools is defined }}{{ documents is none }}{{ nothing is defined }}",
        "{{ messages[0].content | trim | upper }}{{ messages | length }}{{ bos_token }}",
        "{% macro m(x) %}[{{ x }}]{% endmacro %}{{ m(messages[1].content) }}",
    ],
)
def test_a_template_writes_what_it_writes_in_transformers(template: str) -> None:
    given = {"messages": MESSAGES, "tools": None, "documents": None, "add_generation_prompt": True, "bos_token": "<s>"}
    assert environment().from_string(template).render(**given) == _compile_jinja_template(template).render(**given)


def test_templates_find_the_same_names_filters_and_tests_as_in_transformers() -> None:
    ours, theirs = environment(), _compile_jinja_template("").environment
    assert ours.globals.keys() == theirs.globals.keys()
    assert ours.filters.keys() == theirs.filters.keys()
    assert ours.tests.keys() == theirs.tests.keys()
    assert (ours.trim_blocks, ours.lstrip_blocks, ours.autoescape) == (
        theirs.trim_blocks,
        theirs.lstrip_blocks,
        theirs.autoescape,
    )
    assert {tag for each in ours.extensions.values() for tag in each.tags} == {
        tag for each in theirs.extensions.values() for tag in each.tags
    }


@pytest.mark.parametrize(
    "template", ["{{ namespace(__class__=1) }}", "{{ dict.__init__ }}{{ dict.mro() }}", "{{ messages.append(1) }}"]
)
def test_what_transformers_refuses_is_refused(template: str) -> None:
    for compiled in (environment().from_string(template), _compile_jinja_template(template)):
        with pytest.raises((jinja2.TemplateError, TypeError)):
            compiled.render(messages=list(MESSAGES))


@pytest.mark.parametrize("written", ["%d %b %Y", "%Y-%m-%d", "%H:%M:%S", "%A"])
def test_a_templates_clock_stands_still(written: str) -> None:
    template = f"{{{{ strftime_now('{written}') }}}}|{{% for m in messages %}}[{{{{ m.content }}}}]{{% endfor %}}"
    head = layouts(template, [ONE])[ONE][0]
    assert head == f"{datetime(2026, 1, 1).strftime(written)}|["
    assert datetime(2026, 1, 1) == TODAY


def test_a_bases_own_template_has_no_other_clock(base_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base_folder)
    tokenizer.chat_template = (
        "Today: {{ strftime_now('%d %b %Y') }}\n{% for m in messages %}[{{ m.content }}]{% endfor %}"
    )
    assert ChatFormat(tokenizer).prompt(system=None, prompt="Hi") == "Today: 01 Jan 2026\n[Hi]["


# A base of a hub brings its template

HOSTILE = {  # those that take all of their processor time are in tests/unit/tasks/test_chat.py, where less is allowed
    "eats memory": "{{ 'x' * 10 ** 10 }}{{ messages }}",
    "writes without end": "{{ 'x' * 300000 }}{% for m in messages %}{{ m.content }}{% endfor %}",
    "reaches out": "{{ messages.__class__.__mro__[1].__subclasses__() }}",
    "grows": "{% set n = namespace(x='x' * 100000) %}{% for a in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}{{ messages }}",
    "is not Jinja": "{% for m in messages %}",
}


@pytest.fixture
def tokenizer(base_folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(base_folder)


@pytest.mark.parametrize("template", HOSTILE.values(), ids=HOSTILE)
def test_a_bases_hostile_template_ends_as_the_customers_mistake(
    tokenizer: PreTrainedTokenizerBase, template: str
) -> None:
    tokenizer.chat_template = template
    with pytest.raises(TaskInvalid, match="The base's chat template") as caught:
        ChatFormat(tokenizer).prompt(system=None, prompt="Hi")
    assert (caught.value.code, caught.value.blame) == ("template_unusable", Blame.CUSTOMER)
    with pytest.raises(TaskInvalid):
        DialogueFormat(tokenizer).encode(
            [DialogueRow(exchanges=(Exchange(prompt="a", completion="b"),))], max_tokens=99
        )
