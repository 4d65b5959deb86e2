"""What a customer gets loads with everybody's tools, and says nothing that the miner said."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from gradients.bases.bases import BaseInfo
from gradients.bases.licence import licence_of
from gradients.client.repo_check import check_folder
from gradients.domain.evaluation import Metric
from gradients.errors import SubmissionRejected
from gradients.execution.inline import InlineExecutor
from gradients.repo.card import Merit, Result
from gradients.repo.delivery import delivery
from gradients.repo.manifest import TrainingSummary, describe_folder

MERIT = Merit(
    task_id="instruct-1",
    task_type="instruct",
    hotkey="5Miner",
    metric=Metric("cross-entropy", "nats/token", 1, "lower"),
    hours=1.5,
    train_rows=2_000,
    held_out_rows=100,
    ours=Result(2.5, 0.1),
    base=Result(3.0, 0.2),
)
LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TOKENS = torch.arange(3, 40).unsqueeze(0)


@pytest.fixture
def base(base_folder: Path) -> BaseInfo:
    return BaseInfo(str(base_folder), base_folder, "b" * 64, 66_288)


@pytest.fixture
def adapter(base_folder: Path, tmp_path: Path) -> Path:
    """An adapter whose config and card would lead loaders elsewhere."""
    torch.manual_seed(5)
    model = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
    lora = LoraConfig(r=4, lora_alpha=6, target_modules=LAYERS, rank_pattern={"q_proj": 2}, layers_to_transform=[1])
    adapted = get_peft_model(model, lora)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    adapted.save_pretrained(tmp_path / "adapter")
    config = tmp_path / "adapter" / "adapter_config.json"
    told = json.loads(config.read_text())
    evil = {"base_model_name_or_path": "evil/base", "revision": "x", "auto_mapping": {"parent_library": "os"}}
    config.write_text(json.dumps(told | evil))
    (tmp_path / "adapter" / "README.md").write_text("evil")
    return tmp_path / "adapter"


def _delivered(repo: Path, base: BaseInfo, folder: Path) -> Path:
    kind: Literal["adapter", "full"] = "full" if (repo / "config.json").exists() else "adapter"
    manifest = describe_folder(
        repo, task_id="t", hotkey="h", base_digest="b" * 64, kind=kind, training=TrainingSummary()
    )
    folder.mkdir()
    given = delivery(repo, manifest, base, MERIT)
    for name, content in given.written.items():
        (folder / name).write_bytes(content)
    for name in given.weights:
        (folder / name).write_bytes((repo / name).read_bytes())
    for name, file in given.of_base.items():
        (folder / name).write_bytes(file.read_bytes())
    assert not any(b"evil" in file.read_bytes() for file in folder.iterdir() if file.suffix in (".json", ".md"))
    return folder


def test_a_delivered_adapter_loads_by_itself_on_the_base_that_it_was_measured_on(
    adapter: Path, base: BaseInfo, tmp_path: Path
) -> None:
    delivered = _delivered(adapter, base, tmp_path / "delivered")
    loaded = AutoPeftModelForCausalLM.from_pretrained(delivered, dtype=torch.float32)
    plain = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
    told = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(told | {"auto_mapping": None}))
    from peft import PeftModel

    genuine = PeftModel.from_pretrained(plain, adapter)
    with torch.inference_mode():
        assert torch.equal(loaded(TOKENS).logits, genuine(TOKENS).logits)


def test_a_delivered_full_model_in_parts_loads_by_itself(base: BaseInfo, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.1)
    model.save_pretrained(tmp_path / "repo", max_shard_size="40KB")
    index = tmp_path / "repo" / "model.safetensors.index.json"
    index.write_text(index.read_text().replace("model-00001-of", "../evil-00001-of"))
    (tmp_path / "repo" / "generation_config.json").unlink(missing_ok=True)
    delivered = _delivered(tmp_path / "repo", base, tmp_path / "delivered")
    loaded = AutoModelForCausalLM.from_pretrained(delivered, dtype=torch.float32)
    with torch.inference_mode():
        assert torch.equal(loaded(TOKENS).logits, model.eval()(TOKENS).logits)


def test_a_card_says_what_was_measured(adapter: Path, base: BaseInfo, tmp_path: Path) -> None:
    card = (_delivered(adapter, base, tmp_path / "delivered") / "README.md").read_text()
    assert "| this model | 2.5 | 2.304 to 2.696 |\n| its base | 3 | 2.608 to 3.392 |" in card
    assert "held-out cross-entropy, nats/token, lower is better" in card
    assert "2,000 to train on, 100 held out" in card
    assert "1.5 hours" in card


def test_a_hubs_base_is_named_with_its_revision_and_its_licence(adapter: Path, base: BaseInfo, tmp_path: Path) -> None:
    on_hub = tmp_path / "base"
    shutil.copytree(base.folder, on_hub)
    (on_hub / "README.md").write_text("---\nlanguage: en\nlicense: llama3.2\n---\nlicense: mit\n")
    hub = BaseInfo("org/name@abc123", on_hub, "b" * 64, 66_288)
    folder = _delivered(adapter, hub, tmp_path / "delivered")
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("org/name", "abc123")
    assert config["task_type"] == "CAUSAL_LM"
    card = (folder / "README.md").read_text()
    assert card.startswith(
        "---\nbase_model: org/name\nbase_model_relation: adapter\nlibrary_name: peft\nlicense: llama3.2\n"
    )
    assert "`org/name` at revision `abc123`" in card


def test_a_branch_is_delivered_as_the_commit_that_was_measured(adapter: Path, base: BaseInfo, tmp_path: Path) -> None:
    shutil.copytree(base.folder, tmp_path / "base")
    (tmp_path / "base" / "hub-commit").write_text("a" * 40)
    folder = _delivered(adapter, BaseInfo("org/name", tmp_path / "base", "b" * 64, 66_288), tmp_path / "delivered")
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("org/name", "a" * 40)
    assert f"`org/name` at revision `{'a' * 40}`" in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    "card",
    [
        "",
        "license: mit\n",
        "---\nlicense: mit",
        "---\nlicense: [x](evil)\n---\n",
        "---\nlicense:\n- mit\n---\n",
        "---\nlicense: a\n---\n",
    ],
)
def test_a_licence_is_one_plain_name_in_the_cards_front_matter(card: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(card)
    assert licence_of(tmp_path) is None


Spoil = Callable[[Path], object]


def test_a_repo_is_checked_as_a_validator_reads_it(adapter: Path, base: BaseInfo) -> None:
    verdict = asyncio.run(check_folder(adapter, base, InlineExecutor()))
    assert (verdict.kind, verdict.files, verdict.changed) == ("adapter", 3, 7)  # the linear layers of one block


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda repo: (repo / "train.py").write_text(""), "file_not_allowed"),
        (lambda repo: (repo / "adapter_config.json").write_text("{}"), "adapter_config_invalid"),
        (lambda repo: (repo / "adapter_model.safetensors").write_bytes(b"x" * 99), "header_invalid"),
        (lambda repo: (repo / "adapter_model.safetensors").unlink(), "file_missing"),
    ],
)
def test_a_repo_that_would_be_refused_is_refused_here(adapter: Path, base: BaseInfo, spoil: Spoil, code: str) -> None:
    spoil(adapter)
    with pytest.raises(SubmissionRejected) as refused:
        asyncio.run(check_folder(adapter, base, InlineExecutor()))
    assert refused.value.code == code
