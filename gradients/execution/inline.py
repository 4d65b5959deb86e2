"""Runs jobs in this very process, for tests. No deadline, no isolation: a function that hangs hangs the caller."""

from __future__ import annotations

import json

from gradients.domain.json import JsonObject
from gradients.errors import GradientsError, JobFailed
from gradients.execution.functions import resolve
from gradients.execution.job import Job, ReportProgress
from gradients.execution.records import digest, finished_result, prepare_folder, write_result


class InlineExecutor:
    """Calls the function on the loop. Arguments and result still go through JSON, so that what cannot cross a process border shows."""

    async def run(self, job: Job, *, report: ReportProgress) -> JsonObject:
        finished = finished_result(job)
        if finished is not None:
            return finished
        prepare_folder(job)
        try:
            result = resolve(job.function)(json.loads(json.dumps(job.arguments)), report)
            write_result(job.folder, job_digest=digest(job), result=result)
        except GradientsError:
            raise
        except Exception as error:
            raise JobFailed(f"{job.function} ended with {error!r}", code="job_crashed") from error
        return result
