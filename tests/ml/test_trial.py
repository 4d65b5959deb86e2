"""Tried before a task is offered: bases, templates and rows that no miner could train on are refused, rows that are cut counted."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pytest
import torch
from pydantic import JsonValue
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, BloomConfig, GPT2Config, OPTConfig

from gradients.errors import Blame, DatasetInvalid, GradientsError, ModelUnknown, TaskInvalid
from gradients.execution.functions import resolve
from gradients.ml.base_model import LARGEST_TEXT_FILE_BYTES
from gradients.tasks.jobs.rows import TrialJob, TrialResult
from gradients.tasks.registry import task_type
from gradients.tasks.workers.trial import LARGEST_COMPUTED_BYTES
from gradients.testing.tiny_models import write_tiny_llama

Rows = Sequence[Mapping[str, JsonValue]]
NEEDS_SYSTEM = "{% if messages[0].role != 'system' %}{{ raise_exception('no system') }}{% endif %}"
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
VOCABULARY = {"vocab_size": 320, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def _instruct(prompt: str, answer: str) -> Mapping[str, JsonValue]:
    return {"system": None, "prompt": prompt, "completion": answer}


ROWS: Rows = [_instruct(f"Where is house {number}?", f"House {number} is by the sea.") for number in range(20)]
TALKS: Rows = [{"system": None, "exchanges": [{"prompt": r["prompt"], "completion": r["completion"]}]} for r in ROWS]
PAIRS: Rows = [{"system": None, "prompt": r["prompt"], "chosen": r["completion"], "rejected": "No."} for r in ROWS]
JUDGED: Rows = [{"system": None, "prompt": r["prompt"], "reference": {}} for r in ROWS]
FOUND: Rows = [{**r, "answer": r["completion"], "answerable": True} for r in ROWS]
REWARDS: dict[str, JsonValue] = {"rewards": [{"kind": "length", "at_least": 1, "at_most": 9}]}
SHORT_PASSAGES: dict[str, JsonValue] = {
    "corpus": {"kind": "file", "path": "passages.jsonl"},
    "passages": 1,
    "passage_characters": 40,
}
CORPUS: dict[str, JsonValue] = {"corpus": {"kind": "file", "path": "passages.jsonl"}}
EVERY: list[tuple[str, Rows, dict[str, JsonValue]]] = [
    ("instruct", ROWS, {}),
    ("chat", TALKS, {}),
    ("dpo", PAIRS, {}),
    ("grpo", JUDGED, REWARDS),
    ("rag", FOUND, CORPUS),
]


def tried(
    base: Path,
    rows: Rows = ROWS,
    kind: str = "instruct",
    parameters: Mapping[str, JsonValue] = MappingProxyType({}),
    numbers: Sequence[int] = (),
) -> TrialResult:
    file = base.parent / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    job = TrialJob(base_folder=base, rows_file=file, numbers=tuple(numbers), parameters=dict(parameters))
    function = resolve(task_type(kind).trial or "")
    return TrialResult.model_validate(function(job.model_dump(mode="json"), lambda _: None))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_tiny_llama(tmp_path / "base")


def changed(folder: Path, name: str, **changes: JsonValue) -> Path:
    """The folder with keys of a JSON file of its own changed; None takes a key away."""
    whole = {**json.loads((folder / name).read_text()), **changes}
    (folder / name).write_text(json.dumps({key: value for key, value in whole.items() if value is not None}))
    return folder


@pytest.mark.parametrize(("kind", "rows", "parameters"), EVERY)
def test_a_base_that_works_has_a_finite_first_loss_and_no_row_cut(
    base: Path, kind: str, rows: Rows, parameters: dict[str, JsonValue]
) -> None:
    found = tried(base, rows, kind, parameters)
    assert (found.rows, found.cut_rows) == (20, 0)
    assert found.loss is not None
    assert 0 < found.loss < 20


# Bases that cannot be used, whatever the type


def _template(template: str | None) -> Callable[[Path], Path]:
    return lambda base: changed(base, "tokenizer_config.json", chat_template=template)


def _no_end(base: Path) -> Path:
    for name in ("config.json", "generation_config.json"):
        changed(base, name, eos_token_id=None)
    file = base / "tokenizer.json"
    file.write_text(file.read_text().replace("<|im_start|>", "<x>").replace("<|im_end|>", "</x>"))
    return changed(base, "tokenizer_config.json", chat_template=None, eos_token=None, bos_token=None)


def _nan(base: Path) -> Path:
    tensors = load_file(base / "model.safetensors")
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    return base


def _lacks_a_tensor(base: Path) -> Path:
    tensors = load_file(base / "model.safetensors")
    tensors.pop("model.norm.weight")
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    return base


def _other_shape(base: Path) -> Path:
    return changed(base, "config.json", hidden_size=64)


def _broken_tokenizer(base: Path) -> Path:
    (base / "tokenizer.json").write_text("{}")
    return base


def _no_json(base: Path) -> Path:
    (base / "tokenizer.json").write_text("tokens")
    return base


def _unknown_architecture(base: Path) -> Path:
    return changed(base, "config.json", model_type="t5", architectures=["T5ForConditionalGeneration"])


@pytest.mark.parametrize(("kind", "rows", "parameters"), EVERY)
@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (_template(NEEDS_SYSTEM + CHATML), "template_unusable"),
        (_template("{% for m in messages %}{{ m.role }}{% endfor %}"), "template_unusable"),
        (
            _template("{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}"),
            "template_unusable",
        ),
        (_no_end, "base_without_end"),
        (_nan, "base_unusable"),
        (_lacks_a_tensor, "base_incomplete"),
    ],
    ids=["needs a system message", "drops texts", "wants parts", "no end", "no number", "incomplete"],
)
def test_a_base_that_no_miner_could_train_is_the_customers_matter(
    base: Path,
    spoil: Callable[[Path], Path],
    code: str,
    kind: str,
    rows: Rows,
    parameters: dict[str, JsonValue],
) -> None:
    with pytest.raises((TaskInvalid, ModelUnknown)) as caught:
        tried(spoil(base), rows, kind, parameters)
    assert (caught.value.code, caught.value.blame) == (code, Blame.CUSTOMER)


def _absurdly_wide(base: Path) -> Path:
    return changed(base, "config.json", vocab_size=10**12)


def _absurdly_deep(base: Path) -> Path:
    return changed(base, "config.json", intermediate_size=10**11)


def _nonsense(base: Path) -> Path:
    return changed(base, "config.json", num_attention_heads=7, hidden_size=-5)


def _remote_code(base: Path) -> Path:
    return changed(
        base, "config.json", model_type="own", auto_map={"AutoConfig": "own.Config", "AutoModel": "own.Model"}
    )


@pytest.mark.parametrize(
    "spoil",
    [
        _other_shape,
        _broken_tokenizer,
        _no_json,
        _unknown_architecture,
        _absurdly_wide,
        _absurdly_deep,
        _nonsense,
        _remote_code,
    ],
)
def test_files_that_do_not_fit_together_are_refused_in_our_words(base: Path, spoil: Callable[[Path], Path]) -> None:
    with pytest.raises(ModelUnknown) as caught:
        tried(spoil(base))
    assert caught.value.fix
    assert len(str(caught.value)) < 600


def test_a_template_that_demands_a_system_message_is_fine_for_rows_that_have_one(base: Path) -> None:
    spoilt = _template(NEEDS_SYSTEM + CHATML)(base)
    assert tried(spoilt, [{**row, "system": "Be brief."} for row in ROWS]).rows == 20


def test_an_end_of_text_that_only_the_config_names_is_found(base: Path) -> None:
    changed(base, "tokenizer_config.json", chat_template=None, eos_token=None)
    assert tried(base).rows == 20


OPT = {"hidden_size": 48, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "word_embed_proj_dim": 48}


@pytest.mark.parametrize(
    "config",
    [
        BloomConfig(hidden_size=48, n_layer=2, n_head=4),
        GPT2Config(n_embd=48, n_layer=2, n_head=4),
        OPTConfig(**OPT),
    ],
    ids=["bloom", "gpt2", "opt"],
)
def test_architectures_work_with_the_attention_that_they_know(
    base: Path, config: BloomConfig | GPT2Config | OPTConfig
) -> None:
    for name in ("model.safetensors", "config.json"):
        (base / name).unlink()
    for key, value in VOCABULARY.items():
        setattr(config, key, value)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).half().save_pretrained(base)
    found = tried(base)
    assert found.loss is not None


def test_a_large_base_is_built_without_its_weights(base: Path) -> None:
    (base / "more.safetensors").touch()
    os.truncate(base / "more.safetensors", LARGEST_COMPUTED_BYTES)  # a hole, which takes no room on the disk
    assert tried(_nan(base)).loss is None
    with pytest.raises(GradientsError):
        tried(_unknown_architecture(base))


def test_a_tokenizer_of_absurd_size_is_refused_before_it_is_read(base: Path) -> None:
    os.truncate(base / "tokenizer.json", LARGEST_TEXT_FILE_BYTES + 1)
    with pytest.raises(ModelUnknown, match="more than a tokenizer or a config may have") as caught:
        tried(base)
    assert caught.value.code == "base_too_large"


# Rows


def test_rows_with_tokens_that_the_embedding_lacks_are_named_by_their_place_in_the_source(base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(["<|new|>"], special_tokens=True)
    tokenizer.save_pretrained(base)
    rows = [*ROWS, _instruct("Where?", "<|new|>"), _instruct("Who?", "I <|new|>")]
    with pytest.raises(DatasetInvalid, match=r"'<\|new\|>' .*in the source: 121, 122") as caught:
        tried(base, rows, numbers=range(101, 123))
    assert (caught.value.code, caught.value.rows) == ("token_unknown", (121, 122))
    assert tried(base).rows == 20  # a token that no row has harms nobody


def test_rows_that_are_cut_are_counted(base: Path) -> None:
    rows = [*ROWS, *[_instruct("Say it. " * 30, "yes")] * 4]
    assert tried(base, rows, parameters={"max_tokens": 64}).cut_rows == 4
    assert tried(base, rows, parameters={"max_tokens": 512}).cut_rows == 0
    assert (
        tried(base, [*ROWS, _instruct("a " * 900, "yes")], parameters={"max_tokens": 9999}).cut_rows == 1
    )  # it reads 512
    assert (
        tried(base, [{**JUDGED[0], "prompt": "a " * 90}, *JUDGED], "grpo", {**REWARDS, "max_tokens": 32}).cut_rows >= 1
    )


@pytest.mark.parametrize("same", [20, 10])
def test_answers_that_are_cut_to_equal_are_told_with_how_many(base: Path, same: int) -> None:
    long = [{**pair, "chosen": "far " * 90 + "good", "rejected": "far " * 90 + "bad"} for pair in PAIRS[:same]]
    with pytest.raises(
        DatasetInvalid, match=f"In {same} of 20 rows that were tried both answers are the same"
    ) as caught:
        tried(base, [*long, *PAIRS[same:]], "dpo", {"max_tokens": 64})
    assert caught.value.code == "answers_cut_to_equal"
    assert tried(base, [*long, *PAIRS[same:]], "dpo", {"max_tokens": 512}).rows == 20


def test_a_few_answers_that_are_cut_to_equal_are_only_counted(base: Path) -> None:
    long = {**PAIRS[0], "chosen": "far " * 90 + "good", "rejected": "far " * 90 + "bad"}
    assert tried(base, [long, *PAIRS[1:]], "dpo", {"max_tokens": 64}).cut_rows == 1


@pytest.mark.parametrize("kind", ["instruct", "chat", "dpo", "rag"])
def test_answers_that_leave_no_room_for_a_prompt_are_refused(base: Path, kind: str) -> None:
    answer = "on and on " * 60
    rows: dict[str, Rows] = {
        "instruct": [_instruct("Where?", answer)] * 20,
        "chat": [{"exchanges": [{"prompt": "Where?", "completion": answer}]}] * 20,
        "dpo": [{"prompt": "Where?", "chosen": answer, "rejected": "no"}] * 20,
        "rag": [{**FOUND[0], "completion": answer}] * 20,
    }
    with pytest.raises(DatasetInvalid, match="In 20 of 20 rows that were tried the answer leaves no room") as caught:
        tried(base, rows[kind], kind, {**(SHORT_PASSAGES if kind == "rag" else {}), "max_tokens": 32})
    assert caught.value.code == "prompts_cut"


def test_passages_that_do_not_fit_are_refused_and_a_few_are_counted(base: Path) -> None:
    wide = {**FOUND[0], "prompt": "[1] A long passage. " * 20}
    with pytest.raises(DatasetInvalid, match="the prompt does not fit and loses its beginning"):
        tried(base, [wide] * 20, "rag", {**SHORT_PASSAGES, "max_tokens": 64})
    assert tried(base, [wide, *FOUND], "rag", {**SHORT_PASSAGES, "max_tokens": 64}).cut_rows == 1
