"""The customers' command that tries rewards on a few rows before a task is posted. Part of `gradients task`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gradients.cli.customer import AsJson, Key, Url, as_json_text, market
from gradients.cli.spec import Parameters, Spec, Type, task_spec
from gradients.domain.json import Json
from gradients.errors import DatasetInvalid

if TYPE_CHECKING:
    from gradients.client.rewards import RewardVerdict

LONGEST_SHOWN = 60  # characters of a prompt or an answer
ROW_CHARACTERS = 1_000_000


def rewards(
    rows: Annotated[
        Path, typer.Option(help="A file with rows as they stand in the data set; the first few are tried.")
    ],
    answer: Annotated[
        list[str] | None,
        typer.Option(help="An answer to judge, for every row; up to 4. Without one the prompt and nothing are judged."),
    ] = None,
    first: Annotated[int, typer.Option(min=1, max=16, help="How many rows are tried.")] = 4,
    type: Type = None,  # noqa: A002
    spec_file: Spec = None,
    parameters: Parameters = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Try a task's rewards on a few rows and answers, in the sandbox in which they would judge it. Nothing is posted."""
    spec = task_spec(spec_file, parameters, type=type)
    taken = _first_rows(rows, first)
    from pydantic import ValidationError

    from gradients.client.rewards import RewardTrial

    given = {"type": spec.get("type"), "parameters": spec.get("parameters", {}), "rows": taken}
    try:
        trial = RewardTrial.model_validate({**given, "answers": [answer] * len(taken) if answer else None})
    except ValidationError as error:
        told = error.errors()[0]
        raise typer.BadParameter(f"{'.'.join(map(str, told['loc']))}: {told['msg']}") from error
    with market(url, key) as client:
        verdict = client.try_rewards(trial)
    typer.echo(as_json_text(verdict) if as_json else _verdict_text(verdict))


def _first_rows(file: Path, most: int) -> Sequence[Json]:
    """The first rows of a file in any format that data sets have."""
    from gradients.datasets.formats import rows_in

    if not file.exists():
        raise DatasetInvalid(f"There is no file {file}", fix="Check --rows")
    return list(itertools.islice(rows_in(file, row_characters=ROW_CHARACTERS), most))


def _verdict_text(verdict: RewardVerdict) -> str:
    """Each answer with its reward, and what each of the rewards gave."""
    lines = []
    for row in verdict.rows:
        lines.append(f"row {row.row}: {_short(row.prompt)}")
        for answer in row.answers:
            scores = ", ".join(
                f"{kind} {'failed' if score is None else format(score, '.3g')}"
                for kind, score in zip(verdict.rewards, answer.scores, strict=True)
            )
            lines.append(f"  {answer.reward:.3f}  {_short(answer.answer) or '(nothing)'}  [{scores}]")
            lines += [f"         {problem}" for problem in answer.failures]
    return "\n".join(lines)


def _short(text: str) -> str:
    from gradients.texts import harmless

    line = harmless(" ".join(text.split()))
    return line if len(line) <= LONGEST_SHOWN else f"{line[: LONGEST_SHOWN - 1]}…"
