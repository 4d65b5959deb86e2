"""GGUF files of fewer bits: asked of llama.cpp's program, for which a script stands here that writes down how it was called."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradients.client.exporting import BY_QUANTISER, QUANTISATIONS, quantise, quantiser_command
from gradients.errors import JobFailed, SetupError


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one on the path."""
    file = tmp_path / "bin" / "llama-quantize"
    file.parent.mkdir()
    file.write_text('#!/bin/sh\necho "$3" > "$2"\n')
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{file.parent}:/usr/bin:/bin")
    return file


def test_the_program_on_the_path_is_asked_for_the_form_by_its_own_name(program: Path, tmp_path: Path) -> None:
    assert quantiser_command() == str(program)
    for form, name in zip(BY_QUANTISER, ("Q4_K_M", "Q5_K_M", "Q6_K"), strict=True):
        quantise(str(program), tmp_path / "f16.gguf", tmp_path / form, form)
        assert (tmp_path / form).read_text() == f"{name}\n"
    assert set(BY_QUANTISER) < set(QUANTISATIONS)


def test_a_program_that_fails_is_told_in_its_words(program: Path, tmp_path: Path) -> None:
    program.write_text("#!/bin/sh\necho 'unknown model architecture' >&2\nexit 3\n")
    with pytest.raises(JobFailed, match="llama-quantize ended with 3: unknown model architecture"):
        quantise(str(program), tmp_path / "f16.gguf", tmp_path / "small.gguf", "q4_k_m")


def test_without_the_program_it_is_said_how_to_have_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match="no command llama-quantize, which writes q4_k_m") as caught:
        quantiser_command()
    assert "--quant q8_0" in str(caught.value.fix)
