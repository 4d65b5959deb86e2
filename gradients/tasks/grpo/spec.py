"""GRPO tasks: prompts, and rewards that a program gives to answers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Self, cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, model_validator

from gradients.datasets.columns import LONGEST_CELL, cell, check_cells, check_columns, check_enough
from gradients.datasets.rows import Cleaned, Numbered, Row, numbered_rows, numbers
from gradients.domain.evaluation import Metric
from gradients.domain.json import canonical
from gradients.errors import DatasetInvalid
from gradients.tasks.base import SHIPPED_DATA, Demonstration, TaskType, TrainingLoad, row_tokens
from gradients.tasks.grpo.rewards.answers import ExactAnswer, NumericAnswer, last_number
from gradients.tasks.grpo.rewards.asserts import expectations
from gradients.tasks.grpo.rewards.base import Case
from gradients.tasks.grpo.rewards.catalogue import AnyReward
from gradients.tasks.grpo.rewards.patterns import LONGEST_SECONDS, RegularExpression
from gradients.tasks.grpo.rewards.programs import Function, PythonTests, check_function
from gradients.tasks.hours import Effort
from gradients.tasks.jobs.training import TrainingPlan
from gradients.tasks.texts import with_texts
from gradients.tasks.turns import Turn, TurnMalformed, are_turns, dialogue, read_each, read_turns

TRIED_ROWS = 5
_OWN_SYSTEM = "\0system"  # of a prompt that is written as turns, where no column is named for it
MOST_WRITTEN = 8192  # tokens of all answers to a prompt: some 3 million for a model
MOST_READ = 65_536  # tokens of all answers to a prompt, each read with the prompt, twice
MOST_JUDGING_SECONDS = 64  # for all answers to a prompt
_JSON = TypeAdapter[JsonValue](JsonValue)


class Columns(BaseModel):
    """Which column of the data set is which; rewards name their own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str = Field(default="prompt", min_length=1, description="what is asked")
    system: str | None = Field(default=None, description="a system message of each row's own")

    def named(self) -> dict[str, str]:
        """role -> column, of the columns that are used."""
        return {role: column for role, column in self.model_dump().items() if column is not None}


class GrpoParameters(BaseModel):
    """What a customer says about a GRPO task."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rewards: tuple[AnyReward, ...] = Field(min_length=1, max_length=16, description="what makes an answer good")
    columns: Columns = Field(default=Columns(), description="which column of the data set is which")
    system_prompt: str | None = Field(
        default=None, max_length=LONGEST_CELL, description="a system message for all rows"
    )
    max_tokens: int = Field(
        default=512, ge=8, le=131_072, description="tokens of a prompt that are read, its last ones"
    )
    max_new_tokens: int = Field(default=128, ge=1, le=8192, description="tokens of an answer; longer ones are cut")
    samples: int = Field(default=4, ge=1, le=64, description="answers to each held-out prompt")
    temperature: float = Field(default=1.0, ge=0.05, le=2.0, description="of the sampling")
    beta: float = Field(
        default=0.04, ge=0.001, le=10, description="what a nat per token away from the base costs; never nothing"
    )

    @model_validator(mode="after")
    def _can_be_measured(self) -> Self:
        """Every entrant answers up to 400 prompts while the market waits."""
        written, read = self.max_new_tokens, self.max_tokens + self.max_new_tokens
        programs = sum(one.cpu_seconds for one in self.rewards if isinstance(one, PythonTests | Function))
        judged = programs + LONGEST_SECONDS * sum(isinstance(one, RegularExpression) for one in self.rewards)
        _check_most(self.samples * written, MOST_WRITTEN, "samples times max_new_tokens")
        _check_most(self.samples * read, MOST_READ, "samples times (max_tokens plus max_new_tokens)")
        _check_most(
            self.samples * judged, MOST_JUDGING_SECONDS, "samples times the rewards' cpu_seconds (1 for each pattern)"
        )
        return self

    def references(self) -> dict[str, bool]:
        """column -> whether it must be text, of all columns that some reward reads."""
        columns: dict[str, bool] = {}
        for reward in self.rewards:
            if isinstance(reward, ExactAnswer | NumericAnswer):
                columns[reward.column] = True
            elif isinstance(reward, PythonTests):
                columns.setdefault(reward.column, False)
            elif isinstance(reward, Function):
                columns = {**dict.fromkeys(reward.columns, False), **columns}
        return columns


def _check_most(value: float, most: int, what: str) -> None:
    if value > most:
        raise ValueError(
            f"{what} is {value:,.0f}, more than can be measured for every prompt; at most {most:,}: turn one down"
        )


class GrpoRow(BaseModel):
    """A row in its normal form."""

    model_config = ConfigDict(frozen=True)

    system: str | None = None
    prompt: str
    reference: dict[str, JsonValue] = Field(default_factory=dict, description="what rewards read, by column")

    def for_rewards(self) -> Mapping[str, JsonValue]:
        """What a reward sees of it."""
        return {**self.reference, "prompt": self.prompt, "system": self.system}


def clean(rows: Sequence[Row], parameters: BaseModel) -> Cleaned:
    """Rows as {"system", "prompt", "reference"}; rows without a prompt or an answer are left out and counted.

    A customer's function is tried in the sandbox on the first rows. Raises DatasetInvalid for rows that cannot be used, TaskInvalid for a
    function that fails, and SetupError without a sandbox.
    """
    asked = cast(GrpoParameters, parameters)
    columns, references = asked.columns.named(), asked.references()
    check_columns(rows, columns)
    check_columns(rows, list(references), parameter="rewards")
    rows = read_each(rows, lambda row: _with_prompt(row, asked.columns), column=asked.columns.prompt)
    texts = [*columns.values(), *(column for column, is_text in references.items() if is_text)]
    rows = with_texts(rows, texts)
    check_cells(rows, texts)
    _check_json(rows, [column for column, is_text in references.items() if not is_text])
    kept, removed = numbered_rows(), Counter[str]()
    for number, row in enumerate(rows, start=1):
        prompt = cell(row.get(columns["prompt"]))
        if not prompt or any(_is_empty(row.get(column)) for column in references):
            removed["empty"] += 1
            continue
        own = cell(row.get(asked.columns.system)) if asked.columns.system else cell(row.get(_OWN_SYSTEM))
        read = {column: cell(row[column]) if is_text else row[column] for column, is_text in references.items()}
        kept.append(Numbered(number, {"system": own or asked.system_prompt, "prompt": prompt, "reference": read}))
    check_enough((row.number for row in kept), len(rows), missing="no prompt or nothing to judge an answer by")
    _check_references(kept, asked)
    tried = [GrpoRow.model_validate(row.row) for row in kept[:TRIED_ROWS]]
    cases = [Case(answer, row.for_rewards()) for row in tried for answer in ("", row.prompt)]
    for reward in asked.rewards:
        if isinstance(reward, Function) and cases:
            check_function(reward, cases)
    return Cleaned(rows=kept, removed=removed)


def _with_prompt(row: Row, columns: Columns) -> Row:
    """The row with its prompt as text, and the system message of a prompt that is written as turns. Raises TurnMalformed."""
    if not are_turns(row.get(columns.prompt)):
        return row
    said = dialogue([*read_turns(row[columns.prompt]), Turn("assistant", "an answer")])
    if len(said.exchanges) > 1:
        raise TurnMalformed("prompt_of_turns", "is a conversation with answers in it", "Give the last prompt alone")
    prompt = said.exchanges[0].prompt if said.exchanges else ""
    return {**row, columns.prompt: prompt, columns.system or _OWN_SYSTEM: said.system or row.get(columns.system or "")}


def needs_sandbox(parameters: BaseModel) -> bool:
    """Whether some reward runs a program."""
    return any(isinstance(reward, PythonTests | Function) for reward in cast(GrpoParameters, parameters).rewards)


def text(row: Row) -> str:
    """What rows are compared by: the same prompt asks the same, whatever the right answer is said to be."""
    return str(row["prompt"])


def _is_empty(value: JsonValue) -> bool:
    return value in (None, []) or (isinstance(value, str | float) and not cell(value))


def _check_json(rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Raises DatasetInvalid with the numbers of rows that cannot be written down: Parquet has dates and bytes, and numbers without end."""
    for column in columns:
        wrong = []
        for number, row in enumerate(rows, start=1):
            try:
                if not _is_empty(row.get(column)):
                    canonical(_JSON.validate_python(row.get(column)))
            except (ValueError, RecursionError):
                wrong.append(number)
        if wrong:
            raise DatasetInvalid(
                f"Column '{column}' is not JSON in rows {numbers(wrong)}",
                rows=wrong,
                code="wrong_type",
                fix="Write dates and bytes as text, and leave cells without a number empty",
            )


def _check_references(rows: Sequence[Numbered], asked: GrpoParameters) -> None:
    """Raises DatasetInvalid with the numbers of rows whose answer or tests cannot be used."""
    for reward in asked.rewards:
        if isinstance(reward, NumericAnswer):
            wrong = [row.number for row in rows if last_number(str(_reference(row, reward.column))) is None]
            _refuse(wrong, f"Column '{reward.column}' does not hold a number")
        elif isinstance(reward, PythonTests):
            problems = dict[int, str]()
            for row in rows:
                tests = _reference(row, reward.column)
                try:
                    if not isinstance(tests, str | list):
                        raise ValueError("neither text nor a list")
                    expectations(tests)
                except ValueError as error:
                    problems[row.number] = str(error)
            first = next(iter(problems.values()), "")
            _refuse(list(problems), f"Column '{reward.column}' holds tests that cannot be used ({first})")


def _refuse(rows: Sequence[int], what: str) -> None:
    if rows:
        raise DatasetInvalid(
            f"{what} in rows {numbers(rows)}",
            rows=rows,
            fix="See gradients/tasks/grpo/README.md for what a reward reads",
        )


def _reference(row: Numbered, column: str) -> JsonValue:
    return cast(Mapping[str, JsonValue], row.row["reference"])[column]


DEMONSTRATION = Demonstration(
    SHIPPED_DATA / "wordnet-definitions" / "rows.jsonl",
    {
        "columns": {"prompt": "question"},
        "rewards": [
            {
                "kind": "regular_expression",
                "pattern": "(a|an|the) ",
                "where": "start",
                "ignore_case": True,
                "weight": 2,
            },
            {"kind": "regular_expression", "pattern": r"[^.!?]*\.", "where": "whole"},  # one whole sentence
            {"kind": "length", "at_least": 8, "at_most": 14},
        ],
        "max_new_tokens": 32,
        "samples": 2,
        "temperature": 0.8,
    },
)


def load(asked: GrpoParameters | None, plan: TrainingPlan) -> TrainingLoad:
    """A prompt with an answer, whose divergence from the base takes the logits of both; measured in tests/ml/test_footprints.py."""
    answer = GrpoParameters.model_fields["max_new_tokens"].default if asked is None else asked.max_new_tokens
    return TrainingLoad(row_tokens(asked, plan) + answer, logits=2.0, reference=True)


GRPO = TaskType(
    name="grpo",
    title="Learning from rewards (GRPO)",
    schema=GrpoParameters,
    clean=clean,
    text=text,
    metric=Metric("reward less KL", "reward, at most 1", 3, "higher"),
    measure="gradients.tasks.grpo.metric:measure",
    judge="gradients.tasks.grpo.trying:judge",
    trial="gradients.tasks.grpo.metric:trial",
    train="gradients.tasks.grpo.trainer:train",
    generate="gradients.tasks.workers.generation:generate",
    schedule_share=0.04,
    demonstrations=(DEMONSTRATION,),
    # its time goes into sampling, not into the rows' tokens
    effort=Effort(gpu_factor=2, fixed_hours=((4, 1.5), (12, 2.5), (40, 4.0), (math.inf, 6.0))),
    needs_sandbox=needs_sandbox,
    load=load,
)
