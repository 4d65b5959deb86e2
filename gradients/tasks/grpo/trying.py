"""What a customer's rewards say of answers before a task is posted. A worker function without torch.

Programs among the rewards run in the sandbox, as they do when a task is judged.
"""

from __future__ import annotations

from collections.abc import Callable

from gradients.domain.json import JsonObject
from gradients.errors import TaskInvalid
from gradients.tasks.grpo.rewards.base import Case
from gradients.tasks.grpo.rewards.catalogue import judge_each, weighted
from gradients.tasks.grpo.spec import GrpoParameters, GrpoRow, clean
from gradients.tasks.jobs.judging import JudgedAnswer, JudgedRow, JudgeJob, JudgeResult


def judge(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """Do a JudgeJob and return a JudgeResult. Raises DatasetInvalid and TaskInvalid as preparation would."""
    job = JudgeJob.model_validate(arguments)
    asked = GrpoParameters.model_validate(job.parameters)
    kept = [(each.number, GrpoRow.model_validate(each.row)) for each in clean(job.rows, asked).rows]
    answers = {number: job.answers[number - 1] if job.answers else ("", row.prompt) for number, row in kept}
    cases = [Case(answer, row.for_rewards()) for number, row in kept for answer in answers[number]]
    verdicts = [judge_each(reward, cases) for reward in asked.rewards]
    numbers = [[0.0 if isinstance(one, TaskInvalid) else one for one in of_reward] for of_reward in verdicts]
    judged = [
        JudgedAnswer(
            answer=case.completion,
            reward=reward,
            scores=tuple(None if isinstance(one, TaskInvalid) else one for one in said),
            failures=tuple(str(one) for one in said if isinstance(one, TaskInvalid)),
        )
        for case, reward, said in zip(cases, weighted(asked.rewards, numbers), zip(*verdicts, strict=True), strict=True)
    ]
    rows, taken = list[JudgedRow](), 0
    for number, row in kept:
        own = judged[taken : taken + len(answers[number])]
        taken += len(own)
        rows.append(JudgedRow(row=number, prompt=row.prompt, answers=tuple(own)))
    kinds = tuple(reward.kind for reward in asked.rewards)
    return JudgeResult(rewards=kinds, rows=tuple(rows)).model_dump(mode="json")
