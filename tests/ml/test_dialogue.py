"""How dialogues become tokens: what is written, what counts, and what a row that is too long loses."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from gradients.bases.bases import SHIPPED
from gradients.domain.dialogue import BEGIN_OF_TEXT, END_OF_TEXT
from gradients.errors import TaskInvalid
from gradients.ml.base_model import LoadedBase, load_base
from gradients.ml.batching import IGNORED, pad
from gradients.ml.device import Device
from gradients.ml.dialogue import DialogueFormat, DialogueRow, family_template
from gradients.ml.losses import measure_rows
from gradients.ml.text import ChatFormat, Example, Exchange, PromptRow

CPU = Device("cpu")
NANO = SHIPPED / "nano-lm"


def row(*said: str, system: str | None = None, frames: tuple[str, ...] | None = None) -> DialogueRow:
    """Prompts and answers in turn."""
    exchanges = [
        Exchange(prompt=prompt, completion=answer) for prompt, answer in zip(said[::2], said[1::2], strict=True)
    ]
    return DialogueRow(system=system, exchanges=tuple(exchanges), frames=frames)


ROWS = [
    row("What is an anvil?", "A block of iron.", "Who uses it?", "A smith does.", "Why?", "To shape metal."),
    row("Where is the harbour?", "By the sea.", system="Be brief."),
    row("Hi", "Hello", "Bye", "See you", system="Be kind."),
]


@pytest.fixture
def tokenizer(base_folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(base_folder)


def encode(tokenizer: PreTrainedTokenizerBase, dialogue: DialogueRow, *, max_tokens: int = 400) -> Example:
    return DialogueFormat(tokenizer).encode([dialogue], max_tokens=max_tokens)[0]


def written(tokenizer: PreTrainedTokenizerBase, example: Example) -> str:
    text: str = tokenizer.decode(example.tokens)
    return text


def counted(tokenizer: PreTrainedTokenizerBase, example: Example) -> list[str]:
    return [tokenizer.decode(example.tokens[span.start : span.stop]) for span in example.spans]


def test_every_answer_counts_with_its_end_of_turn_and_nothing_else_does(tokenizer: PreTrainedTokenizerBase) -> None:
    example = encode(tokenizer, ROWS[2])
    assert written(tokenizer, example) == (
        "<|im_start|>system\nBe kind.<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
        "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\nSee you<|im_end|>"
    )
    assert counted(tokenizer, example) == ["Hello<|im_end|>", "See you<|im_end|>"]


@pytest.mark.parametrize("dialogue", ROWS)
def test_tokens_and_what_counts_are_those_of_transformers_own_template(dialogue: DialogueRow) -> None:
    """The shipped base marks in its template what the assistant says."""
    tokenizer = AutoTokenizer.from_pretrained(NANO)
    theirs = tokenizer.apply_chat_template(
        messages_of(dialogue), return_dict=True, return_assistant_tokens_mask=True, return_tensors="pt"
    )
    ours = pad([encode(tokenizer, dialogue)], CPU)
    length = ours.tokens.shape[1]
    assert ours.tokens[0].tolist() == theirs["input_ids"][0, :length].tolist()
    assert (ours.labels[0] != IGNORED).tolist() == theirs["assistant_masks"][0, :length].bool().tolist()
    assert not theirs["assistant_masks"][0, length:].any()  # the line end behind the last turn


@pytest.mark.parametrize("dialogue", ROWS)
def test_the_loss_is_transformers_own_loss_with_labels(dialogue: DialogueRow) -> None:
    base = load_base(NANO, CPU)
    theirs = base.tokenizer.apply_chat_template(
        messages_of(dialogue), return_dict=True, return_assistant_tokens_mask=True, return_tensors="pt"
    )
    labels = torch.where(theirs["assistant_masks"].bool(), theirs["input_ids"], IGNORED)
    with torch.no_grad():
        expected = base.model(input_ids=theirs["input_ids"], labels=labels, use_cache=False).loss.item()
    [ours] = measure_rows(base.model, [encode(base.tokenizer, dialogue)], device=CPU, max_tokens=2048)
    assert ours.mean == pytest.approx(expected, abs=1e-5)


def messages_of(dialogue: DialogueRow) -> list[dict[str, str]]:
    system = [{"role": "system", "content": dialogue.system}] if dialogue.system else []
    turns = [
        {"role": role, "content": text}
        for each in dialogue.exchanges
        for role, text in (("user", each.prompt), ("assistant", each.completion))
    ]
    return system + turns


@pytest.mark.parametrize("max_tokens", [12, 30, 200])
@pytest.mark.parametrize("template", ["own", "none"])
def test_one_exchange_is_written_and_cut_as_an_instruct_row_is(
    tokenizer: PreTrainedTokenizerBase, max_tokens: int, template: str
) -> None:
    if template == "none":
        tokenizer.chat_template = None
    dialogue = row("What is an anvil?", "A block of iron.", system="Be brief.")
    asked = PromptRow(system="Be brief.", prompt="What is an anvil?", completion="A block of iron.")
    [instruct] = ChatFormat(tokenizer, without_template=family_template(tokenizer)).encode(
        [asked], max_tokens=max_tokens
    )
    assert encode(tokenizer, dialogue, max_tokens=max_tokens) == instruct


# What a row that is too long loses


def test_a_long_dialogue_loses_its_oldest_exchanges_as_a_whole_and_keeps_its_system_message(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    said = ("a1", "b1", "a2", "b2", "a3", "b3")
    last_two = encode(tokenizer, row(*said[2:], system="S"))
    last_one = encode(tokenizer, row(*said[4:], system="S"))
    whole = row(*said, system="S")
    assert encode(tokenizer, whole, max_tokens=len(last_two.tokens)) == last_two
    assert encode(tokenizer, whole, max_tokens=len(last_two.tokens) - 1) == last_one


@given(st.integers(8, 200), st.lists(st.sampled_from(["word ", "an anvil ", "x" * 40]), min_size=1, max_size=5))
def test_a_cut_dialogue_fits_and_ends_with_its_last_answer(
    base: LoadedBase, max_tokens: int, prompts: list[str]
) -> None:
    dialogue = row(*(text for prompt in prompts for text in (prompt * 2, "So be it.")), system="Be brief.")
    example = encode(base.tokenizer, dialogue, max_tokens=max_tokens)
    assert len(example.tokens) <= max_tokens
    assert example.spans[-1].stop == len(example.tokens)
    answer = "So be it.<|im_end|>"
    whole = len(base.tokenizer(answer)["input_ids"])
    assert all(len(span) == whole for span in example.spans) or max_tokens <= whole
    assert counted(base.tokenizer, example)[-1] == answer or max_tokens <= whole


def test_only_an_answer_that_alone_is_too_long_is_cut(tokenizer: PreTrainedTokenizerBase) -> None:
    dialogue = row("early", "answer", "hello", "y" * 100)
    alone = encode(tokenizer, row("hello", "y" * 100))
    cut = encode(tokenizer, dialogue, max_tokens=12)
    assert (len(cut.tokens), cut.spans) == (12, (range(1, 12),))
    assert cut.tokens[1:] == alone.tokens[alone.spans[0].start :][:11]


def test_the_longest_end_of_a_dialogue_that_fits_is_kept(tokenizer: PreTrainedTokenizerBase) -> None:
    """At every length it is what the last exchanges alone are written as."""
    said = [text for number in range(6) for text in (f"What is {number}?", f"A number, {number}.")]
    ends = [encode(tokenizer, row(*said[first:])) for first in range(0, 12, 2)]
    for most in range(len(ends[-1].tokens), len(ends[0].tokens) + 1):
        longest = next(end for end in ends if len(end.tokens) <= most)
        assert encode(tokenizer, row(*said), max_tokens=most) == longest


def test_a_dialogue_of_very_many_exchanges_is_cut_in_no_time(tokenizer: PreTrainedTokenizerBase) -> None:
    """Each exchange is written once: 8,000 took a quarter of a minute when all that was left was put together anew for each."""
    frames = ("Q: ", *["\nA: ", "\nQ: "] * 7999, "\nA: ", "\n")
    long = row(*["a", "b"] * 8000, frames=frames)
    started = time.process_time()
    assert len(encode(tokenizer, long, max_tokens=100).tokens) <= 100
    assert time.process_time() - started < 8


# Templates


@pytest.mark.parametrize(
    ("markers", "text", "answers"),
    [
        (
            ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
            "<|begin|><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
            "a<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nb<|eot_id|>",
            ["b<|eot_id|>"],
        ),
        (
            ["<start_of_turn>", "<end_of_turn>"],
            "<|begin|><start_of_turn>user\nS\n\na<end_of_turn>\n<start_of_turn>model\nb<end_of_turn>",
            ["b<end_of_turn>"],
        ),
        (
            ["<|user|>", "<|assistant|>", "<|end|>"],
            "<|system|>\nS<|end|>\n<|user|>\na<|end|>\n<|assistant|>\nb<|end|>",
            ["b<|end|>"],
        ),
        (["[INST]", "[/INST]"], "<|begin|>[INST] S\n\na [/INST]b<|stop|>", ["b<|stop|>"]),
        ([], "S\n\na\nb<|stop|>", ["b<|stop|>"]),
    ],
    ids=["Llama 3", "Gemma", "Phi 3", "Mistral", "none"],
)
def test_a_base_without_template_is_written_to_as_its_family_is(
    plain_tokenizer: PreTrainedTokenizerBase, markers: list[str], text: str, answers: list[str]
) -> None:
    plain_tokenizer.add_tokens(markers, special_tokens=True)
    example = encode(plain_tokenizer, row("a", "b", system="S"))
    assert written(plain_tokenizer, example) == text
    assert counted(plain_tokenizer, example) == answers


@pytest.fixture
def plain_tokenizer(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> PreTrainedTokenizerBase:
    """One that knows no markers of turns and has no template; its first and last tokens are <|begin|> and <|stop|>."""
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    file = tmp_path / "tokenizer.json"
    file.write_text(file.read_text().replace("<|im_start|>", "<|begin|>").replace("<|im_end|>", "<|stop|>"))
    config = tmp_path / "tokenizer_config.json"
    config.write_text(config.read_text().replace("<|im_start|>", "<|begin|>").replace("<|im_end|>", "<|stop|>"))
    return AutoTokenizer.from_pretrained(tmp_path)


def test_a_base_without_template_but_with_chatmls_markers_speaks_chatml(tokenizer: PreTrainedTokenizerBase) -> None:
    with_template = encode(tokenizer, ROWS[2])
    tokenizer.chat_template = None
    assert encode(tokenizer, ROWS[2]) == with_template


def test_a_customers_layout_is_used_with_the_bases_own_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    frames = (f"{BEGIN_OF_TEXT}Q: ", "\nA: ", f"{END_OF_TEXT}\nQ: ", "\nA: ", f"{END_OF_TEXT}\n")
    example = encode(tokenizer, row("a", "b", "c", "d", frames=frames))
    assert written(tokenizer, example) == "<|im_start|>Q: a\nA: b<|im_end|>\nQ: c\nA: d<|im_end|>"
    assert counted(tokenizer, example) == ["b<|im_end|>", "d<|im_end|>"]


def test_a_template_that_cannot_write_dialogues_is_named(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = "{{ raise_exception('no chatting') }}"
    with pytest.raises(TaskInvalid, match="no chatting"):
        encode(tokenizer, ROWS[0])
