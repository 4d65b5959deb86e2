"""Our log-likelihoods are those of lm-evaluation-harness, the field's own yardstick, on the shipped model and rows of the shipped data."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from peft import LoraConfig, get_peft_model

from gradients.bases.bases import SHIPPED
from gradients.ml.base_model import load_base
from gradients.ml.device import Device
from gradients.ml.losses import measure_rows
from gradients.ml.submission import applied
from gradients.ml.text import ChatFormat, PromptRow

MODEL = SHIPPED / "nano-lm"
DEFINITIONS = SHIPPED.parent / "data" / "wordnet-definitions" / "rows.jsonl"
END_OF_TURN = "<|im_end|>"
CPU = Device("cpu")


@pytest.fixture(scope="module")
def rows() -> list[PromptRow]:
    with DEFINITIONS.open(encoding="utf-8") as file:
        lines = [json.loads(line) for line in itertools.islice(file, 48)]
    return [PromptRow(prompt=line["question"], completion=line["definition"]) for line in lines]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA whose both factors are random, so that it changes every answer."""
    torch.manual_seed(5)
    shape = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj", "down_proj"])
    changed = get_peft_model(load_base(MODEL, CPU).model, shape)
    for name, weight in changed.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    folder = tmp_path_factory.mktemp("adapter")
    changed.save_pretrained(folder)
    return folder


def _ours(rows: list[PromptRow], adapter: Path | None = None) -> list[float]:
    base = load_base(MODEL, CPU)
    examples = ChatFormat(base.tokenizer).encode(rows, max_tokens=base.context)
    with applied(base.model, adapter):
        measured = measure_rows(base.model, examples, device=CPU, max_tokens=2048)
    return [-row.mean * row.tokens for row in measured]


def _theirs(rows: list[PromptRow], adapter: Path | None = None) -> list[float]:
    """The harness's log-likelihood of each answer with its end of turn.

    It counts white space before an answer to the answer, so what it says of that white space alone is taken off.
    """
    peft = str(adapter) if adapter else None
    harness = HFLM(pretrained=str(MODEL), peft=peft, device="cpu", dtype="float32", batch_size=8)
    form = ChatFormat(harness.tokenizer)
    prompts = [form.prompt(system=row.system, prompt=row.prompt) for row in rows]
    blanks = [(prompt.rstrip(), prompt[len(prompt.rstrip()) :]) for prompt in prompts]
    answers = [
        (prompt, blank + row.completion + END_OF_TURN) for (prompt, blank), row in zip(blanks, rows, strict=True)
    ]
    asked = [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(answers + blanks)]
    said = [float(likelihood) for likelihood, _ in harness.loglikelihood(asked, disable_tqdm=True)]
    return [both - blank for both, blank in zip(said[: len(rows)], said[len(rows) :], strict=True)]


def test_likelihoods_under_the_base_are_the_harnesss(rows: list[PromptRow]) -> None:
    assert _ours(rows) == pytest.approx(_theirs(rows), abs=1e-4)


def test_likelihoods_under_a_submission_are_the_harnesss_with_pefts_own_loader(
    rows: list[PromptRow], adapter: Path
) -> None:
    ours = _ours(rows, adapter)
    assert ours == pytest.approx(_theirs(rows, adapter), abs=1e-4)
    assert max(abs(changed - before) for changed, before in zip(ours, _ours(rows), strict=True)) > 1
