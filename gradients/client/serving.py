"""Files that let the usual programs serve an exported model: a command line each, and a Modelfile. Each is to be read before it is run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path

from gradients.domain.json import Json
from gradients.errors import SetupError
from gradients.tasks.jobs.models import PromptLayout

VLLM, LLAMA_CPP, MODELFILE = "serve-vllm.sh", "serve-llama.cpp.sh", "Modelfile"
# Of generation_config.json, what Ollama knows, by its name there: https://github.com/ollama/ollama/blob/main/docs/modelfile.md
_PARAMETERS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
}


def vllm_script(name: str) -> str:
    """Serves the merged model that lies beside it, on the OpenAI API."""
    return _script(f'exec vllm serve "$folder" --served-model-name {shlex.quote(name)} "$@"')


def llama_cpp_script(name: str, file: str) -> str:
    """Serves the GGUF file that lies beside it, on the OpenAI API, with the chat template that is in the file."""
    return _script(f'exec llama-server --model "$folder"/{shlex.quote(file)} --alias {shlex.quote(name)} --jinja "$@"')


def modelfile(file: str, layout: PromptLayout, generation: Mapping[str, Json]) -> str:
    """Ollama's recipe for the GGUF file that lies beside it: `ollama create NAME -f Modelfile`.

    Args:
        generation: what generation_config.json holds.

    Raises SetupError for a chat template that Ollama's language cannot express.
    """
    parts = (layout.before_system, layout.after_system, layout.before_prompt, layout.after_prompt, layout.after_answer)
    if any(mark in part for part in (*parts, layout.stop) for mark in ('"""', "{{", "}}")):
        raise SetupError(
            "The model's chat template writes marks that a Modelfile cannot hold", fix="Serve it with llama.cpp"
        )
    template = (
        f"{{{{ if .System }}}}{layout.before_system}{{{{ .System }}}}{layout.after_system}"
        f"{{{{ else }}}}{layout.before_prompt}{{{{ end }}}}"
        f"{{{{ .Prompt }}}}{layout.after_prompt}{{{{ .Response }}}}{layout.after_answer}"
    )
    sampled = generation.get("do_sample") is True
    parameters = [
        f"PARAMETER {ollamas} {value}"
        for key, ollamas in _PARAMETERS.items()
        if sampled and isinstance(value := generation.get(key), int | float)
    ]
    if not sampled:
        parameters = ["PARAMETER temperature 0"]
    lines = [f"FROM ./{file}", f'TEMPLATE """{template}"""', f"PARAMETER stop {json.dumps(layout.stop)}", *parameters]
    return "\n".join(lines) + "\n"


def generation_settings(folder: Path) -> Mapping[str, Json]:
    """What a model's folder says of how to generate; nothing where it says nothing."""
    try:
        settings: Json = json.loads((folder / "generation_config.json").read_bytes())
    except FileNotFoundError:
        return {}
    return settings if isinstance(settings, dict) else {}


def _script(line: str) -> str:
    return f'#!/bin/sh\n# Options that are given go on to the server.\nfolder=$(dirname "$0")\n{line}\n'
