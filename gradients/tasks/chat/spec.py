"""Chat tasks: conversations of several turns, of which the assistant's are to be learnt."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Self, cast

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from gradients.datasets.columns import LONGEST_FORMAT, cell, check_cells, check_columns, check_enough
from gradients.datasets.rows import Cleaned, Numbered, Row, numbered_rows
from gradients.domain.dialogue import Shape
from gradients.domain.evaluation import Metric
from gradients.sandbox.templates import layouts
from gradients.tasks.base import SHIPPED_DATA, Demonstration, TaskType
from gradients.tasks.turns import (
    CONTENT_KEYS,
    ROLE_KEYS,
    USUAL_ROLES,
    Dialogue,
    Role,
    Spelling,
    dialogue,
    read_each,
    read_turns,
)

LONGEST_TEMPLATE = 20_000  # characters; the longest of published models has about 10,000


class Columns(BaseModel):
    """Which column of the data set is which."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    conversations: str = Field(default="conversations", min_length=1, description="lists of turns")
    system: str | None = Field(default=None, description="a system message of each row's own")

    def named(self) -> dict[str, str]:
        """role -> column, of the columns that are used."""
        return {role: column for role, column in self.model_dump().items() if column is not None}


class Keys(BaseModel):
    """The keys of a turn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: str | None = Field(default=None, min_length=1, description="says who speaks; 'from' or 'role' when not given")
    content: str | None = Field(default=None, min_length=1, description="what is said; 'value' or 'content'")


class Roles(BaseModel):
    """What the data set calls the speakers, where it is not one of the usual names (human, user, gpt, assistant, system …)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    system: str | None = Field(default=None, min_length=1, description="who sets the rules")
    user: str | None = Field(default=None, min_length=1, description="who asks")
    assistant: str | None = Field(default=None, min_length=1, description="who answers: the model to be")

    @model_validator(mode="after")
    def _one_role_a_name(self) -> Self:
        given = [name for name in self.model_dump().values() if name is not None]
        if len(set(given)) < len(given):
            raise ValueError("two roles have the same name")
        return self

    def by_name(self) -> dict[str, Role]:
        """Every name that is understood; the customer's own go before the usual ones."""
        own = {name: cast(Role, role) for role, name in self.model_dump().items() if name is not None}
        return {**USUAL_ROLES, **own}


class ChatParameters(BaseModel):
    """What a customer says about a chat task."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: Columns = Field(default=Columns(), description="which column of the data set is which")
    keys: Keys = Field(default=Keys(), description="the keys of a turn")
    roles: Roles = Field(default=Roles(), description="what the data set calls the speakers")
    system_prompt: str | None = Field(
        default=None, max_length=LONGEST_FORMAT, description="a system message for conversations that have none"
    )
    template: str | None = Field(
        default=None, max_length=LONGEST_TEMPLATE, description="a Jinja chat template instead of the base's own"
    )
    max_tokens: int = Field(default=1024, ge=16, le=131_072, description="tokens of a conversation that are read")

    @field_validator("template")
    @classmethod
    def _about_messages(cls, template: str | None) -> str | None:
        if template is not None and "messages" not in template:
            raise ValueError("a chat template goes through `messages`")
        return template

    @property
    def spelling(self) -> Spelling:
        """How the data set writes a turn."""
        role, content = self.keys.role, self.keys.content
        return Spelling(self.roles.by_name(), [role] if role else ROLE_KEYS, [content] if content else CONTENT_KEYS)


def clean(rows: Sequence[Row], parameters: BaseModel) -> Cleaned:
    """Rows as {"system", "exchanges": [{"prompt", "completion"}], "frames"}; those without an answered prompt are left out.

    An answer that is not to be learnt has a third key, "learn". What is left out of a conversation is counted too, turn by turn.
    """
    asked = cast(ChatParameters, parameters)
    check_columns(rows, asked.columns.named())
    if asked.columns.system is not None:
        check_cells(rows, [asked.columns.system])

    def read(row: Row) -> Dialogue:
        said = dialogue(read_turns(row.get(asked.columns.conversations), asked.spelling))
        # the system message is the conversation's own, or the row's, or the task's
        of_row = cell(row.get(asked.columns.system)) if asked.columns.system is not None else ""
        return said._replace(system=said.system or of_row or asked.system_prompt or None)

    found = read_each(rows, read, column=asked.columns.conversations)
    shapes, full = set[Shape](), array("L")
    for number, said in enumerate(found, start=1):
        if said.exchanges:
            full.append(number)
            shapes.add(Shape(said.system is not None, len(said.exchanges)))
    check_enough(full, len(rows), missing="no prompt with an answer to learn")
    around = layouts(asked.template, shapes) if asked.template else {}
    normal, removed = numbered_rows(), Counter({"empty": len(rows) - len(full)})
    for number, (system, exchanges, dropped) in enumerate(found, start=1):
        if not exchanges:
            continue
        removed.update(dropped)
        turns: list[JsonValue] = [
            {"prompt": each.prompt, "completion": each.completion, **({} if each.learn else {"learn": False})}
            for each in exchanges
        ]
        frames = around.get(Shape(system is not None, len(exchanges)))
        row: Row = {"system": system, "exchanges": turns, "frames": list(frames) if frames is not None else None}
        normal.append(Numbered(number, row))
    return Cleaned(rows=normal, removed=removed)


def text(row: Row) -> str:
    """What rows are compared by: all turns, but not the system message, which many rows may share."""
    exchanges = cast(Sequence[dict[str, str]], row["exchanges"])
    return "\n".join(f"{each['prompt']} {each['completion']}" for each in exchanges)


def group(row: Row) -> str:
    """Conversations in which the same is asked belong together: each one's answers say much about the others'."""
    exchanges = cast(Sequence[dict[str, str]], row["exchanges"])
    return "\n".join([str(row["system"] or ""), *(each["prompt"] for each in exchanges)])


CHAT = TaskType(
    name="chat",
    title="Conversation",
    schema=ChatParameters,
    clean=clean,
    text=text,
    group=group,
    metric=Metric("assistant cross-entropy", "nats/token", 2, "lower"),
    measure="gradients.tasks.chat.metric:measure",
    by_blocks=True,
    trial="gradients.tasks.chat.metric:trial",
    train="gradients.tasks.chat.trainer:train",
    generate="gradients.tasks.chat.answers:generate",
    schedule_share=0.28,
    demonstrations=(Demonstration(SHIPPED_DATA / "chatterbot-dialogues" / "rows.jsonl"),),
)
