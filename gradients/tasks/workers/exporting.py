"""A delivered model made ready for programs that serve models: merged with its base, and what they have to know of its prompts."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from gradients.domain.dialogue import Shape
from gradients.domain.json import JsonObject
from gradients.errors import TaskInvalid
from gradients.ml.base_model import load_tokenizer
from gradients.ml.markup import Markup, first_token
from gradients.ml.merging import fuse_lora, merge_adapter
from gradients.ml.text import PLAIN
from gradients.tasks.jobs.message import WorkerMessage
from gradients.tasks.jobs.models import ExportJob, PromptLayout


def merge(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """Leave the merged model in the job's target; {}."""
    job = ExportJob.model_validate(arguments)
    job.target.mkdir(parents=True, exist_ok=True)
    (fuse_lora if job.family == "image" else merge_adapter)(job.base_folder, job.model_folder, job.target)
    return {}


def prompt_layout(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """What stands around the turns of one exchange with the model, a PromptLayout."""
    job = ExportJob.model_validate(arguments)
    tokenizer = load_tokenizer(job.base_folder)
    markup = Markup(tokenizer, without_template=PLAIN)
    plain, system = Shape(system=False, exchanges=1), Shape(system=True, exchanges=1)
    head, opening, behind = markup.frames([plain])[plain]
    try:
        before, after, *_ = markup.frames([system])[system]
    except TaskInvalid:  # of a base that takes no system message
        before, after = head, ""
    # Programs put the first token there themselves where the tokenizer does.
    begin = first_token(tokenizer)
    layout = PromptLayout(
        before_system=before.removeprefix(begin),
        after_system=after,
        before_prompt=head.removeprefix(begin),
        after_prompt=opening,
        after_answer=behind,
        stop=markup.end(behind),
    )
    return _json(layout)


def _json(message: WorkerMessage) -> JsonObject:
    return cast(JsonObject, message.model_dump(mode="json"))
