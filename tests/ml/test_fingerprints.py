"""Fingerprints through the real metric of every type: copies have one whatever was done to their files, other models another."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gradients.domain.evaluation import Fingerprint
from gradients.domain.json import JsonObject
from gradients.execution.functions import resolve
from gradients.ml.base_model import load_base
from gradients.ml.pipelines import load_image_base
from gradients.ml.sketch import differences, sketch
from gradients.ml.submission import LowRank, NewWeight, Replaced, applied, changed
from gradients.scoring.fingerprints import same_model, similarity
from gradients.tasks.base import TaskType
from gradients.tasks.jobs.measuring import Entrant, EntrantResult, MeasureJob
from gradients.tasks.jobs.message import Parameters
from gradients.tasks.preparation import prepare
from gradients.tasks.registry import TYPES, task_type, validate_request
from gradients.tasks.workers.fingerprints import Fingerprints
from gradients.testing.task_samples import sample_of
from scripts.benchmarks.forgeries import idle_tokens_shaken, neurons_moved
from tests.ml.conftest import CPU

RANK = 4
ROWS = 3
KEY, OTHER_KEY = "a" * 64, "b" * 64
Factors = dict[str, tuple[torch.Tensor, torch.Tensor]]  # A [rank, in, ...] and B [out, rank, ...] by module


@dataclass(frozen=True)
class Submissions:
    """A type's base, held-out rows, and a way to measure LoRAs."""

    kind: TaskType
    base: Path
    held_out: Path
    parameters: Parameters
    folder: Path
    factors: Factors  # of one submission
    others: Factors  # of another

    def lora(self, name: str, factors: Mapping[str, tuple[torch.Tensor, torch.Tensor]], *, alpha: float = RANK) -> Path:
        """A repo in the type's format, with tensors in the mapping's order."""
        folder = self.folder / name
        folder.mkdir()
        language = self.kind.base_family == "language"
        prefix = "base_model.model." if language else ""
        sides = [(m, side, f) for m, pair in factors.items() for side, f in zip("AB", pair, strict=True)]
        tensors = {f"{prefix}{module}.lora_{side}.weight": factor.contiguous() for module, side, factor in sides}
        file = "adapter_model.safetensors" if language else "pytorch_lora_weights.safetensors"
        save_file(tensors, folder / file, metadata={"format": "pt"})
        if language:
            targets = sorted({module.rpartition(".")[2] for module in factors})
            config = {"peft_type": "LORA", "r": RANK, "lora_alpha": alpha, "target_modules": targets}
            (folder / "adapter_config.json").write_text(json.dumps(config))
        return folder

    def measure(self, entrants: Mapping[str, Path | None], *, run: str, key: str = KEY) -> Mapping[str, EntrantResult]:
        job = MeasureJob(
            base_folder=self.base,
            held_out_file=self.held_out,
            parameters=self.parameters,
            entrants=tuple(Entrant(id=name, folder=folder) for name, folder in entrants.items()),
            results_folder=self.folder / f"results-{run}",
            seed=3,
            sketch_key=key,
        )
        resolve(self.kind.measure)(job.model_dump(mode="json"), _ignore)
        read = EntrantResult.model_validate_json
        results = {name: read((job.results_folder / f"{name}.json").read_bytes()) for name in entrants}
        assert {name: result.failure_message for name, result in results.items()} == dict.fromkeys(entrants, "")
        return results


@pytest.fixture(scope="module", params=TYPES)
def submissions(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Submissions:
    kind, sample = task_type(request.param), sample_of(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in sample.rows), encoding="utf-8")
    asked = validate_request(
        {
            "type": kind.name,
            "base": "tiny",
            "dataset": str(file),
            "hours": 0.1,
            "parameters": dict(sample.parameters(folder)),
        }
    )
    data = prepare(kind, asked, salt=b"fingerprints", folder=folder / "data")
    few = folder / "few.jsonl"
    few.write_text("".join(data.held_out_file.read_text(encoding="utf-8").splitlines(keepends=True)[:ROWS]))
    base = sample.write_base(folder / "base")
    return Submissions(
        kind,
        base,
        few,
        cast(Parameters, asked.parameters),
        folder,
        _random_factors(kind, base, seed=1),
        _random_factors(kind, base, seed=2),
    )


def test_copies_have_one_fingerprint_and_other_models_another(submissions: Submissions) -> None:
    factors = submissions.factors
    turn = torch.eye(RANK) + 0.3 * torch.randn(RANK, RANK, generator=_random(5))
    forged: dict[str, Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]] = {
        "rotated": lambda a, b: (
            (turn @ a.flatten(1)).view_as(a),
            (b.flatten(1) @ torch.linalg.inv(turn)).view_as(b),
        ),
        "split": lambda a, b: (100 * a, b / 100),
        "rescaled": lambda a, b: (a, 1.001 * b),
        "bfloat16": lambda a, b: (a.bfloat16(), b.bfloat16()),
        "float16": lambda a, b: (a.half(), b.half()),
        **{f"noise-{share:g}": _noise(share) for share in (1e-9, 1e-4, 1e-2, 5e-2)},
    }
    copies = {
        "exact": submissions.lora("exact", factors),
        "reordered": submissions.lora("reordered", dict(reversed(factors.items()))),
        **{
            name: submissions.lora(name, {m: way(*pair) for m, pair in factors.items()}) for name, way in forged.items()
        },
    }
    other = submissions.lora("other", submissions.others)
    found = submissions.measure(
        {"base": None, "ours": submissions.lora("ours", factors), "other": other, **copies}, run="1"
    )
    ours = _print(found["ours"])
    assert found["base"].fingerprint is None
    assert same_model(ours, found["other"].fingerprint) is None
    assert {name: (same_model(ours, found[name].fingerprint) or "")[:13] for name in copies} == dict.fromkeys(
        copies, "their updates"
    )
    for sketched in (ours.update, ours.outputs):
        assert math.fsum(number**2 for number in sketched) == pytest.approx(1.0, abs=1e-3)
    for name in ("exact", "reordered"):
        assert found[name].fingerprint == ours
    for name in ("rotated", "split"):
        assert similarity(ours.outputs, _print(found[name]).outputs) > 0.9999


def test_another_key_shows_nothing_and_none_takes_no_fingerprint(submissions: Submissions) -> None:
    repo = submissions.lora("again", submissions.factors)
    first, again, other = (
        submissions.measure({"ours": repo}, run=f"key-{number}", key=key)["ours"]
        for number, key in enumerate((KEY, KEY, OTHER_KEY))
    )
    assert first.fingerprint == again.fingerprint  # bit by bit
    assert abs(similarity(_print(first).update, _print(other).update)) < 0.3
    assert abs(similarity(_print(first).outputs, _print(other).outputs)) < 0.3
    without = submissions.measure({"ours": repo}, run="without", key="")["ours"]
    assert without.fingerprint is None
    assert without.per_row == first.per_row


def test_a_lora_that_was_merged_cast_and_cut_into_shards_is_its_copy(submissions: Submissions) -> None:
    if submissions.kind.base_family != "language":
        return  # nobody may hand in a whole image model
    repo = submissions.lora("to-merge", submissions.factors)
    base = load_base(submissions.base, CPU)
    with applied(base.model, repo):
        merged = {name: weight.detach().half() for name, weight in base.model.named_parameters()}
    whole = submissions.folder / "whole"
    whole.mkdir()
    for number in range(2):
        shard = {name: merged[name].contiguous() for name in sorted(merged, reverse=True)[number::2]}
        save_file(shard, whole / f"model-{number}.safetensors", metadata={"format": "pt"})
    found = submissions.measure({"ours": repo, "whole": whole}, run="merged")
    evidence = same_model(found["ours"].fingerprint, found["whole"].fingerprint)
    assert evidence is not None
    assert evidence.startswith("their updates of the base point the same way (cosine ")


@pytest.mark.parametrize("way", ["neurons in another order", "tokens that never come"])
def test_a_whole_model_that_hides_whose_it_is_still_shows_by_what_it_does(submissions: Submissions, way: str) -> None:
    if submissions.kind.base_family != "language":
        return  # nobody may hand in a whole image model
    base = load_base(submissions.base, CPU)
    with applied(base.model, submissions.lora(f"for {way}", submissions.factors)):
        ours = {name: weight.detach().clone() for name, weight in base.model.named_parameters()}
    theirs = neurons_moved(ours)
    if way == "tokens that never come":
        theirs = idle_tokens_shaken(submissions.base, ours, submissions.held_out.read_text().splitlines())
    repos = {name: submissions.folder / f"{name}, {way}" for name in ("ours", "theirs")}
    for weights, repo in zip((ours, theirs), repos.values(), strict=True):
        repo.mkdir()
        save_file({name: weight.contiguous() for name, weight in weights.items()}, repo / "model.safetensors")
    found = submissions.measure(repos, run=way)
    evidence = same_model(found["ours"].fingerprint, found["theirs"].fingerprint) or ""
    assert evidence.startswith("their outputs" if way == "neurons in another order" else "their updates")


def test_the_cosine_of_sketches_is_about_the_cosine_of_what_they_are_of() -> None:
    random = _random(9)
    shapes = {"matrix": (96, 40), "wide": (8, 200), "filters": (12, 8, 3, 3), "experts": (3, 10, 20), "vector": (50,)}
    ours = {name: torch.randn(shape, generator=random) for name, shape in shapes.items()}
    noise = {name: torch.randn(shape, generator=random) for name, shape in shapes.items()}
    for cosine in (0.0, 0.5, 0.9, 0.99):
        theirs = {n: cosine * ours[n] + math.sqrt(1 - cosine**2) * noise[n] for n in ours}
        found = similarity(*(sketch(each.items(), key=KEY, numbers=1024) for each in (ours, theirs)))
        assert found == pytest.approx(cosine, abs=4 * (1 - cosine**2) / 32 + 0.01)


def test_tensors_come_in_any_order_and_a_name_makes_a_difference() -> None:
    one, two = torch.randn(4, 6, generator=_random(1)), torch.randn(4, 6, generator=_random(2))
    first = sketch([("a", one), ("b", two)], key=KEY, numbers=64)
    assert sketch([("b", two), ("a", one)], key=KEY, numbers=64) == first
    assert abs(similarity(first, sketch([("a", two), ("b", one)], key=KEY, numbers=64))) < 0.6


@pytest.mark.parametrize("value", [0.0, math.inf, math.nan])
def test_nothing_and_what_is_not_finite_have_no_sketch(value: float) -> None:
    assert sketch([("weight", torch.full((3, 3), value))], key=KEY, numbers=64) == ()


def test_a_probe_that_fails_costs_the_outputs_alone_and_one_of_the_base_too() -> None:
    model = nn.Linear(4, 4)
    replaced = {"weight": Replaced(torch.zeros(4, 4), None)}

    def failing() -> torch.Tensor:
        raise RuntimeError("out of memory")

    found = Fingerprints(model, KEY, failing, about=b"").take(replaced)
    assert found is not None
    assert (len(found.update), found.outputs) == (256, ())
    assert Fingerprints(model, KEY, failing, about=b"").take({}) is None


def _print(result: EntrantResult) -> Fingerprint:
    assert result.fingerprint is not None
    return result.fingerprint


def _noise(share: float) -> Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    random = _random(8)

    def forge(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shaken = [f + share * f.std() * torch.randn(f.shape, generator=random) for f in (a, b)]
        return shaken[0], shaken[1]

    return forge


def _random_factors(kind: TaskType, base: Path, *, seed: int) -> Factors:
    """A LoRA on some layers of the base, as large as trained ones are."""
    random = _random(seed)
    if kind.base_family == "language":
        model: nn.Module = load_base(base, CPU).model
        chosen = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear) and "_proj" in n}
    else:
        model = load_image_base(base, CPU).parts()
        chosen = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear) and "attn" in n and "unet" in n}
    factors = Factors()
    for name, layer in chosen.items():
        out, into = layer.weight.shape
        a = torch.randn(RANK, into, generator=random) / math.sqrt(into)
        b = 0.1 * layer.weight.std() * torch.randn(out, RANK, generator=random)
        factors[name] = (a, b * math.sqrt(into / RANK))
    return factors


def _random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _ignore(_: JsonObject) -> None:
    """Progress that nobody watches."""


def test_a_product_has_the_sketch_of_what_it_comes_to_even_where_large_terms_cancel() -> None:
    drawn = torch.Generator().manual_seed(3)
    left, right = torch.randn(60, 4, generator=drawn), torch.randn(4, 40, generator=drawn)
    huge = 1e6 * torch.randn(60, 1, generator=drawn)
    hidden = LowRank(torch.cat([left, huge, -huge], 1), torch.cat([right, right[:1], right[:1]]))
    plain = sketch([("w", left @ right)], key="k", numbers=256)
    for product in (LowRank(left, right), hidden):
        found = sketch([("w", product)], key="k", numbers=256)
        assert sum(map(math.prod, zip(plain, found, strict=True))) > 1 - 1e-5
    assert sketch([("w", LowRank(left * 0, right))], key="k", numbers=256) == ()


def test_what_is_left_of_a_change_counts_where_weights_have_fewer_bits() -> None:
    layer = torch.nn.Linear(8, 8, bias=False)
    for dtype, known in ((torch.float32, True), (torch.bfloat16, False)):
        model = torch.nn.Sequential(layer.to(dtype))
        change = LowRank(torch.ones(8, 1), torch.ones(1, 8))
        new = NewWeight("0.weight", (layer.weight.detach() + 1).to(dtype), change)
        with changed(model, [new]) as replaced:
            ((_, difference),) = differences(model, replaced)
            assert isinstance(difference, LowRank) is known
