"""What a miner's files may do to our base, and what they may not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config

from gradients.errors import SubmissionRejected
from gradients.ml.base_model import LoadedBase, load_base
from gradients.ml.device import Device
from gradients.ml.losses import measure_rows
from gradients.ml.submission import applied, fingerprint
from gradients.ml.submission_configs import read_adapter_config
from gradients.ml.text import Example

Q_PROJ = "base_model.model.model.layers.0.self_attn.q_proj"


def losses(base: LoadedBase, examples: list[Example]) -> list[float]:
    return [row.mean for row in measure_rows(base.model, examples, device=Device("cpu"), max_tokens=2048)]


def rejection(base: LoadedBase, folder: Path) -> str:
    """The code with which the submission is refused; the base must be as it was."""
    before = fingerprint(base.model)
    with pytest.raises(SubmissionRejected) as caught, applied(base.model, folder):
        pytest.fail("applied all the same")
    assert fingerprint(base.model) == before
    return caught.value.code


@pytest.fixture(scope="module")
def peft_adapter(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes an adapter with random factors by peft itself."""

    def write(**changes: object) -> Path:
        folder = tmp_path_factory.mktemp("adapter")
        torch.manual_seed(5)
        model = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
        adapted = get_peft_model(
            model, LoraConfig(**({"r": 4, "lora_alpha": 8, "target_modules": "all-linear"} | changes))
        )
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
        adapted.save_pretrained(folder)
        return folder

    return write


@pytest.fixture
def adapter(peft_adapter: Callable[..., Path]) -> Path:
    return peft_adapter()


@pytest.fixture
def full(base_folder: Path, tmp_path: Path) -> Path:
    """A full model whose every weight is a little larger than the base's."""
    tensors = {name: tensor * 1.1 for name, tensor in load_file(base_folder / "model.safetensors").items()}
    save_file(tensors, tmp_path / "model.safetensors")
    shutil.copy(base_folder / "config.json", tmp_path)
    return tmp_path


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_tensors(path: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    save_file({name: tensor.contiguous() for name, tensor in change(load_file(path)).items()}, path)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_rslora": True, "r": 9},
        {"target_modules": ["q_proj", "down_proj"]},
        {"init_lora_weights": "gaussian", "lora_dropout": 0.1},
        {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [1]},
        {"target_modules": ["q_proj"], "layers_to_transform": [0], "layers_pattern": "layers"},
        {"exclude_modules": ["down_proj", "o_proj"]},
        {"target_modules": r"model\.layers\.[01]\.mlp\.(up|gate)_proj"},
        {"rank_pattern": {"q_proj": 2, "layers.1.mlp.up_proj": 6}, "alpha_pattern": {"v_proj": 3}},
        {"rank_pattern": {"k_proj": 9}, "use_rslora": True},
    ],
)
def test_an_adapter_measures_as_it_does_in_genuine_peft(
    base: LoadedBase,
    base_folder: Path,
    examples: list[Example],
    peft_adapter: Callable[..., Path],
    changes: dict[str, object],
) -> None:
    folder = peft_adapter(**changes)
    with applied(base.model, folder):
        ours = losses(base, examples)
    model = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
    genuine = PeftModel.from_pretrained(model, folder).eval()
    theirs = [row.mean for row in measure_rows(genuine, examples, device=Device("cpu"), max_tokens=2048)]
    assert ours == pytest.approx(theirs, abs=1e-5)
    assert ours != pytest.approx(losses(base, examples), abs=1e-2)


def test_an_adapter_of_layers_that_stand_across_measures_as_in_genuine_peft(
    base_folder: Path, examples: list[Example], tmp_path: Path
) -> None:
    """GPT-2's linear layers keep their weights as [inputs, outputs]."""
    torch.manual_seed(0)
    config = GPT2Config(n_embd=48, n_layer=2, n_head=4, n_positions=512, vocab_size=320, bos_token_id=1, eos_token_id=2)
    folder = tmp_path / "gpt2"
    shutil.copytree(base_folder, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    lora = LoraConfig(r=4, target_modules="all-linear", fan_in_fan_out=True)
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), lora)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    adapted.save_pretrained(tmp_path / "adapter")
    across = load_base(folder, Device("cpu"))
    with applied(across.model, tmp_path / "adapter"):
        ours = losses(across, examples)
    theirs = [row.mean for row in measure_rows(adapted.eval(), examples, device=Device("cpu"), max_tokens=2048)]
    assert ours == pytest.approx(theirs, abs=1e-5)
    assert ours != pytest.approx(losses(across, examples), abs=1e-2)


def test_a_full_model_measures_as_its_weights_say(base: LoadedBase, examples: list[Example], full: Path) -> None:
    with applied(base.model, full):
        assert base.model.lm_head.weight is base.model.model.embed_tokens.weight
        stored = load_file(full / "model.safetensors")
        for name, weight in base.model.named_parameters():
            assert torch.equal(weight, stored[name].float())


@pytest.mark.parametrize("kind", ["adapter", "full"])
def test_the_base_comes_back_bit_by_bit(
    base: LoadedBase, examples: list[Example], kind: str, request: pytest.FixtureRequest
) -> None:
    before, first = fingerprint(base.model), losses(base, examples)
    weights = {name: weight.clone() for name, weight in base.model.named_parameters()}
    with applied(base.model, request.getfixturevalue(kind)):
        assert fingerprint(base.model) != before
    assert losses(base, examples) == first
    assert all(torch.equal(weight, weights[name]) for name, weight in base.model.named_parameters())


def test_the_base_comes_back_when_measuring_fails(base: LoadedBase, adapter: Path) -> None:
    before = fingerprint(base.model)
    with pytest.raises(ZeroDivisionError), applied(base.model, adapter):
        raise ZeroDivisionError
    assert fingerprint(base.model) == before


def test_no_folder_is_the_base_itself(base: LoadedBase) -> None:
    before = fingerprint(base.model)
    with applied(base.model, None):
        assert fingerprint(base.model) == before


def test_one_changed_bit_changes_the_fingerprint(base: LoadedBase) -> None:
    before = fingerprint(base.model)
    weight = next(base.model.parameters())
    bits = weight.detach().view(torch.int32)
    bits[3, 3] ^= 1
    changed = fingerprint(base.model)
    bits[3, 3] ^= 1
    assert changed != before
    assert fingerprint(base.model) == before


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"peft_type": "LOHA"}, "adapter_config_invalid"),
        ({"r": 0}, "adapter_config_invalid"),
        ({"r": 257}, "adapter_config_invalid"),
        ({"r": 8}, "tensor_shape"),  # the factors have rank 4
        ({"lora_alpha": -1}, "adapter_config_invalid"),
        ({"bias": "all"}, "adapter_config_invalid"),
        ({"init_lora_weights": "pissa"}, "adapter_config_invalid"),
        ({"use_dora": True}, "adapter_setting_refused"),
        ({"modules_to_save": ["lm_head"]}, "adapter_setting_refused"),
        ({"rank_pattern": {"q_proj": 8}}, "tensor_shape"),
        ({"rank_pattern": {"(a+)+$": 8}}, "adapter_setting_refused"),  # a pattern could be made to run for ever
        ({"rank_pattern": {"q_proj": 257}}, "adapter_setting_refused"),
        ({"alpha_pattern": {"q_proj": -8}}, "adapter_setting_refused"),
        ({"alpha_pattern": {".*": 8}}, "adapter_setting_refused"),
        ({"layer_replication": [[0, 2], [0, 2]]}, "adapter_setting_refused"),
        ({"trust_remote_code": True}, "adapter_setting_refused"),
    ],
)
def test_an_adapter_that_is_more_than_a_plain_lora_is_refused(
    base: LoadedBase, peft_adapter: Callable[..., Path], changes: dict[str, object], code: str
) -> None:
    folder = peft_adapter()
    change_config(folder, **changes)
    assert rejection(base, folder) == code


@pytest.mark.parametrize("text", ["", "[]", "{", '{"peft_type": "LORA"}', '{"r": 1e999}'])
def test_a_config_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "adapter_config.json").write_text(text)
    with pytest.raises(SubmissionRejected):
        read_adapter_config(tmp_path / "adapter_config.json")


def test_the_named_base_is_ignored(base: LoadedBase, adapter: Path) -> None:
    change_config(adapter, base_model_name_or_path="evil/model", revision="main", task_type="CAUSAL_LM")
    with applied(base.model, adapter):
        pass


Tensors = dict[str, torch.Tensor]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda t: {n: v for n, v in t.items() if n != f"{Q_PROJ}.lora_B.weight"}, "tensor_missing"),
        (lambda _: {}, "tensor_missing"),
        (lambda t: t | {"base_model.model.lm_head.lora_A.weight": torch.ones(4, 48)}, "tensor_unknown"),
        (
            lambda t: t | {"base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight": torch.ones(4, 48)},
            "tensor_unknown",
        ),
        (lambda t: t | {"base_model.model.model.embed_tokens.weight": torch.ones(320, 48)}, "tensor_unknown"),
        (lambda t: t | {f"{Q_PROJ}.lora_magnitude_vector": torch.ones(48)}, "tensor_unknown"),
        (lambda t: t | {f"{Q_PROJ}.lora_A.weight": torch.ones(4, 47)}, "tensor_shape"),
        (lambda t: t | {f"{Q_PROJ}.lora_A.weight": torch.ones(4, 48, dtype=torch.int32)}, "tensor_dtype"),
        (lambda t: t | {f"{Q_PROJ}.lora_A.weight": torch.full((4, 48), torch.nan)}, "tensor_not_finite"),
        (
            lambda t: {n: torch.full_like(v, 3e38) for n, v in t.items()},
            "tensor_not_finite",
        ),  # finite, its product is not
    ],
)
def test_an_adapter_with_other_tensors_than_it_should_have_is_refused(
    base: LoadedBase, peft_adapter: Callable[..., Path], change: Callable[[Tensors], Tensors], code: str
) -> None:
    folder = peft_adapter()
    change_tensors(folder / "adapter_model.safetensors", change)
    assert rejection(base, folder) == code


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda t: {n: v for n, v in t.items() if n != "model.norm.weight"}, "tensor_missing"),
        (lambda t: t | {"lm_head.weight": torch.ones(320, 48)}, "tensor_tied"),
        (lambda t: t | {"model.rotary_emb.inv_freq": torch.ones(6)}, "tensor_unknown"),
        (lambda t: t | {"model.layers.0.self_attn.q_proj.bias": torch.ones(48)}, "tensor_unknown"),
        (lambda t: t | {"model.norm.weight": torch.ones(47)}, "tensor_shape"),
        (lambda t: t | {"model.norm.weight": torch.ones(48, dtype=torch.float64)}, "tensor_dtype"),
        (lambda t: t | {"model.norm.weight": torch.full((48,), torch.inf)}, "tensor_not_finite"),
    ],
)
def test_a_full_model_with_other_tensors_than_the_base_is_refused(
    base: LoadedBase, full: Path, change: Callable[[Tensors], Tensors], code: str
) -> None:
    change_tensors(full / "model.safetensors", change)
    assert rejection(base, full) == code


def test_what_a_tied_head_and_constants_say_again_is_taken(base: LoadedBase, full: Path) -> None:
    """DeepSpeed and mergekit write the head beside the embeddings; older versions wrote the constants of rotary positions."""
    rotary = dict(base.model.named_buffers())["model.rotary_emb.inv_freq"]
    again = {
        "model.rotary_emb.inv_freq": rotary.clone(),
        "model.layers.1.self_attn.rotary_emb.inv_freq": rotary.clone(),
    }
    change_tensors(
        full / "model.safetensors", lambda t: t | again | {"lm_head.weight": t["model.embed_tokens.weight"].clone()}
    )
    with applied(base.model, full):
        pass
    change_tensors(
        full / "model.safetensors",
        lambda t: {n.replace("model.embed_tokens", "lm_head"): v for n, v in t.items() if n != "lm_head.weight"},
    )
    with applied(base.model, full):  # under the head's name alone, as some converters leave it
        assert base.model.lm_head.weight is base.model.model.embed_tokens.weight


def test_a_full_model_that_transformers_saves_anew_is_taken(
    base: LoadedBase, base_folder: Path, tmp_path: Path
) -> None:
    """Of a base whose config an older version wrote: other spellings of the same rope, defaults left out."""
    older = tmp_path / "older"
    shutil.copytree(base_folder, older)
    config = json.loads((older / "config.json").read_text())
    rope = config.pop("rope_parameters", None) or {"rope_theta": config.get("rope_theta", 10000.0)}
    config |= {
        "rope_theta": rope["rope_theta"],
        "rope_scaling": None,
        "torch_dtype": "float16",
        "transformers_version": "4.30.0",
    }
    (older / "config.json").write_text(json.dumps(config))
    model = AutoModelForCausalLM.from_pretrained(older, dtype=torch.float32)
    model.save_pretrained(tmp_path / "new")
    with applied(base.model, tmp_path / "new"):
        pass
    (tmp_path / "new" / "config.json").write_text((older / "config.json").read_text())
    with applied(base.model, tmp_path / "new"):
        pass


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": 49},
        {"vocab_size": 99},
        {"rope_theta": 1e5, "rope_parameters": None},
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}},
        {"max_position_embeddings": 8},
        {"hidden_act": "gelu"},
        {"rms_norm_eps": 1.0},
        {"final_logit_softcapping": 1.0},
        {"quantization_config": {"quant_method": "evil"}},
        {"auto_map": {"AutoModelForCausalLM": "evil.Model"}},
        {"model_type": "evil"},
        {"a" * 100_000: 1},
        {"\ud800": 1},
        {"hidden_size": "many"},
    ],
)
def test_a_full_model_whose_config_means_another_computation_is_refused(
    base: LoadedBase, full: Path, change: dict[str, object]
) -> None:
    config = json.loads((full / "config.json").read_text())
    (full / "config.json").write_text(json.dumps(config | change))
    assert rejection(base, full) == "config_mismatch"


def test_a_full_model_may_come_in_parts_but_no_tensor_twice(base: LoadedBase, full: Path) -> None:
    tensors = load_file(full / "model.safetensors")
    (full / "model.safetensors").unlink()
    names = sorted(tensors)
    save_file({name: tensors[name] for name in names[:5]}, full / "model-00001-of-00002.safetensors")
    save_file({name: tensors[name] for name in names[5:]}, full / "model-00002-of-00002.safetensors")
    with applied(base.model, full):
        pass
    save_file({name: tensors[name] for name in names[4:]}, full / "model-00002-of-00002.safetensors")
    assert rejection(base, full) == "tensor_unknown"


@pytest.mark.parametrize("content", [b"", b"\x00" * 8, b"\xff" * 100, b"PK\x03\x04 a pickle"])
def test_weights_that_are_no_safetensors_are_refused(base: LoadedBase, adapter: Path, content: bytes) -> None:
    kept = (adapter / "adapter_model.safetensors").read_bytes()
    (adapter / "adapter_model.safetensors").write_bytes(content)
    assert rejection(base, adapter) == "tensors_unreadable"
    (adapter / "adapter_model.safetensors").write_bytes(kept)


def test_a_repo_that_is_neither_or_both_is_refused(base: LoadedBase, adapter: Path, full: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert rejection(base, tmp_path / "empty") == "repo_kind"
    (full / "adapter_config.json").write_bytes((adapter / "adapter_config.json").read_bytes())
    assert rejection(base, full) == "repo_kind"
