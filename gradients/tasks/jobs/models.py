"""What is done with delivered models beside measuring them: checked, merged, made a new base, put away."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from gradients.tasks.jobs.message import WorkerMessage

MERGE = "gradients.tasks.workers.exporting:merge"
MAKE_BASE = "gradients.tasks.workers.continuing:make_base"
PROMPT_LAYOUT = "gradients.tasks.workers.exporting:prompt_layout"
CHECK_REPO = "gradients.tasks.workers.checking:check"
KEEP = "gradients.tasks.workers.keeping:keep"


class RepoCheckJob(WorkerMessage):
    """Arguments of CHECK_REPO: could this repo be measured?"""

    base_folder: Path
    repo_folder: Path
    family: Literal["language", "image"] = "language"


class RepoCheck(WorkerMessage):
    """What a repo that can be measured does."""

    changed: int = Field(description="weights of the base that it replaces")


class ExportJob(WorkerMessage):
    """Arguments of MERGE and PROMPT_LAYOUT."""

    base_folder: Path = Field(description="of PROMPT_LAYOUT any folder with the model's tokenizer")
    model_folder: Path = Field(description="a delivered adapter")
    target: Path = Field(description="where the merged model goes")
    family: Literal["language", "image"] = "language"


class ContinueJob(WorkerMessage):
    """Arguments of MAKE_BASE."""

    base_folder: Path = Field(description="of the task that is continued")
    submission: Path = Field(description="its winner's files, as they were screened and measured")
    target: Path = Field(description="where the new base goes; empty")
    family: Literal["language", "image"]


class PromptLayout(WorkerMessage):
    """What a model's chat template puts around the turns of one exchange, for programs that don't run chat templates."""

    before_system: str
    after_system: str = Field(description="up to the prompt")
    before_prompt: str = Field(description="where there is no system message")
    after_prompt: str = Field(description="up to where the answer begins")
    after_answer: str
    stop: str = Field(description="what ends an answer")


class KeepJob(WorkerMessage):
    """Arguments of KEEP: leave the train rows that a trainer keeps from training in `kept_file`."""

    train_file: Path = Field(description="train rows, JSON lines")
    kept_file: Path
    fraction: float = Field(ge=0, le=0.5, description="the plan's validation_fraction")
    seed: int = Field(description="the TrainJob's")
    most: int = Field(ge=1, description="rows to leave at most; a trainer may keep more, which begin with these")


class Kept(WorkerMessage):
    """What KEEP returns."""

    rows: int = Field(description="that are kept; none of a file with too few")
    of: int = Field(description="in the file")
