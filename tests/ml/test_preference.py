"""Direct preference optimisation: the loss and its gradients, and how a no-op, a bad submission and TRL look at it."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from gradients.errors import DatasetInvalid
from gradients.ml.base_model import LoadedBase, load_base
from gradients.ml.device import Device
from gradients.ml.micro_batches import MicroBatches
from gradients.ml.preference import (
    Pair,
    PairLogs,
    PreferenceObjective,
    PreferenceRow,
    Rewards,
    encode_pairs,
    measure_pairs,
    rewards,
)
from gradients.ml.text import ChatFormat, Exchange
from gradients.tasks.dpo.metric import measure, of_rewards, read_pairs
from gradients.tasks.dpo.trainer import train
from gradients.tasks.jobs.measuring import Entrant, EntrantResult, MeasureJob
from gradients.tasks.jobs.training import TrainingPlan, TrainJob
from gradients.testing.tiny_models import write_tiny_llama

CPU = Device("cpu")
ROWS = [
    PreferenceRow(
        system="Be brief." if number % 3 == 0 else None,
        prompt=f"Where is house number {number}?",
        chosen="By the sea" + ", as all know" * (number % 4),
        rejected="On the hill" + ", or so" * (number % 3),
    )
    for number in range(12)
]


@pytest.fixture(scope="module")
def pairs(base: LoadedBase) -> list[Pair]:
    return encode_pairs(ChatFormat(base.tokenizer), ROWS, max_tokens=256)


@pytest.fixture
def policy(base_folder: Path) -> PreTrainedModel:
    """The base after a few weights were shaken."""
    return shaken(load_base(base_folder, CPU).model)


def shaken(model: PreTrainedModel) -> PreTrainedModel:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.01 * torch.randn(weight.shape, generator=generator)
    return model


def logs_of(model: PreTrainedModel, pairs: list[Pair]) -> list[PairLogs]:
    return measure_pairs(model, pairs, device=CPU, max_tokens=2048)


def objective(
    base: LoadedBase, pairs: list[Pair], *, sft_weight: float = 0.0, batch_tokens: int = 2048
) -> PreferenceObjective:
    return PreferenceObjective(
        train=pairs,
        validation=pairs,
        reference=lambda some: logs_of(base.model, list(some)),
        beta=0.5,
        sft_weight=sft_weight,
        device=CPU,
        micro=MicroBatches(CPU, vocabulary=base.vocabulary, most=batch_tokens),
    )


# Numbers


def test_a_prompt_that_is_read_once_for_both_answers_gives_the_numbers_of_whole_rows(
    policy: PreTrainedModel, pairs: list[Pair]
) -> None:
    told: list[int] = []
    for most in (1, 64, 2048):
        apart = measure_pairs(policy, pairs, device=CPU, max_tokens=most, apart=True, progress=told.append)
        for ours, whole in zip(apart, logs_of(policy, pairs), strict=True):
            assert ours == pytest.approx(whole, abs=1e-5)
    assert told[-1] == len(pairs)


def test_a_prompt_is_read_once_for_both_answers(base: LoadedBase, pairs: list[Pair]) -> None:
    read: list[int] = []
    with base.model.register_forward_pre_hook(
        lambda _, __, given: read.append(given["input_ids"].numel()), with_kwargs=True
    ):
        measure_pairs(base.model, pairs[:1], device=CPU, max_tokens=2048, apart=True)
    chosen, rejected = pairs[0]
    # an answer's last token is nobody's context
    longest = max(chosen.counted, rejected.counted) - 1
    assert read == [chosen.spans[0].start, 2 * longest]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (PairLogs(-10.0, -10.0), math.log(2)),  # as the reference
        (PairLogs(-8.0, -10.0), 0.598139),  # a margin of 0.2: ln(1 + e^-0.2)
        (PairLogs(-10.0, -8.0), 0.798139),  # the same the wrong way round: 0.2 more
        (PairLogs(-10.0, -1e6), 0.0),
        (PairLogs(-1e6, -10.0), 1e5 - 1.0),
    ],
)
def test_the_loss_of_a_row_is_the_papers(model: PairLogs, expected: float) -> None:
    assert rewards(model, PairLogs(-10.0, -10.0), beta=0.1).loss == pytest.approx(expected, abs=1e-6, rel=1e-4)


@given(*[st.floats(-1e5, 0)] * 4, st.floats(0.001, 10))
def test_swapping_the_answers_turns_the_margin_round(a: float, b: float, c: float, d: float, beta: float) -> None:
    there = rewards(PairLogs(a, b), PairLogs(c, d), beta=beta)
    back = rewards(PairLogs(b, a), PairLogs(d, c), beta=beta)
    assert there.margin == -back.margin
    assert there.loss - back.loss == pytest.approx(-there.margin, abs=1e-6, rel=1e-9)
    assert there.loss >= 0


def test_a_tie_is_half_right() -> None:
    measured = of_rewards([Rewards(1.0, 0.0), Rewards(2.0, 2.0), Rewards(0.0, 1.0), Rewards(3.0, 0.0)])
    assert measured.extras == {"accuracy": 0.625, "margin": 0.75, "chosen_reward": 1.5, "rejected_reward": 0.75}


# Tokens


def test_both_answers_follow_the_same_prompt_and_only_they_count(base: LoadedBase, pairs: list[Pair]) -> None:
    for row, pair in zip(ROWS, pairs, strict=True):
        [chosen_span], [rejected_span] = pair.chosen.spans, pair.rejected.spans
        assert pair.chosen.tokens[: chosen_span.start] == pair.rejected.tokens[: rejected_span.start]
        decode = base.tokenizer.decode
        assert decode(pair.chosen.tokens[chosen_span.start :]) == f"{row.chosen}<|im_end|>"
        assert decode(pair.rejected.tokens[rejected_span.start :]) == f"{row.rejected}<|im_end|>"


def test_a_long_prompt_is_cut_the_same_way_for_both_answers(base: LoadedBase) -> None:
    row = PreferenceRow(prompt="x" * 200, chosen="short", rejected="y" * 30)
    [pair] = encode_pairs(ChatFormat(base.tokenizer), [row], max_tokens=60)
    [chosen], [rejected] = pair.chosen.spans, pair.rejected.spans
    assert len(pair.rejected.tokens) == 60
    assert pair.chosen.tokens[: chosen.start] == pair.rejected.tokens[: rejected.start]
    assert len(chosen) < len(rejected)


def test_an_answer_that_alone_is_too_long_is_cut(base: LoadedBase) -> None:
    row = PreferenceRow(prompt="hello", chosen="y" * 100, rejected="no")
    [pair] = encode_pairs(ChatFormat(base.tokenizer), [row], max_tokens=20)
    assert (len(pair.chosen.tokens), pair.chosen.spans) == (20, (range(1, 20),))
    assert pair.rejected.spans[0].start == 1


# The objective


def test_training_and_validation_start_at_ln_2(base: LoadedBase, pairs: list[Pair]) -> None:
    made = objective(base, pairs)
    assert made.validate(base.model) == math.log(2)
    model = load_base(base.folder, CPU).model.requires_grad_(True)
    assert made.backward(model, range(6)) == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize("sft_weight", [0.0, 0.7])
def test_the_gradient_is_that_of_the_loss_whatever_the_size_of_the_batch(
    base: LoadedBase, pairs: list[Pair], policy: PreTrainedModel, sft_weight: float
) -> None:
    """Against the formula written out with transformers' own losses."""
    policy.requires_grad_(True)
    gradients = []
    for batch_tokens in (1, 100_000):
        policy.zero_grad()
        total = objective(base, pairs, sft_weight=sft_weight, batch_tokens=batch_tokens).backward(policy, range(4))
        gradients.append([weight.grad.clone() for weight in policy.parameters()])
    policy.zero_grad()
    plain = torch.stack([plain_loss(policy, base.model, pair, sft_weight) for pair in pairs[:4]]).mean()
    plain.backward()
    assert total == pytest.approx(plain.item(), abs=1e-5)
    for one, other, weight in zip(*gradients, policy.parameters(), strict=True):
        assert torch.allclose(one, weight.grad, atol=1e-5)
        assert torch.allclose(one, other, atol=1e-5)


def plain_loss(policy: PreTrainedModel, reference: PreTrainedModel, pair: Pair, sft_weight: float) -> torch.Tensor:
    def log_probability(model: PreTrainedModel, which: int) -> torch.Tensor:
        tokens = torch.tensor([pair[which].tokens])
        labels = tokens.clone()
        labels[:, : pair[which].spans[0].start] = -100
        return -model(input_ids=tokens, labels=labels, use_cache=False).loss * pair[which].counted

    with torch.no_grad():
        known = log_probability(reference, 0) - log_probability(reference, 1)
    chosen = log_probability(policy, 0)
    margin = 0.5 * (chosen - log_probability(policy, 1) - known)
    return -torch.nn.functional.logsigmoid(margin) - sft_weight * chosen / pair.chosen.counted


# The field's own implementation


@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_the_loss_is_trls_own_on_the_same_batch(
    base: LoadedBase, pairs: list[Pair], policy: PreTrainedModel, base_folder: Path, tmp_path: Path, beta: float
) -> None:
    from trl import DPOConfig, DPOTrainer
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    trainer = DPOTrainer(
        model=policy,
        ref_model=AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32),
        args=DPOConfig(output_dir=str(tmp_path), beta=beta, bf16=False, use_cpu=True, report_to=[]),
        train_dataset=Dataset.from_list([row.model_dump(include={"prompt", "chosen", "rejected"}) for row in ROWS]),
        processing_class=AutoTokenizer.from_pretrained(base_folder),
    )
    policy.eval()
    batch = DataCollatorForPreference(pad_token_id=0)([in_trls_form(pair) for pair in pairs])
    with torch.no_grad():
        theirs = trainer.compute_loss(policy, batch).item()
    reference = logs_of(base.model, pairs)
    ours = of_rewards([rewards(*each, beta=beta) for each in zip(logs_of(policy, pairs), reference, strict=True)])
    assert sum(ours.by_row) / len(ours.by_row) == pytest.approx(theirs, abs=1e-5)
    assert abs(theirs - math.log(2)) > 1e-3  # it is not a no-op that both agree on
    logged = trainer._metrics["eval"]
    assert ours.extras["margin"] == pytest.approx(logged["rewards/margins"][0], abs=1e-4)
    assert ours.extras["accuracy"] == pytest.approx(logged["rewards/accuracies"][0])


def in_trls_form(pair: Pair) -> dict[str, list[int]]:
    start = pair.chosen.spans[0].start
    return {
        "prompt_ids": pair.chosen.tokens[:start],
        "chosen_ids": pair.chosen.tokens[start:],
        "rejected_ids": pair.rejected.tokens[start:],
    }


# The metric and the trainer


@pytest.fixture
def held_out_file(tmp_path: Path) -> Path:
    file = tmp_path / "held_out.jsonl"
    file.write_text("".join(row.model_dump_json() + "\n" for row in ROWS))
    return file


def measured(base_folder: Path, held_out_file: Path, **folders: Path | None) -> dict[str, EntrantResult]:
    results = held_out_file.parent / "results"
    job = MeasureJob(
        base_folder=base_folder,
        held_out_file=held_out_file,
        parameters={"beta": 0.1},
        entrants=tuple(Entrant(id=name, folder=folder) for name, folder in folders.items()),
        results_folder=results,
        seed=1,
    )
    measure(job.model_dump(mode="json"), lambda _: None)
    return {name: EntrantResult.model_validate_json((results / f"{name}.json").read_bytes()) for name in folders}


def test_the_base_and_a_copy_of_it_have_exactly_ln_2_on_every_row(base_folder: Path, held_out_file: Path) -> None:
    other = write_tiny_llama(held_out_file.parent / "other", seed=9)
    results = measured(base_folder, held_out_file, other=other, copy=base_folder, base=None)
    for name in ("copy", "base"):
        assert set(results[name].per_row) == {math.log(2)}
        assert results[name].extras == {"accuracy": 0.5, "margin": 0.0, "chosen_reward": 0.0, "rejected_reward": 0.0}
    assert math.log(2) not in results["other"].per_row


def test_a_model_without_numbers_is_its_miners_failure(base_folder: Path, held_out_file: Path) -> None:
    mad = held_out_file.parent / "mad"
    mad.mkdir()
    tensors = {name: tensor.float() for name, tensor in load_file(base_folder / "model.safetensors").items()}
    tensors["model.norm.weight"][:] = 3e38  # every weight is a number, but no logit is
    save_file(tensors, mad / "model.safetensors")
    result = measured(base_folder, held_out_file, mad=mad)["mad"]
    assert (result.failure_blame, result.failure_code) == ("miner", "loss_out_of_bounds")


def train_job(base_folder: Path, rows_file: Path, **plan: object) -> TrainJob:
    settings = {"recipe": "test", "method": "lora", "learning_rate": 5e-3, "max_epochs": 3.0, "batch_rows": 4, **plan}
    return TrainJob(
        base_folder=base_folder,
        train_file=rows_file,
        parameters={"beta": 0.1},
        plan=TrainingPlan.model_validate(settings),
        seed=3,
        deadline_unix=time.time() + 600,
        checkpoint_folder=rows_file.parent / "checkpoint",
        output_folder=rows_file.parent / "output",
    )


def test_training_prefers_what_was_chosen(base_folder: Path, held_out_file: Path) -> None:
    job = train_job(base_folder, held_out_file, max_epochs=20.0)
    train(job.model_dump(mode="json"), lambda _: None)
    result = measured(base_folder, held_out_file, ours=job.output_folder)["ours"]
    assert result.value is not None
    assert result.value < 0.4
    assert result.extras["accuracy"] == 1.0


def test_cross_entropy_mixed_in_keeps_the_chosen_answer_likely(base_folder: Path, held_out_file: Path) -> None:
    rewards_of_chosen = []
    for weight in (0.0, 2.0):
        job = train_job(base_folder, held_out_file, options={"sft_weight": weight})
        train(job.model_dump(mode="json"), lambda _: None)
        result = measured(base_folder, held_out_file, **{f"weight-{weight:g}": job.output_folder})
        rewards_of_chosen.append(result[f"weight-{weight:g}"].extras["chosen_reward"])
    assert rewards_of_chosen[1] > rewards_of_chosen[0]


def test_an_option_that_the_trainer_does_not_have_is_refused(base_folder: Path, held_out_file: Path) -> None:
    job = train_job(base_folder, held_out_file, options={"sftweight": 1.0})
    with pytest.raises(ValidationError, match="sftweight"):
        train(job.model_dump(mode="json"), lambda _: None)


def test_what_was_said_before_stands_before_both_answers(base: LoadedBase) -> None:
    row = PreferenceRow(
        history=(Exchange(prompt="Hi", completion="Hello"),), prompt="Who?", chosen="A model.", rejected="A king."
    )
    [pair] = encode_pairs(ChatFormat(base.tokenizer), [row], max_tokens=256)
    for example, answer in ((pair.chosen, "A model."), (pair.rejected, "A king.")):
        said = [("user", "Hi"), ("assistant", "Hello"), ("user", "Who?"), ("assistant", answer)]
        messages = [{"role": role, "content": text} for role, text in said]
        theirs = base.tokenizer.apply_chat_template(messages, tokenize=False).rstrip()
        assert base.tokenizer.decode(example.tokens) == theirs
        [span] = example.spans
        assert base.tokenizer.decode(example.tokens[span.start :]) == f"{answer}<|im_end|>"


def test_pairs_of_which_none_differ_once_they_are_cut_are_the_customers_matter(
    base: LoadedBase, tmp_path: Path
) -> None:
    rows = [PreferenceRow(prompt="Where?", chosen="far " * 90 + "good", rejected="far " * 90 + "bad")] * 3
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(row.model_dump_json() + "\n" for row in rows))
    with pytest.raises(DatasetInvalid, match="In 3 of 3 rows both answers are the same") as caught:
        read_pairs(base, file, {"max_tokens": 64})
    assert caught.value.code == "answers_cut_to_equal"
    assert len(read_pairs(base, file, {"max_tokens": 512})) == 3
