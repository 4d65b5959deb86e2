"""What a customer says about a RAG task."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gradients.datasets.columns import LONGEST_FORMAT, check_format
from gradients.datasets.sources import DatasetSource

_MOST_CHARACTERS_A_TOKEN = 6  # of any tokenizer on prose; more text than that is certain to be cut


class Columns(BaseModel):
    """Which column of the data set is which."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: str = Field(default="question", min_length=1, description="what is asked")
    answer: str = Field(default="answer", min_length=1, description="the answer to learn")
    passage: str | None = Field(default=None, description="id of the passage that holds the answer")

    def named(self) -> dict[str, str]:
        """role -> column, of the columns that are used."""
        return {role: column for role, column in self.model_dump().items() if column is not None}


class CorpusColumns(BaseModel):
    """Which column of the corpus is which."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str = Field(default="text", min_length=1, description="the passage")
    id: str = Field(default="id", min_length=1, description="what rows name a passage by; read only when they do")
    title: str | None = Field(default=None, description="searched with the text, shown where passage_format says so")


class RagParameters(BaseModel):
    """What a customer says about a RAG task."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    corpus: DatasetSource = Field(description="the passages, given as a data set is: a file, an upload, or hub:…")
    columns: Columns = Field(default=Columns(), description="which column of the data set is which")
    corpus_columns: CorpusColumns = Field(default=CorpusColumns(), description="which column of the corpus is which")
    retriever: Literal["bm25", "embedding"] = Field(
        default="bm25", description="by words in common, or by the distance of sentence embeddings (all-MiniLM-L6-v2)"
    )
    passages: int = Field(default=4, ge=1, le=32, description="passages in each prompt")
    passage_characters: int = Field(
        default=240, ge=40, le=20_000, description="longer passages are parted between sentences"
    )
    unanswerable: float = Field(
        default=0.25, ge=0, le=0.9, description="share of rows whose passages do not hold the answer"
    )
    abstention: str = Field(
        default="The passages do not answer this.", min_length=1, max_length=500, description="what to say then"
    )
    format: str = Field(default="{passages}\n\n{question}", max_length=LONGEST_FORMAT, description="the prompt")
    passage_format: str = Field(default="[{number}] {text}", max_length=1000, description="one passage in it")
    system_prompt: str | None = Field(default=None, max_length=LONGEST_FORMAT, description="a system message for all")
    max_tokens: int = Field(default=512, ge=16, le=131_072, description="tokens of a row that are read")

    @field_validator("abstention")
    @classmethod
    def _says_something(cls, text: str) -> str:
        if not text.strip():
            raise ValueError("it must say something")
        return text.strip()

    @field_validator("format")
    @classmethod
    def _prompt_placeholders(cls, text: str) -> str:
        return check_format(text, must=["passages", "question"])

    @field_validator("passage_format")
    @classmethod
    def _passage_placeholders(cls, text: str) -> str:
        return check_format(text, must=["text"], may=["number", "title"])

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if "{title}" in self.passage_format and self.corpus_columns.title is None:
            raise ValueError("passage_format shows a {title}, so corpus_columns.title must name its column")
        characters = self.passages * self.passage_characters
        if characters > _MOST_CHARACTERS_A_TOKEN * self.max_tokens:
            raise ValueError(f"{characters} characters of passages do not fit into max_tokens {self.max_tokens}")
        return self
