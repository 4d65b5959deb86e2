from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from gradients.errors import DatasetInvalid
from gradients.ml.text import ChatFormat, PromptRow, read_prompt_rows

NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "[{{ m['content'] }}]{% endfor %}"
)
DROPS_SYSTEM = "{% for m in messages %}{% if m['role'] != 'system' %}[{{ m['content'] }}]{% endif %}{% endfor %}"


@pytest.fixture
def tokenizer(base_folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(base_folder)


def decode(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> str:
    text: str = tokenizer.decode(tokens)
    return text


def test_a_row_is_written_in_the_bases_own_chat_format(tokenizer: PreTrainedTokenizerBase) -> None:
    row = PromptRow(system="Be brief.", prompt="What is an anvil?", completion="A block of iron.")
    [example] = ChatFormat(tokenizer).encode([row], max_tokens=200)
    start = example.spans[0].start
    prompt, completion = example.tokens[:start], example.tokens[start:]
    assert decode(tokenizer, prompt) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat is an anvil?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert decode(tokenizer, completion) == "A block of iron.<|im_end|>"
    assert completion[-1] == tokenizer.eos_token_id


def test_a_row_without_system_has_no_system_turn(tokenizer: PreTrainedTokenizerBase) -> None:
    assert ChatFormat(tokenizer).prompt(system=None, prompt="Hi") == (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("template", [NO_SYSTEM, DROPS_SYSTEM])
def test_a_template_without_system_turns_gets_it_with_the_prompt(
    tokenizer: PreTrainedTokenizerBase, template: str
) -> None:
    tokenizer.chat_template = template
    assert ChatFormat(tokenizer).prompt(system="Be brief.", prompt="Hi") == "[Be brief.\n\nHi]["


def test_a_base_without_template_gets_plain_lines_and_its_own_end(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = None
    [example] = ChatFormat(tokenizer).encode([PromptRow(system="S", prompt="P", completion="C")], max_tokens=50)
    assert decode(tokenizer, example.tokens) == "S\n\nP\nC<|im_end|>"


def test_a_long_row_loses_the_start_of_its_prompt_and_keeps_its_completion(tokenizer: PreTrainedTokenizerBase) -> None:
    chat = ChatFormat(tokenizer)
    row = PromptRow(prompt="x" * 100, completion="abc")
    [whole], [cut] = chat.encode([row], max_tokens=500), chat.encode([row], max_tokens=20)
    assert len(cut.tokens) == 20
    assert cut.tokens == whole.tokens[-20:]
    assert cut.tokens[cut.spans[0].start :] == whole.tokens[whole.spans[0].start :]


def test_a_completion_that_alone_is_too_long_keeps_its_start_and_one_token_before_it(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    chat = ChatFormat(tokenizer)
    row = PromptRow(prompt="hello", completion="y" * 100)
    [whole], [cut] = chat.encode([row], max_tokens=500), chat.encode([row], max_tokens=12)
    assert (len(cut.tokens), cut.spans) == (12, (range(1, 12),))
    assert cut.tokens[1:] == whole.tokens[whole.spans[0].start :][:11]


def test_an_answer_stops_where_a_turn_ends(tokenizer: PreTrainedTokenizerBase) -> None:
    assert ChatFormat(tokenizer).stop_tokens == [tokenizer.convert_tokens_to_ids("<|im_end|>")]


def test_rows_are_read_in_order_and_bad_lines_are_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"system": null, "prompt": "a", "completion": "b"}\n{"prompt": "c", "completion": "d"}\n')
    assert [row.prompt for row in read_prompt_rows(path)] == ["a", "c"]
    path.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "c"}\n')
    with pytest.raises(DatasetInvalid, match="Line 2") as caught:
        read_prompt_rows(path)
    assert caught.value.rows == (2,)


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("")
    with pytest.raises(DatasetInvalid, match="no rows"):
        read_prompt_rows(tmp_path / "rows.jsonl")
