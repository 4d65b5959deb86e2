"""The reference trainer of GRPO tasks: answers are drawn, judged by the customer's rewards, and the better ones made likelier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from gradients.domain.json import JsonObject
from gradients.errors import JobFailed
from gradients.ml.base_model import LoadedBase
from gradients.ml.micro_batches import MicroBatches
from gradients.ml.objective import split_validation
from gradients.ml.policy import adapter_off, copied
from gradients.ml.policy_objective import Judge, PolicyObjective, PolicySettings
from gradients.ml.rollouts import Rollout
from gradients.ml.text import read_jsonl_of
from gradients.ml.training import TrainingSettings
from gradients.tasks.grpo.metric import drawing, prompt_tokens, texts
from gradients.tasks.grpo.rewards.base import Case
from gradients.tasks.grpo.rewards.catalogue import judge, weighted
from gradients.tasks.grpo.spec import GrpoParameters, GrpoRow
from gradients.tasks.jobs.training import TrainJob
from gradients.tasks.workers.training import Trainable, language_model, run_job

if TYPE_CHECKING:
    from gradients.ml.served_rollouts import RolloutServer


class GrpoOptions(BaseModel):
    """Knobs of this trainer, in a plan's `options`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    answers: int = Field(default=8, ge=2, le=64, description="drawn for each prompt of a step: the group")
    beta: float | None = Field(default=None, ge=0, le=10, description="pull to the base; by default the task's own")
    most_validation_rows: int = Field(
        default=48, ge=1, le=256, description="prompts kept to choose the best weights by"
    )
    validation_answers: int = Field(default=2, ge=1, le=64, description="drawn for each of them")
    rollout_server: str | None = Field(
        default=None,
        pattern="^https?://",
        description="of an OpenAI-compatible server that draws the answers of steps, up to /v1; of a LoRA only",
    )


def train(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """Do a TrainJob and return a TrainResult."""
    return run_job(arguments, report, _trainable)


def _trainable(job: TrainJob, settings: TrainingSettings) -> Trainable:
    options = GrpoOptions.model_validate(job.plan.options)
    asked = GrpoParameters.model_validate(job.parameters)
    server = _server(options, job, settings)

    def objective(base: LoadedBase) -> PolicyObjective:
        rows = read_jsonl_of(GrpoRow, job.train_file)
        most = min(asked.max_tokens, settings.max_tokens)
        prompts = prompt_tokens(base, rows, asked.model_copy(update={"max_tokens": most}))
        train, validation = split_validation(
            len(rows), fraction=settings.validation_fraction, seed=job.seed, most=options.most_validation_rows
        )
        return PolicyObjective(
            train=[prompts[i] for i in train],
            validation=[prompts[i] for i in validation],
            judge=_judge(base, [rows[i] for i in train], asked),
            judge_validation=_judge(base, [rows[i] for i in validation], asked),
            reference=adapter_off if settings.method == "lora" else copied(base.model),
            settings=PolicySettings(
                drawing=drawing(base, asked, samples=options.answers),
                validation_samples=options.validation_answers,
                beta=asked.beta if options.beta is None else options.beta,
                seed=job.seed,
            ),
            device=base.device,
            micro=MicroBatches(base.device, vocabulary=base.vocabulary, most=settings.micro_batch_tokens),
            server=server,
        )

    return language_model(job, settings, objective)


def _server(options: GrpoOptions, job: TrainJob, settings: TrainingSettings) -> RolloutServer | None:
    """Who draws the answers of steps, if it is somebody else. Raises JobFailed where nobody else can."""
    if options.rollout_server is None:
        return None
    if settings.method != "lora":
        raise JobFailed(
            "A rollout server takes adapters, not all weights",
            code="engine_unfit",
            fix='Write method = "lora", or leave `rollout_server` out',
        )
    from gradients.ml.served_rollouts import RolloutServer  # peft, which all weights do without

    place = job.checkpoint_folder  # in the task's own folder
    return RolloutServer(options.rollout_server, folder=place / "rollouts", task=place.parent.name)


def _judge(base: LoadedBase, rows: Sequence[GrpoRow], asked: GrpoParameters) -> Judge:
    """Rewards of answers as the metric counts them. Where a reward fails, here always, an answer is simply not good."""

    def rewards(positions: Sequence[int], rollouts: Sequence[Rollout]) -> list[float]:
        said = texts(base, rollouts)
        cases = [Case(text, rows[row].for_rewards()) for text, row in zip(said, positions, strict=True)]
        return weighted(asked.rewards, [judge(reward, cases).scores for reward in asked.rewards])

    return rewards
