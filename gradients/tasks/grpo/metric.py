"""The metric of GRPO tasks: weighted mean reward of drawn answers less beta times KL(model || base) (version 3). Higher is better.

Each reward lies in 0..1 by its own definition, never by comparison with other entrants, and the divergence is measured together with the
reward or not at all. So nobody's score depends on anybody else's, on signs or on ties, and an entrant whose divergence cannot be
measured has no score instead of a better one.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

from gradients.domain.json import JsonObject
from gradients.ml.base_model import LoadedBase, ReadsText
from gradients.ml.batching import batch_tokens
from gradients.ml.device import choose_device
from gradients.ml.policy import copied
from gradients.ml.precision import load_to_measure
from gradients.ml.reading import reads_once
from gradients.ml.rollout_divergences import Diverged, roll_out_beside
from gradients.ml.rollouts import Rollout, RolloutSettings, roll_out
from gradients.ml.submission import applied
from gradients.ml.text import ChatFormat, Example, read_jsonl_of
from gradients.tasks.grpo.rewards.base import Case
from gradients.tasks.grpo.rewards.catalogue import check_works, judge, weighted
from gradients.tasks.grpo.spec import TRIED_ROWS, GrpoParameters, GrpoRow
from gradients.tasks.jobs.measuring import Entrant, MeasureJob
from gradients.tasks.workers.fingerprints import text_fingerprints
from gradients.tasks.workers.measuring import Measured, RowsDone, blamed, measure_entrants
from gradients.tasks.workers.trial import try_rows

_ROUNDING = 1e-3  # by which a measured divergence may be below zero


def measure(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """Do a MeasureJob and return where it was measured."""
    job = MeasureJob.model_validate(arguments)
    asked = GrpoParameters.model_validate(job.parameters)
    base = load_to_measure(job.base_folder, choose_device())
    reference = copied(base.model)
    rows = read_jsonl_of(GrpoRow, job.held_out_file)
    prompts = prompt_tokens(base, rows, asked)
    settings = drawing(base, asked, samples=asked.samples)
    fingerprints = text_fingerprints(base, prompts, key=job.sketch_key)

    def measured(entrant: Entrant, progress: RowsDone) -> Measured:
        with applied(base.model, entrant.folder) as replaced:
            if entrant.folder is None:  # nothing diverges from itself
                groups = roll_out(base.model, prompts, settings, seed=job.seed, device=base.device, progress=progress)
                drawn = [Diverged(rollout, 0.0) for group in groups for rollout in group]
            else:
                beside = roll_out_beside(
                    base.model, reference, prompts, settings, seed=job.seed, device=base.device, progress=progress
                )
                drawn = [one for group in beside for one in group]
            fingerprint = fingerprints.take(replaced)
        rollouts, kl = [one.rollout for one in drawn], [one.kl for one in drawn]
        if not all(math.isfinite(nats) and nats > -_ROUNDING for nats in kl):
            raise blamed(entrant, "The divergence from the base is not finite", code="kl_not_finite")
        return _measured(rows, asked, rollouts, kl=kl, said=texts(base, rollouts))._replace(fingerprint=fingerprint)

    measure_entrants(job, measured, rows=len(rows), report=report)
    return base.device.describe()


def drawing(base: LoadedBase, asked: GrpoParameters, *, samples: int) -> RolloutSettings:
    """How answers are drawn, in training and in measuring."""
    return RolloutSettings(
        samples=samples,
        max_new_tokens=_answer_tokens(base, asked),
        temperature=asked.temperature,
        stop_tokens=tuple(ChatFormat(base.tokenizer, vocabulary=base.vocabulary).stop_tokens),
        batch_tokens=batch_tokens(base.device, base.vocabulary),
        padded=reads_once(base.model, base.device),
    )


def trial(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """Do a TrialJob and return a TrialResult."""
    return try_rows(
        arguments,
        report,
        read=lambda base, file, most: [
            [Example(tokens, ())] for tokens in _encoded(base, read_jsonl_of(GrpoRow, file), most)
        ],
        most=lambda base, parameters: _row_tokens(base, GrpoParameters.model_validate(parameters)),
    )


def prompt_tokens(base: ReadsText, rows: Sequence[GrpoRow], asked: GrpoParameters) -> list[list[int]]:
    """The prompts as the base's chat format writes them; a long one loses its beginning, so that an answer fits behind it."""
    return _encoded(base, rows, _row_tokens(base, asked))


def _encoded(base: ReadsText, rows: Sequence[GrpoRow], most: int) -> list[list[int]]:
    chat = ChatFormat(base.tokenizer, vocabulary=base.vocabulary)
    _ = chat.stop_tokens  # a base that cannot end an answer is found here, before anything is drawn
    prompts = [chat.prompt_tokens(system=row.system, prompt=row.prompt) for row in rows]
    chat.check_known(prompts)
    return [chat.cut(prompt, most) for prompt in prompts]


def _row_tokens(base: ReadsText, asked: GrpoParameters) -> int:
    return min(asked.max_tokens, base.context - _answer_tokens(base, asked))


def texts(base: LoadedBase, rollouts: Sequence[Rollout]) -> list[str]:
    """What the answers say."""
    written: list[str] = base.tokenizer.batch_decode(
        [rollout.completion for rollout in rollouts], skip_special_tokens=True
    )
    return [text.strip() for text in written]


def _measured(
    rows: Sequence[GrpoRow],
    asked: GrpoParameters,
    rollouts: Sequence[Rollout],
    *,
    kl: Sequence[float],
    said: Sequence[str],
) -> Measured:
    """What one model's answers are worth, `samples` to each row, row by row; kl in nats per token."""
    cases = [Case(text, rows[i // asked.samples].for_rewards()) for i, text in enumerate(said)]
    by_reward = [judge(reward, cases) for reward in asked.rewards]
    for reward, judged in zip(asked.rewards, by_reward, strict=True):
        if len(judged.failures) == len(cases):
            check_works(reward, [row.for_rewards() for row in rows[:TRIED_ROWS]])
    rewards = weighted(asked.rewards, [judged.scores for judged in by_reward])
    by_answer = [reward - asked.beta * nats for reward, nats in zip(rewards, kl, strict=True)]
    by_row = [
        statistics.fmean(by_answer[start : start + asked.samples]) for start in range(0, len(by_answer), asked.samples)
    ]
    one_by_one = {
        f"reward_{number}_{reward.kind}": statistics.fmean(judged.scores)
        for number, (reward, judged) in enumerate(zip(asked.rewards, by_reward, strict=True), start=1)
    }
    extras = {
        "reward": statistics.fmean(rewards),
        "kl": statistics.fmean(kl),
        **one_by_one,
        "reward_failures": float(sum(len(judged.failures) for judged in by_reward)),
        "finished": statistics.fmean(rollout.finished for rollout in rollouts),
        "tokens": statistics.fmean(len(rollout.completion) for rollout in rollouts),
    }
    return Measured(by_row, extras)


def _answer_tokens(base: ReadsText, asked: GrpoParameters) -> int:
    """How long answers may be: at least half of what the base can read is the prompt's."""
    return min(asked.max_new_tokens, base.context // 2)
