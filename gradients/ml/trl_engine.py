"""TRL's trainers as an engine: the field's loop, on accelerate's devices, for the run that training.py conducts.

What stays ours, so that numbers of both engines compare: rows, tokens and labels, the loss of completions, the optimiser, the clock,
checkpoints, validation and what is written. What is theirs: the loop, the head that never holds all logits, the losses on preferences and
on rewards (trl_trainers.py), layers computed by Liger's kernels and rows packed for flash attention where there is a GPU that has them.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from transformers import PrinterCallback, TrainerCallback
from transformers.utils import is_flash_attn_2_available

from gradients.ml.device import Device
from gradients.ml.engine import Engine, Stepped
from gradients.ml.objective import Objective
from gradients.ml.trainee import Trainee
from gradients.ml.trl_trainers import Drive, trainer_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FLASH = "flash_attention_2"


class TrlEngine:
    """Makes steps by one of TRL's trainers. The model may already have an adapter; nothing else of it is changed but its weights."""

    def __init__(self, trainee: Trainee, objective: Objective, *, tokenizer: PreTrainedTokenizerBase) -> None:
        """Raises JobFailed (engine_unfit) for an objective that no trainer of TRL's knows."""
        self._drive = Drive(trainee)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="You are using 'rollout_func'")  # experimental, and pinned
            self._trainer = trainer_of(objective, self._drive, tokenizer)
        self._trainer.remove_callback(PrinterCallback)
        self._trainer.add_callback(_Steps(self._drive))

    def run(
        self, batches: Iterator[list[int]], *, batch_rows: int, rate: Callable[[], float], stepped: Stepped
    ) -> None:
        self._drive.begin(batches, rate=rate, stepped=stepped)
        self._trainer.train()


class _Steps(TrainerCallback):  # type: ignore[misc] # transformers carries no types
    """Asks for the rate before each step, and tells of it afterwards."""

    def __init__(self, drive: Drive) -> None:
        self._drive = drive

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401 (transformers' signature)
        self._drive.ask_rate()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401
        self._drive.follow()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401
        control.should_training_stop = not self._drive.tell()


def trl_engine(tokenizer: PreTrainedTokenizerBase) -> Callable[[Trainee, Objective], Engine]:
    """What makes the engine of a run."""
    return lambda trainee, objective: TrlEngine(trainee, objective, tokenizer=tokenizer)


def speed_up(model: PreTrainedModel, device: Device, *, packs: bool) -> list[str]:
    """Have a base computed by what this machine has beyond torch, and say by what. Before an adapter is put on it.

    Args:
        packs: whether rows may stand behind one another, which attention of variable length alone keeps apart. Elsewhere rows are read
            with masks, which it does not take.
    """
    found = list[str]()
    if device.name != "cuda":
        return found
    if packs and is_flash_attn_2_available() and device.autocast_dtype is not None:
        model.set_attn_implementation(FLASH)
        found.append(FLASH)
    if importlib.util.find_spec("liger_kernel") is not None:
        from transformers.integrations.liger import apply_liger_kernel

        # its cross-entropy would put the whole forward pass in the place of TRL's head
        apply_liger_kernel(model, {"fused_linear_cross_entropy": False, "cross_entropy": False})
        found.append("liger")
    return found
