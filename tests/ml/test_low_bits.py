"""A base in 4 bits and moments in 8: what is trained with them is as good on the base as it is, and goes on after a kill."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from gradients.errors import SetupError
from gradients.extras import how_to_install
from gradients.ml.adapters import LoraShape, add_adapter
from gradients.ml.base_model import LoadedBase, load_base
from gradients.ml.losses import measure_rows
from gradients.ml.low_bits import four_bit_config
from gradients.ml.submission import applied, is_linear
from gradients.ml.text import ChatFormat, Example, read_prompt_rows
from gradients.ml.trainee import Trainee
from gradients.tasks.instruct.trainer import train
from gradients.tasks.jobs.training import TrainJob
from tests.ml.conftest import CPU

MakeJob = Callable[..., TrainJob]


def loss(base: LoadedBase, rows: Path, folder: Path | None) -> float:
    """As a validator measures it: on the base as it is."""
    examples = ChatFormat(base.tokenizer).encode(read_prompt_rows(rows), max_tokens=256)
    with applied(base.model, folder):
        measured = measure_rows(base.model, examples, device=CPU, max_tokens=2048)
    return sum(row.mean for row in measured) / len(measured)


def after(make: MakeJob, base: LoadedBase, rows: Path, **changes: object) -> float:
    """The loss that training leaves."""
    job = make(**{"seconds": 300, "max_epochs": 4.0} | changes)
    train(job.model_dump(mode="json"), lambda _: None)
    return loss(base, rows, job.output_folder)


def test_a_lora_that_was_trained_on_4_bits_is_as_good_on_the_base_as_it_is(
    base: LoadedBase, held_out_file: Path, train_job: MakeJob
) -> None:
    untouched = loss(base, held_out_file, None)
    plain = after(train_job, base, held_out_file)
    quantised = after(train_job, base, held_out_file, load_in_4bit=True)
    assert plain < 0.9 * untouched
    assert quantised != plain
    assert untouched - quantised > 0.8 * (untouched - plain)  # a random base of width 48, which 4 bits hurt most


@pytest.mark.parametrize(
    "small", [{"load_in_4bit": True}, {"method": "full", "learning_rate": 1e-3, "optimiser": "adamw_8bit"}]
)
def test_both_engines_train_with_few_bits(
    base: LoadedBase, held_out_file: Path, train_job: MakeJob, small: dict[str, object]
) -> None:
    ours, theirs = (
        after(train_job, base, held_out_file, max_epochs=1.0, engine=engine, **small) for engine in ("ours", "trl")
    )
    assert theirs == pytest.approx(ours, abs=0.02)
    assert theirs < loss(base, held_out_file, None)


def test_matrices_take_half_a_byte_a_weight_and_head_and_embeddings_stay(base_folder: Path) -> None:
    plain, model = load_base(base_folder, CPU).model, load_base(base_folder, CPU, in_4bit=True).model
    weights = dict(plain.named_parameters())
    for name, weight in model.named_parameters():
        layer = model.get_submodule(name.rpartition(".")[0])
        small = is_linear(layer) and layer is not model.get_output_embeddings()
        assert weight.nbytes == weights[name].numel() // 2 if small else torch.equal(weight, weights[name])


def test_gradients_are_the_same_after_the_model_was_measured(base_folder: Path, examples: list[Example]) -> None:
    """bitsandbytes packs matrices in evaluation on some CPUs, and gradients stop at them from then on."""
    model = load_base(base_folder, CPU, in_4bit=True).model
    adapted = add_adapter(model, LoraShape(rank=4, alpha=8.0))
    tokens = torch.tensor([examples[0].tokens])

    def gradients() -> list[torch.Tensor]:
        adapted.train().zero_grad()
        adapted(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
        return [weight.grad.clone() for weight in adapted.parameters() if weight.grad is not None]

    before = gradients()
    assert sum(bool(gradient.any()) for gradient in before) >= len(before) / 2  # of all B, which start at zero
    with torch.no_grad():
        adapted.eval()(input_ids=tokens, use_cache=False)
    assert all(torch.equal(one, other) for one, other in zip(before, gradients(), strict=True))


def test_moments_of_8_bits_learn_what_others_do(base: LoadedBase, held_out_file: Path, train_job: MakeJob) -> None:
    untouched = loss(base, held_out_file, None)
    plain = after(train_job, base, held_out_file, method="full", learning_rate=1e-3)
    small = after(train_job, base, held_out_file, method="full", learning_rate=1e-3, optimiser="adamw_8bit")
    assert small != plain
    assert untouched - small > 0.95 * (untouched - plain)


@pytest.mark.parametrize("optimiser", ["adamw", "adamw_8bit"])
def test_an_optimiser_goes_on_from_its_moments(optimiser: str) -> None:
    def made() -> tuple[nn.Module, Trainee]:
        model = nn.Linear(128, 64)
        nn.init.constant_(model.weight, 0.5)
        nn.init.zeros_(model.bias)
        return model, Trainee(model, weight_decay=0.0, lora_plus_ratio=1.0, optimiser=optimiser)  # type: ignore[arg-type]

    def step(model: nn.Module, trainee: Trainee, number: int) -> None:
        given = torch.randn(4, 128, generator=torch.Generator().manual_seed(number))
        model(given).square().sum().backward()
        trainee.step(1e-2)

    model, trainee = made()
    for number in range(5):
        step(model, trainee, number)
    moments = trainee.moments()
    other, resumed = made()
    resumed.load_weights(trainee.weights())
    resumed.load_moments(moments)
    assert any(moment.dtype == torch.uint8 for moment in moments.values()) == (optimiser == "adamw_8bit")
    for number in range(5, 8):
        step(model, trainee, number)
        step(other, resumed, number)
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), other.parameters(), strict=True))


def test_a_model_in_parts_keeps_plain_moments(tmp_path: Path) -> None:
    """bitsandbytes takes no weight that lies in parts; a device's part of plain moments is as small from two devices on."""
    meeting = (tmp_path / "meeting").as_uri()
    dist.init_process_group("gloo", init_method=meeting, rank=0, world_size=1)
    try:
        model = fully_shard(nn.Linear(128, 64), mesh=init_device_mesh("cpu", (1,)))
        trainee = Trainee(model, weight_decay=0.0, lora_plus_ratio=1.0, optimiser="adamw_8bit")
        model(torch.ones(2, 128)).square().sum().backward()
        assert trainee.step(1e-3)
        assert all(moment.dtype == torch.float32 for moment in trainee.moments().values())
    finally:
        dist.destroy_process_group()


def test_without_bitsandbytes_what_needs_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(SetupError, match="bitsandbytes is not installed") as caught:
        four_bit_config(CPU)
    assert how_to_install("gpu") in str(caught.value.fix)
    with pytest.raises(SetupError):
        Trainee(nn.Linear(4, 4), weight_decay=0.0, lora_plus_ratio=1.0, optimiser="adamw_8bit")


def test_a_plain_lora_does_not_wait_for_bitsandbytes_to_be_imported() -> None:
    script = """if True:
        import sys, torch, transformers
        from gradients.ml.adapters import LoraShape, add_adapter
        config = transformers.LlamaConfig(
            hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=16
        )
        add_adapter(transformers.LlamaForCausalLM(config), LoraShape(rank=2, alpha=2.0))
        print('bitsandbytes' in sys.modules, 'peft' in sys.modules)
    """
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=600)
    assert said.stdout.split() == ["False", "True"]
