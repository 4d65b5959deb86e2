"""Rewards for how an answer is laid out: its parts in order, and its length."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from gradients.tasks.grpo.rewards.base import Reward, Row

ANYTHING = "{}"


class Layout(Reward):
    """1 for an answer of the given form; a share of it for an answer that has only some of the parts."""

    kind: Literal["format"]
    layout: str = Field(
        max_length=1000, description="{} stands for any text, such as <think>{}</think>{}<answer>{}</answer>"
    )

    @field_validator("layout")
    @classmethod
    def _has_parts(cls, layout: str) -> str:
        if not _parts(layout):
            raise ValueError("it must contain more than {}")
        return layout


class Length(Reward):
    """1 for a length within the range; less, the further an answer is from it."""

    kind: Literal["length"]
    unit: Literal["words", "characters"] = Field(default="words", description="what is counted")
    at_least: int = Field(default=0, ge=0, le=1_000_000, description="shortest length that is right")
    at_most: int = Field(ge=1, le=1_000_000, description="longest length that is right")

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.at_least > self.at_most:
            raise ValueError("at_least is larger than at_most")
        return self


def layout(asked: Layout, completion: str, row: Row) -> float:
    """The share of the layout's parts that stand in the answer, each once and in order; text where none may be halves it."""
    text, parts, position = completion.strip(), _parts(asked.layout), 0
    found = 0
    for part in parts:
        at = text.find(part, position)
        if at >= 0:
            found, position = found + 1, at + len(part)
    once = all(text.count(part) == parts.count(part) for part in set(parts))
    begins = asked.layout.startswith(ANYTHING) or text.startswith(parts[0])
    ends = asked.layout.endswith(ANYTHING) or text.endswith(parts[-1])
    return found / len(parts) * (1.0 if once and begins and ends else 0.5)


def length(asked: Length, completion: str, row: Row) -> float:
    """1 within the range; below it the length over the shortest, above it the longest over the length."""
    count = len(completion.split()) if asked.unit == "words" else len(completion.strip())
    if count < asked.at_least:
        return count / asked.at_least
    return min(1.0, asked.at_most / max(count, 1))


def _parts(layout: str) -> list[str]:
    return [part.strip() for part in layout.split(ANYTHING) if part.strip()]
