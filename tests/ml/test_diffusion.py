"""Diffusion tasks in the workers: every family of pipelines, a LoRA of ours and of strangers, the error against diffusers' own run."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from gradients.errors import Blame, JobFailed, ModelUnknown, SubmissionRejected
from gradients.ml.adapters import LoraShape
from gradients.ml.device import Device
from gradients.ml.diffusion_errors import Redrawing, redraw, row_seed
from gradients.ml.diffusion_lora import WEIGHTS, add_lora, lora_applied, write_lora
from gradients.ml.diffusion_noise import FlowNoise, VarianceNoise, noise_of
from gradients.ml.diffusion_objective import DenoisingObjective, DenoisingSettings
from gradients.ml.images import Captioned, contact_sheet, picture
from gradients.ml.pipelines import ImageBase, compute_blocks_again, load_image_base
from gradients.ml.submission import fingerprint
from gradients.ml.trainee import Trainee
from gradients.testing.tiny_pipelines import PIXELS, write_tiny_pipeline

CPU = Device("cpu")
FAMILIES = ("sd", "sdxl", "sd3", "flux")
HOW = Redrawing(strengths=(0.4, 0.9), seeds=2, steps=5, guidance=2.0)
SHAPE = LoraShape(rank=4, alpha=8.0)
SETTINGS = DenoisingSettings(snr_limit=5.0, caption_dropout=0.5, mirrored=True, text_encoders=False, rows_at_once=2)


@pytest.fixture(scope="module")
def rows() -> Captioned:
    images = torch.rand(4, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(5))
    return Captioned(images, ["a red circle", "a blue square", "a red square", "a circle"])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    root = tmp_path_factory.mktemp("pipelines")
    return {family: write_tiny_pipeline(root / family, family) for family in FAMILIES}


@pytest.fixture(scope="module")
def sd(folders: Mapping[str, Path]) -> ImageBase:
    return load_image_base(folders["sd"], CPU)


@pytest.fixture
def sd_again(folders: Mapping[str, Path]) -> ImageBase:
    """One that may be changed."""
    return load_image_base(folders["sd"], CPU)


@pytest.fixture(scope="module")
def trained(
    folders: Mapping[str, Path], rows: Captioned, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Path]:
    """Two steps of a LoRA for each family, text encoders included; the folders of what was written."""
    written = {}
    for family in FAMILIES:
        torch.manual_seed(0)
        base = load_image_base(folders[family], CPU)
        settings = DenoisingSettings(5.0, 0.5, mirrored=True, text_encoders=True, rows_at_once=3)
        objective = DenoisingObjective(base, train=rows, validation=None, settings=settings, seed=1)
        add_lora(base, SHAPE, targets="all", text_encoders=True)
        trainee = Trainee(base.parts(), weight_decay=0.0, lora_plus_ratio=1.0)
        for _ in range(2):
            objective.backward(base.parts(), range(4))
            assert trainee.step(0.02)
        written[family] = tmp_path_factory.mktemp(family)
        write_lora(base, written[family], SHAPE)
    return written


@pytest.mark.parametrize("family", FAMILIES)
def test_a_lora_of_every_family_measures_as_diffusers_draws_with_it(
    family: str, folders: Mapping[str, Path], trained: Mapping[str, Path], rows: Captioned
) -> None:
    base = load_image_base(folders[family], CPU)
    untouched = redraw(base, rows.images[0], rows.captions[0], how=HOW, seed=7).error
    with lora_applied(base, trained[family]):
        ours = redraw(base, rows.images[0], rows.captions[0], how=HOW, seed=7).error
    assert ours != untouched
    assert ours == pytest.approx(_direct_error(folders[family], trained[family], rows, seed=7), abs=1e-5)


def _direct_error(folder: Path, lora: Path, rows: Captioned, *, seed: int) -> float:
    """The paper's error by nothing but diffusers' own pipeline and its own loader of LoRAs, one picture at a time."""
    base = load_image_base(folder, CPU)
    pipeline = base.family.image_to_image().from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    pipeline.load_lora_weights(lora)
    size = {"height": PIXELS, "width": PIXELS} if base.family.sized else {}
    error = 0.0
    for strength in HOW.strengths:
        for number in range(HOW.seeds):
            for prompt, share in ((rows.captions[0], 0.25), ("", 0.75)):
                drawn = pipeline(
                    prompt=prompt,
                    image=rows.images[:1],
                    strength=strength,
                    num_inference_steps=HOW.steps,
                    guidance_scale=HOW.guidance,
                    generator=torch.Generator().manual_seed(row_seed(seed, rows.images[0], strength, number)),
                    output_type="np",
                    **size,
                ).images[0]
                squares = (torch.from_numpy(drawn).permute(2, 0, 1) - rows.images[0]).square()
                error += share * float(squares.mean()) / (len(HOW.strengths) * HOW.seeds)
    return error


def test_the_base_comes_back_bit_by_bit(sd: ImageBase, trained: Mapping[str, Path]) -> None:
    before = fingerprint(sd.parts())
    with lora_applied(sd, trained["sd"]):
        assert fingerprint(sd.parts()) != before
    assert fingerprint(sd.parts()) == before


def test_the_same_row_is_measured_alike_twice_and_otherwise_with_other_noise(sd: ImageBase, rows: Captioned) -> None:
    error = functools.partial(redraw, sd, rows.images[1], rows.captions[1], how=HOW)
    assert error(seed=1).error == error(seed=1).error != error(seed=2).error


@pytest.mark.parametrize("family", FAMILIES)
def test_images_that_do_not_fit_at_once_are_drawn_alike_in_parts(
    family: str, folders: Mapping[str, Path], rows: Captioned
) -> None:
    base, widths = load_image_base(folders[family], CPU), list[int]()
    base.pipeline.vae.decoder.register_forward_pre_hook(lambda _, given: widths.append(given[0].shape[0]))
    together = redraw(base, rows.images[0], rows.captions[0], how=HOW, seed=7)
    assert set(widths) == {4}  # two seeds, with the caption and with none
    widths.clear()
    in_parts = redraw(base, rows.images[0], rows.captions[0], how=replace(HOW, call_pixels=3 * PIXELS**2), seed=7)
    assert widths == [3, 1] * 2  # at both strengths
    assert in_parts.error == pytest.approx(together.error, abs=1e-6)
    assert torch.allclose(in_parts.shown, together.shown, atol=1e-5)


def test_a_family_that_nobody_knows_is_the_customers_mistake(folders: Mapping[str, Path], tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "KandinskyPipeline"}')
    with pytest.raises(ModelUnknown, match="unknown family"):
        load_image_base(tmp_path, CPU)


def test_a_pipeline_with_code_of_its_own_is_refused(tmp_path: Path) -> None:
    index = '{"_class_name": "StableDiffusionPipeline", "unet": ["os", "system"]}'
    (tmp_path / "model_index.json").write_text(index)
    with pytest.raises(ModelUnknown, match="unet comes from os"):
        load_image_base(tmp_path, CPU)


@pytest.mark.parametrize("part", ["[]", '[["a"], "b"]', '[[], "b"]'])
def test_a_part_from_nowhere_is_refused(part: str, tmp_path: Path) -> None:
    index = f'{{"_class_name": "StableDiffusionPipeline", "unet": {part}}}'
    (tmp_path / "model_index.json").write_text(index)
    with pytest.raises(ModelUnknown, match="unet comes from"):
        load_image_base(tmp_path, CPU)


def test_a_base_that_predicts_the_image_itself_is_refused(folders: Mapping[str, Path]) -> None:
    base = load_image_base(folders["sd"], CPU)
    base.pipeline.scheduler.register_to_config(prediction_type="sample")
    with pytest.raises(ModelUnknown, match="predicts 'sample'"):
        noise_of(base)


# ---- what strangers hand in

Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def honest(trained: Mapping[str, Path]) -> Tensors:
    tensors: Tensors = load_file(trained["sd"] / WEIGHTS)
    return tensors


def _first(tensors: Tensors, side: str) -> str:
    return next(name for name in sorted(tensors) if name.startswith("unet.") and f".lora_{side}." in name)


def _as_diffusers_wrote_it(name: str) -> str:
    """With the names of `convert_state_dict_to_diffusers`, which diffusers' training scripts call."""
    for side, old in (("A", "down"), ("B", "up")):
        layer = "lora_linear_layer" if name.startswith("text_encoder") else "lora"
        name = name.replace(f".lora_{side}.weight", f".{layer}.{old}.weight")
    return name


def _as_kohya_writes_it(name: str) -> str:
    module, _, factor = name.rpartition(".lora_")
    part, _, rest = module.partition(".")
    side = {"A": "down", "B": "up"}[factor[0]]
    return f"lora_{'te' if part == 'text_encoder' else part}_{rest.replace('.', '_')}.lora_{side}.weight"


@pytest.mark.parametrize("spelling", [_as_diffusers_wrote_it, _as_kohya_writes_it])
def test_a_lora_in_the_names_of_other_tools_measures_as_diffusers_draws_with_it(
    spelling: Callable[[str], str], folders: Mapping[str, Path], honest: Tensors, rows: Captioned, tmp_path: Path
) -> None:
    tensors = {spelling(name): tensor for name, tensor in honest.items()}
    if spelling is _as_kohya_writes_it:  # which scales by alpha over rank
        tensors |= {n.replace("lora_down.weight", "alpha"): torch.tensor(3.0) for n in tensors if "lora_down" in n}
    save_file(tensors, tmp_path / WEIGHTS, metadata={"format": "pt"})
    base = load_image_base(folders["sd"], CPU)
    with lora_applied(base, tmp_path):
        ours = redraw(base, rows.images[0], rows.captions[0], how=HOW, seed=7).error
    assert ours == pytest.approx(_direct_error(folders["sd"], tmp_path, rows, seed=7), abs=1e-5)
    assert ours != pytest.approx(redraw(base, rows.images[0], rows.captions[0], how=HOW, seed=7).error, abs=1e-4)


def _broken(honest: Tensors) -> Iterator[tuple[str, Tensors, dict[str, str]]]:
    """The code of the refusal, the tensors, the header."""
    a, b = _first(honest, "A"), _first(honest, "B")
    yield "tensor_not_finite", honest | {a: torch.full_like(honest[a], torch.nan)}, {}
    yield "tensor_not_finite", honest | {b: torch.full_like(honest[b], torch.inf)}, {}
    yield "tensor_shape", honest | {b: honest[b][:-1].clone()}, {}
    yield "tensor_shape", honest | {a: honest[a][:, :-1].clone()}, {}
    yield "tensor_shape", honest | {a: torch.tensor(1.0)}, {}
    yield "rank_differs", honest | {a: honest[a][:2].clone(), b: honest[b][:, :2].clone()}, {}
    yield "tensor_dtype", honest | {a: honest[a].double()}, {}
    yield "tensor_missing", {name: tensor for name, tensor in honest.items() if name != b}, {}
    yield "tensor_missing", {}, {}
    yield "tensor_unknown", honest | {"unet.nowhere.lora_A.weight": honest[a].clone()}, {}
    yield "tensor_unknown", honest | {"vae.encoder.conv_in.lora_A.weight": honest[a].clone()}, {}
    yield "tensor_unknown", honest | {a.replace(".lora_A.weight", ".alpha"): torch.tensor(64.0)}, {}
    yield "tensor_unknown", honest | {_as_diffusers_wrote_it(a): honest[a].clone()}, {}  # one factor under two names
    yield "tensor_shape", {_as_kohya_writes_it(n): t for n, t in honest.items()} | _endless(honest), {}
    yield "tensor_unknown", honest | {a.replace(".lora_A.weight", ".weight"): honest[a].clone()}, {}
    yield "header_not_allowed", honest, {"lora_adapter_metadata": '{"unet.lora_alpha": 64}'}


def _endless(honest: Tensors) -> Tensors:
    return {_as_kohya_writes_it(_first(honest, "A")).replace("lora_down.weight", "alpha"): torch.tensor(torch.inf)}


@pytest.mark.parametrize("case", range(16))
def test_a_strangers_file_is_refused_as_theirs_and_leaves_the_base_as_it_was(
    case: int, sd: ImageBase, honest: Tensors, tmp_path: Path
) -> None:
    code, tensors, header = list(_broken(honest))[case]
    save_file(tensors, tmp_path / WEIGHTS, metadata={"format": "pt", **header})
    before = fingerprint(sd.parts())
    with pytest.raises(SubmissionRejected) as refused, lora_applied(sd, tmp_path):
        pass
    assert (refused.value.code, refused.value.blame) == (code, Blame.MINER)
    assert fingerprint(sd.parts()) == before


@pytest.mark.parametrize("content", [None, b"", b"\x80\x04pickle", b"\xff" * 64])
def test_a_file_that_is_none_is_refused(content: bytes | None, sd: ImageBase, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / WEIGHTS).write_bytes(content)
    with pytest.raises(SubmissionRejected) as refused, lora_applied(sd, tmp_path):
        pass
    assert refused.value.code == "tensors_unreadable"


# ---- noise, objective, pictures


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_min_snr_weighs_an_error_as_if_the_clean_image_were_predicted_with_a_limit(prediction: str) -> None:
    """The error of the clean image is that of the noise by the signal-to-noise ratio; min-SNR counts it min(ratio, 5) times."""
    noise = VarianceNoise(torch.tensor([0.9, 0.5, 0.1]), prediction)  # ratios 9, 1 and 1/9
    levels = torch.tensor([0.0, 0.4, 0.9])
    expected = [5 / 9, 1.0, 1.0] if prediction == "epsilon" else [5 / 10, 1 / 2, (1 / 9) / (10 / 9)]
    assert noise.weights(levels, 5.0).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(("prediction", "expected"), [("epsilon", [0.0, 1.0]), ("v_prediction", [0.0, 0.0])])
def test_a_level_with_nothing_but_noise_or_image_has_a_weight(prediction: str, expected: list[float]) -> None:
    """A schedule with zero terminal signal-to-noise ratio: the limit of what nearby levels weigh."""
    noise = VarianceNoise(torch.tensor([1.0, 0.0]), prediction)
    assert noise.weights(torch.tensor([0.0, 0.5]), 5.0).tolist() == expected


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_noise_and_target_give_the_clean_latents_back(prediction: str) -> None:
    noise = VarianceNoise(torch.linspace(0.99, 0.01, 100), prediction)
    clean, drawn, levels = torch.randn(5, 4, 2, 2), torch.randn(5, 4, 2, 2), torch.linspace(0, 0.9, 5)
    alphas = noise.alphas[noise.timesteps(levels)].view(-1, 1, 1, 1)
    noisy, target = noise.noisy(clean, drawn, levels), noise.target(clean, drawn, levels)
    if prediction == "epsilon":
        found = (noisy - (1 - alphas).sqrt() * target) / alphas.sqrt()
    else:
        found = alphas.sqrt() * noisy - (1 - alphas).sqrt() * target
    assert torch.allclose(found, clean, atol=1e-4)


def test_a_flow_goes_straight_from_the_image_to_noise() -> None:
    clean, drawn, levels = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2), torch.tensor([0.0, 0.25, 1.0])
    flow = FlowNoise()
    noisy = flow.noisy(clean, drawn, levels)
    assert torch.equal(noisy[0], clean[0])
    assert torch.equal(noisy[2], drawn[2])
    assert torch.allclose(noisy - levels.view(-1, 1, 1, 1) * flow.target(clean, drawn, levels), clean, atol=1e-6)


def test_the_loss_of_rows_kept_from_training_is_the_same_whenever_it_is_asked_for(
    folders: Mapping[str, Path], rows: Captioned
) -> None:
    base = load_image_base(folders["sd"], CPU)
    objective = DenoisingObjective(base, train=rows, validation=rows, settings=SETTINGS, seed=1)
    first = objective.validate(base.parts())
    base.denoiser.requires_grad_(True)
    objective.backward(base.parts(), [0, 1, 2])
    assert first == objective.validate(base.parts())


def step_of(base: ImageBase, rows: Captioned, *, at_once: int) -> tuple[float, list[torch.Tensor]]:
    """Loss and gradients of a step on all rows with a LoRA that is no longer fresh, whose text encoders train too."""
    torch.manual_seed(0)
    add_lora(base, SHAPE, targets="all", text_encoders=True)
    weights = [weight for weight in base.parts().parameters() if weight.requires_grad]
    with torch.no_grad():
        for weight in weights:
            weight.normal_(std=0.05)
    base.parts().train()
    settings = replace(SETTINGS, text_encoders=True, rows_at_once=at_once)
    objective = DenoisingObjective(base, train=rows, validation=None, settings=settings, seed=1)
    loss = objective.backward(base.parts(), range(len(rows.captions)))
    return loss, [weight.grad for weight in weights if weight.grad is not None]


def refusing(base: ImageBase, *, more_than: int, widths: list[int]) -> None:
    """Have the denoiser run out of memory with more pictures than that."""

    def look(_: torch.nn.Module, args: tuple[torch.Tensor, ...], kwargs: Mapping[str, torch.Tensor]) -> None:
        widths.append(len(args[0] if args else kwargs["hidden_states"]))
        if widths[-1] > more_than:
            raise torch.OutOfMemoryError("CUDA out of memory")

    base.denoiser.register_forward_pre_hook(look, with_kwargs=True)


def alike(one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> bool:
    """Whether gradients differ by rounding only, of the largest of their tensor."""
    largest = (float(tensor.abs().max()) for tensor in one)
    pairs = zip(one, other, largest, strict=True)
    return all(torch.allclose(mine, his, rtol=0, atol=1e-5 * most + 1e-9) for mine, his, most in pairs)


@pytest.mark.parametrize("family", FAMILIES)
def test_neither_parts_of_a_step_nor_blocks_that_are_computed_again_change_its_gradients(
    family: str, folders: Mapping[str, Path], rows: Captioned
) -> None:
    loss, gradients = step_of(load_image_base(folders[family], CPU), rows, at_once=4)
    widths = list[int]()
    halved, again = (load_image_base(folders[family], CPU) for _ in range(2))
    refusing(halved, more_than=1, widths=widths)
    in_parts = step_of(halved, rows, at_once=4)
    assert widths == [4, 2, 1, 1, 1, 1]
    compute_blocks_again(again)
    kept = step_of(again, rows, at_once=4)
    assert len(gradients) > 10
    assert all(bool(gradient.any()) for gradient in gradients[-4:])
    for other_loss, other in (in_parts, kept):
        assert other_loss == pytest.approx(loss, rel=1e-5)
        assert alike(gradients, other)


def test_what_a_step_left_when_memory_ran_out_in_its_middle_is_dropped(sd_again: ImageBase, rows: Captioned) -> None:
    """The first part of two has gone through, with its gradients, when the second one finds no memory."""
    calls, fails = list[int](), [False, True]

    def look(_: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        calls.append(len(args[0]))
        if fails and fails.pop(0):
            raise torch.OutOfMemoryError("CUDA out of memory")

    sd_again.denoiser.register_forward_pre_hook(look)
    loss, gradients = step_of(sd_again, rows, at_once=2)
    assert calls == [2, 2, 1, 1, 1, 1]
    whole_loss, whole = step_of(load_image_base(sd_again.folder, CPU), rows, at_once=4)
    assert loss == pytest.approx(whole_loss, rel=1e-5)
    assert alike(whole, gradients)


def test_memory_that_holds_not_one_picture_ends_a_training(sd_again: ImageBase, rows: Captioned) -> None:
    widths = list[int]()
    refusing(sd_again, more_than=0, widths=widths)
    with pytest.raises(JobFailed, match="on single rows") as failed:
        step_of(sd_again, rows, at_once=3)
    assert failed.value.code == "out_of_memory"
    assert widths == [3, 1]


def test_a_loss_on_kept_rows_is_told_in_the_parts_that_memory_holds(sd_again: ImageBase, rows: Captioned) -> None:
    objective = DenoisingObjective(sd_again, train=rows, validation=rows, settings=SETTINGS, seed=1)
    whole = objective.validate(sd_again.parts())
    widths = list[int]()
    refusing(sd_again, more_than=1, widths=widths)
    assert objective.validate(sd_again.parts()) == pytest.approx(whole, rel=1e-6)
    assert widths == [2, *[1] * 40]  # four rows at five levels with the caption and with none


def test_a_lora_on_narrow_weights_trains_in_float32(sd_again: ImageBase) -> None:
    sd_again.parts().to(torch.bfloat16)
    add_lora(sd_again, SHAPE, targets="attention", text_encoders=False)
    trained = {weight.dtype for weight in sd_again.parts().parameters() if weight.requires_grad}
    assert trained == {torch.float32}
    noisy, steps, texts = torch.randn(1, 4, 8, 8), torch.tensor([3]), torch.randn(1, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert sd_again.pipeline.unet(noisy.bfloat16(), steps, texts.bfloat16()).sample.isfinite().all()


def test_the_average_of_weights_is_in_the_model_only_while_it_is_asked_for() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    trainee = Trainee(layer, weight_decay=0.0, lora_plus_ratio=1.0, average_decay=0.9)
    seen = [layer.weight.item()]
    for _ in range(3):
        layer.weight.grad = torch.ones_like(layer.weight)
        trainee.step(0.1)
        seen.append(layer.weight.item())
    average = seen[0]
    for step, weight in enumerate(seen[1:], start=1):
        average += (1 - step / (step + 9)) * (
            weight - average
        )  # decay 1/10, 2/11, 3/12: below 0.9 for the first 81 steps
    with trainee.averaged():
        assert layer.weight.item() == pytest.approx(average)
    assert layer.weight.item() == seen[-1]


def test_a_sheet_shows_a_column_for_everybody() -> None:
    red, blue = (Image.new("RGB", (16, 16), colour) for colour in ("red", "blue"))
    sheet = contact_sheet({"input": [red, red], "base": [blue, blue]})
    colours = {colour for _, colour in sheet.getcolors(1 << 20) or []}
    assert {(255, 0, 0), (0, 0, 255)} <= colours
    assert sheet.size == (2 * 132 + 4, 14 + 2 * 132 + 4)


def test_a_picture_has_the_tensors_colours() -> None:
    image = torch.zeros(3, 2, 2)
    image[0] = 1.0
    assert picture(image).getpixel((1, 1)) == (255, 0, 0)
