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

from gradients.errors import JobFailed
from gradients.ml.device import Device
from gradients.ml.engine import Engine, Stepped
from gradients.ml.objective import CompletionObjective, Objective
from gradients.ml.policy_objective import PolicyObjective
from gradients.ml.preference import PreferenceObjective
from gradients.ml.spread import Agreed, here
from gradients.ml.trainee import Trainee
from gradients.ml.trl_trainers import Completions, Drive, Preferences

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

FLASH = "flash_attention_2"


class TrlEngine:
    """Makes steps by one of TRL's trainers. The model may already have an adapter; nothing else of it is changed but its weights."""

    def __init__(self, trainee: Trainee, objective: Objective, *, tokenizer: PreTrainedTokenizerBase) -> None:
        """Raises JobFailed (engine_unfit) for an objective that no trainer of TRL's knows."""
        self._drive, before = Drive(trainee), trainee.weights()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="You are using 'rollout_func'")  # experimental, and pinned
            self._trainer = _trainer_of(objective, self._drive, tokenizer)
        trainee.restore(before)  # a LoRA on a base in 4 bits would be trained in half precision
        self._trainer.is_distributed_loading_by_transformers = here().processes > 1  # nobody else is to spread it
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


def _trainer_of(objective: Objective, drive: Drive, tokenizer: PreTrainedTokenizerBase) -> Trainer:
    """The trainer that makes an objective smaller. Raises JobFailed (engine_unfit) where TRL has none."""
    objective = objective.own if isinstance(objective, Agreed) else objective
    if isinstance(objective, CompletionObjective):
        return Completions(objective, drive, tokenizer)
    if isinstance(objective, PreferenceObjective):
        return Preferences(objective, drive, tokenizer)
    if isinstance(objective, PolicyObjective) and here().processes == 1:  # answers are drawn at each process's own pace
        from gradients.ml.trl_policy import Answers  # a second of imports

        return Answers(objective, drive, tokenizer)
    raise JobFailed(
        f"TRL has no trainer for a {type(objective).__name__}",
        code="engine_unfit",
        fix='Write engine = "ours" in the recipe, for this type of task at least',
    )


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
