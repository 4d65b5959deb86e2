"""Which architectures of causal models can be fine-tuned and measured here: each one tried, with random weights of a few thousand numbers.

Each is tried in a fork of its own, so that one that crashes or hangs costs itself only. What is tried is what a task does: the instruct
trainer makes an adapter and a full model of it, screening looks at both, and the metric measures them beside the base.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal, NamedTuple, cast

import torch
import transformers
from pydantic import JsonValue
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from gradients.bases.bases import BaseModels
from gradients.errors import GradientsError
from gradients.execution.functions import resolve
from gradients.repo.manifest import TrainingSummary, describe_folder
from gradients.repo.screening import screen_folder, screen_manifest
from gradients.tasks.jobs.measuring import Entrant, EntrantResult, MeasureJob
from gradients.tasks.jobs.training import TrainingPlan, TrainJob
from gradients.tasks.preparation import PreparedData, prepare
from gradients.tasks.registry import task_type, validate_request
from gradients.testing.tiny_models import write_tiny_llama

README = Path(__file__).resolve().parents[1] / "gradients" / "tasks" / "README.md"
BEGIN, END = "<!-- scripts/architectures writes from here -->\n", "<!-- to here -->\n"
SECONDS = 60
MOST_BYTES = 10 * 1024**3
MOST_WEIGHTS = 30_000_000  # a config that cannot be made small is not tried
REFUSED, UNMADE = "refused", "not made small"
# Every name that a config of some architecture has for a size, and a small value of it.
SIZES = {
    **dict.fromkeys(
        ("hidden_size", "n_embd", "d_model", "dim", "embed_dim", "embedding_size", "word_embed_proj_dim"), 32
    ),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "encoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "mamba_n_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "num_experts", "num_local_experts", "n_routed_experts"), 2),
    **dict.fromkeys(("moe_num_experts", "index_n_heads"), 2),
    **dict.fromkeys(
        ("intermediate_size", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim", "n_inner", "d_ff", "ffn_hidden_size"), 48
    ),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"), 512),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 24),
    **dict.fromkeys(
        ("head_dim", "q_lora_rank", "kv_lora_rank", "v_head_dim", "qk_head_dim", "d_kv", "mamba_d_state"), 8
    ),
    **dict.fromkeys(("state_size", "mamba_num_heads", "mamba_head_dim", "index_topk", "index_head_dim"), 8),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim", "rotary_dim", "time_step_rank"), 4),
    **dict.fromkeys(
        ("num_experts_per_tok", "moe_k", "n_group", "topk_group", "n_shared_experts", "first_k_dense_replace"), 1
    ),
    **dict.fromkeys(("mamba_n_groups", "n_groups", "num_hidden_groups", "bos_token_id"), 1),
    **dict.fromkeys(("mamba_expand", "expand", "eos_token_id"), 2),
    "vocab_size": 320,
    "pad_token_id": 0,
    "mamba_d_head": 16,
    "sliding_window": 64,
    "partial_rotary_factor": 0.5,
}
LAYER_KINDS = ("layer_types", "mlp_layer_types", "layers_block_type")


class Tried(NamedTuple):
    """What became of one architecture; empty where it works."""

    name: str
    problem: str


def main(names: Sequence[str]) -> int:
    """Try the architectures that are named, or all of them, and then write the table."""
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    tried = []
    with tempfile.TemporaryDirectory(prefix="architectures-") as folder:
        data = prepared_rows(Path(folder))
        for name in names or every_name():
            started = time.monotonic()
            tried.append(try_apart(name, data))
            print(f"{time.monotonic() - started:5.1f} s  {name}: {tried[-1].problem or 'works'}", flush=True)
    if not names:
        text = README.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        README.write_text(before + BEGIN + table(tried) + END + rest.partition(END)[2], encoding="utf-8")
    return int(any(each.problem for each in tried) and bool(names))


def every_name() -> list[str]:
    """What transformers calls the architectures of its causal models."""
    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def table(tried: Sequence[Tried]) -> str:
    """The part of the README: those that work in one paragraph, the others with the reason."""
    work = [each.name for each in tried if not each.problem]
    lines = [
        f"Of the {len(tried)} architectures that transformers {transformers.__version__} names for causal models, these {len(work)} work,",
        f"as adapter and as full model: {', '.join(work)}.",
        "",
        "| architecture | why it is not taken |",
        "|---|---|",
        *(f"| {each.name} | {each.problem} |" for each in tried if each.problem),
    ]
    return "\n".join(lines) + "\n"


def try_one(name: str, data: PreparedData) -> str:
    """The problem with an architecture; empty when it works."""
    with tempfile.TemporaryDirectory(prefix="architecture-") as place:
        folder = Path(place)
        try:
            base = _write_base(folder / "base", name)
        except Exception as error:  # whatever its own code raises for a config of these sizes
            return f"{UNMADE}: {type(error).__name__}: {_short(error)}"
        try:
            entrants = [Entrant(id="base"), *(_trained(method, base, data, folder) for method in ("lora", "full"))]
            return _measured(entrants, base, data, folder)
        except GradientsError as error:
            return f"{REFUSED} ({error.code}): {_short(error)}"
        except Exception as error:  # as above
            return f"{REFUSED}: {type(error).__name__}: {_short(error)}"


def _write_base(folder: Path, name: str) -> Path:
    write_tiny_llama(folder)
    (folder / "model.safetensors").unlink()
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(_small(name))
    if (weights := sum(weight.numel() for weight in model.parameters())) > MOST_WEIGHTS:
        raise ValueError(f"it has {weights:,} weights")
    with torch.inference_mode():
        model(torch.arange(3, 20).unsqueeze(0))
    model.save_pretrained(folder)
    return folder


def _small(name: str) -> PretrainedConfig:
    usual = CONFIG_MAPPING[name]()
    sizes: dict[str, object] = {
        size: value
        for size, value in SIZES.items()
        if hasattr(usual, size) and not isinstance(getattr(type(usual), size, None), property)
    }
    kinds = {
        key: (list(dict.fromkeys(given)) * 2)[:2]
        for key in LAYER_KINDS
        if isinstance(given := getattr(usual, key, None), list | tuple)
    }
    try:
        return CONFIG_MAPPING[name](**sizes, **kinds)
    except AttributeError:  # one that works out its layers' kinds by itself
        return CONFIG_MAPPING[name](**sizes)


def _trained(method: Literal["lora", "full"], base: Path, data: PreparedData, folder: Path) -> Entrant:
    job = TrainJob(
        base_folder=base,
        train_file=data.train_file,
        parameters=_parameters(),
        plan=TrainingPlan(recipe="try", method=method, learning_rate=1e-2, max_epochs=0.2),
        seed=5,
        deadline_unix=time.time() + SECONDS,
        checkpoint_folder=folder / f"{method}-checkpoint",
        output_folder=folder / method,
    )
    resolve(task_type("instruct").train)(job.model_dump(mode="json"), lambda _: None)
    known = BaseModels.default(folders=True).resolve(str(base))
    kind: Literal["adapter", "full"] = "adapter" if method == "lora" else "full"
    manifest = describe_folder(
        folder / method, task_id="t", hotkey="h", base_digest=known.digest, kind=kind, training=TrainingSummary()
    )
    screen_manifest(manifest, known)
    screen_folder(folder / method, manifest, known)
    return Entrant(id=method, folder=folder / method)


def _measured(entrants: Sequence[Entrant], base: Path, data: PreparedData, folder: Path) -> str:
    job = MeasureJob(
        base_folder=base,
        held_out_file=data.held_out_file,
        parameters=_parameters(),
        results_folder=folder / "results",
        seed=3,
        entrants=tuple(entrants),
    )
    resolve(task_type("instruct").measure)(job.model_dump(mode="json"), lambda _: None)
    for entrant in entrants:
        result = EntrantResult.model_validate_json((folder / "results" / f"{entrant.id}.json").read_bytes())
        if result.value is None:
            return f"{REFUSED} ({entrant.id}, {result.failure_code}): {_short(result.failure_message)}"
    return ""


def _parameters() -> dict[str, JsonValue]:
    asked = validate_request({"type": "instruct", "base": "nano-lm", "dataset": "rows.jsonl", "hours": 1})
    return cast(dict[str, JsonValue], dict(asked.parameters))


def prepared_rows(folder: Path) -> PreparedData:
    """Rows of a small task, on both sides."""
    rows = [
        {"instruction": f"Where is the house with the number {n}?", "output": f"Behind the mill, {n} steps down."}
        for n in range(64)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    request = validate_request(
        {"type": "instruct", "base": "nano-lm", "dataset": str(folder / "rows.jsonl"), "hours": 1}
    )
    return prepare(task_type("instruct"), request, salt=b"s", folder=folder)


def try_apart(name: str, data: PreparedData) -> Tried:
    """Try it in a process of its own."""
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_say, args=(name, data, theirs))
    process.start()
    theirs.close()
    problem = f"{REFUSED}: it took more than {SECONDS} s"
    with suppress(EOFError):
        if ours.poll(SECONDS):
            problem = ours.recv()
    process.kill()
    process.join()
    return Tried(name, problem)


def _say(name: str, data: PreparedData, pipe: Connection) -> None:
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))  # some configs keep a part at its full size
    pipe.send(try_one(name, data))


def _short(error: object) -> str:
    return " ".join(str(error).split())[:120].replace("|", "/")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
