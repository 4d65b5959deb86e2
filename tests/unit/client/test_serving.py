"""What stands beside an exported model for the programs that serve it. That they read it so is tried where they are."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from gradients.bases.bases import SHIPPED
from gradients.client.serving import generation_settings, llama_cpp_script, modelfile, vllm_script
from gradients.errors import SetupError
from gradients.tasks.jobs.models import ExportJob, PromptLayout
from gradients.tasks.workers.exporting import prompt_layout

NANO = SHIPPED / "nano-lm"


def _layout(folder: Path = NANO) -> PromptLayout:
    asked = ExportJob(base_folder=folder, model_folder=folder, target=folder)
    return PromptLayout.model_validate(prompt_layout(asked.model_dump(mode="json"), lambda _: None))


@pytest.mark.parametrize("system", [None, "Be brief."])
def test_a_prompts_layout_is_the_chat_templates(system: str | None) -> None:
    layout = _layout()
    before = f"{layout.before_system}{system}{layout.after_system}" if system else layout.before_prompt
    messages = [*([{"role": "system", "content": system}] if system else []), {"role": "user", "content": "Hi"}]
    theirs = AutoTokenizer.from_pretrained(NANO).apply_chat_template(
        messages, add_generation_prompt=True, tokenize=False
    )
    assert f"{before}Hi{layout.after_prompt}" == theirs
    assert layout.stop == "<|im_end|>"


def test_a_modelfile_says_template_end_and_sampling() -> None:
    written = modelfile("m.gguf", _layout(), generation_settings(NANO))
    assert written == (
        "FROM ./m.gguf\n"
        'TEMPLATE """{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n<|im_start|>user\n{{ else }}<|im_start|>user\n{{ end }}'
        '{{ .Prompt }}<|im_end|>\n<|im_start|>assistant\n{{ .Response }}<|im_end|>\n"""\n'
        'PARAMETER stop "<|im_end|>"\n'
        "PARAMETER temperature 0.7\n"
        "PARAMETER top_p 0.95\n"
    )


def test_a_model_that_does_not_sample_is_served_without_sampling(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text('{"temperature": 0.9}')
    assert "PARAMETER temperature 0\n" in modelfile("m.gguf", _layout(), generation_settings(tmp_path))
    assert generation_settings(tmp_path / "none") == {}


@pytest.mark.parametrize("mark", ['"""', "{{", "}}"])
def test_a_template_that_a_modelfile_cannot_hold_is_refused(mark: str) -> None:
    with pytest.raises(SetupError, match="cannot hold"):
        modelfile("m.gguf", _layout().model_copy(update={"after_prompt": mark}), {})


@pytest.mark.parametrize(
    ("script", "command"),
    [
        (vllm_script("it's"), ["vllm", "serve", ".", "--served-model-name", "it's", "--port", "1 2"]),
        (
            llama_cpp_script("n", "a b.gguf"),
            ["llama-server", "--model", "./a b.gguf", "--alias", "n", "--jinja", "--port", "1 2"],
        ),
    ],
)
def test_a_script_starts_its_server_with_what_is_given_to_it(script: str, command: list[str], tmp_path: Path) -> None:
    (tmp_path / "serve.sh").write_text(script)
    for name in ("vllm", "llama-server"):
        (tmp_path / name).write_text('#!/bin/sh\nfor each in "$0" "$@"; do echo "$each"; done\n')
        (tmp_path / name).chmod(0o755)
    run = subprocess.run(
        ["sh", "./serve.sh", "--port", "1 2"],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    name, *arguments = run.stdout.splitlines()
    assert [Path(name).name, *arguments] == command
