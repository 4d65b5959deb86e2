"""The baselines, trained by TRL's own trainers with an arm's settings."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, disable_progress_bars
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from scripts.benchmarks.recipes.arms import Trl
from scripts.benchmarks.recipes.rows import Pair, Preference, Row


class _StopAt(TrainerCallback):  # type: ignore[misc]
    """Ends a training at a time, as whoever has a deadline would."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:  # noqa: ANN401 (transformers' signature)
        control.should_training_stop = control.should_training_stop or time.time() >= self._deadline
        return control


def train(
    settings: Trl, rows: Sequence[Row], base: Path, folder: Path, *, seed: int, deadline: float | None = None
) -> None:
    """Leave the trained model or adapter in `folder`."""
    disable_progress_bars()
    make = _preferences if isinstance(rows[0], Preference) else _answers
    trainer = make(settings, rows, base, seed, [] if deadline is None else [_StopAt(deadline)])
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    trainer.model.save_pretrained(folder)


def _answers(settings: Trl, rows: Sequence[Row], base: Path, seed: int, callbacks: list[TrainerCallback]) -> Any:  # noqa: ANN401
    tokenizer = AutoTokenizer.from_pretrained(base)
    dialogues = [_dialogue(row) for row in rows]
    packed: dict[str, object] = {}
    if settings.packed_tokens is None:
        data = Dataset.from_list([{"prompt": asked, "completion": said} for asked, said in dialogues])
    else:
        texts = [tokenizer.apply_chat_template([*asked, *said], tokenize=False) for asked, said in dialogues]
        data = Dataset.from_list([{"text": text} for text in texts])
        packed = {"packing": True, "packing_strategy": "wrapped", "max_length": settings.packed_tokens}
    return SFTTrainer(
        model=_model(base),
        args=SFTConfig(learning_rate=settings.learning_rate, **packed, **_common(settings, seed)),
        train_dataset=data,
        processing_class=tokenizer,
        peft_config=_lora(settings),
        callbacks=callbacks,
    )


def _preferences(settings: Trl, rows: Sequence[Row], base: Path, seed: int, callbacks: list[TrainerCallback]) -> Any:  # noqa: ANN401
    said = [row for row in rows if isinstance(row, Preference)]
    columns: dict[str, Callable[[Preference], list[dict[str, str]]]] = {
        "prompt": lambda row: [{"role": "user", "content": row.prompt}],
        "chosen": lambda row: [{"role": "assistant", "content": row.chosen}],
        "rejected": lambda row: [{"role": "assistant", "content": row.rejected}],
    }
    return DPOTrainer(
        model=_model(base),
        args=DPOConfig(learning_rate=settings.preference_rate, **_common(settings, seed)),
        train_dataset=Dataset.from_list([{name: of(row) for name, of in columns.items()} for row in said]),
        processing_class=AutoTokenizer.from_pretrained(base),
        peft_config=_lora(settings),
        callbacks=callbacks,
    )


def _dialogue(row: Row) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    assert isinstance(row, Pair)  # noqa: S101 (for the type checker; rows of a task are all of one kind)
    return [{"role": "user", "content": row.prompt}], [{"role": "assistant", "content": row.completion}]


def _model(base: Path) -> Any:  # noqa: ANN401
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)


def _lora(settings: Trl) -> LoraConfig | None:
    if settings.lora is None:
        return None
    rank, alpha, dropout = settings.lora.rank, settings.lora.alpha, settings.lora.dropout
    return LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules="all-linear", task_type="CAUSAL_LM"
    )


def _common(settings: Trl, seed: int) -> dict[str, object]:
    """What is said to both trainers. Only fp32 and no checkpointing differ from TRL's defaults: bf16 is a hundred times slower on a CPU."""
    return {
        "output_dir": "unused",
        "num_train_epochs": settings.epochs,
        "per_device_train_batch_size": settings.batch_rows,
        "gradient_accumulation_steps": settings.accumulated,
        "lr_scheduler_type": settings.schedule,
        "warmup_steps": settings.warmup,  # below one: a share of all steps
        "seed": seed,
        "use_cpu": not torch.cuda.is_available(),
        "bf16": False,
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
    }
