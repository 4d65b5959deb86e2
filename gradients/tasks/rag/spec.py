"""RAG tasks: a corpus of passages, and questions to answer from what is retrieved of it, or to say that the answer is not there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import cast

from pydantic import BaseModel

from gradients.datasets.columns import cell, check_cells, check_columns, check_enough
from gradients.datasets.rows import Cleaned, Numbered, ReadSource, Row, numbered_rows
from gradients.domain.evaluation import Metric
from gradients.tasks.base import SHIPPED_DATA, Demonstration, TaskType
from gradients.tasks.rag.corpus import passage_id
from gradients.tasks.rag.parameters import RagParameters
from gradients.tasks.texts import with_texts


def clean(rows: Sequence[Row], parameters: BaseModel) -> Cleaned:
    """Rows as {"question", "answer", "passage"}; rows without a question or an answer are left out and counted."""
    columns = cast(RagParameters, parameters).columns.named()
    check_columns(rows, columns)
    rows = with_texts(rows, columns.values())
    check_cells(rows, columns.values())
    kept, removed = numbered_rows(), Counter[str]()
    for number, row in enumerate(rows, start=1):
        cells = {"passage": ""} | {role: cell(row.get(column)) for role, column in columns.items()}
        cells["passage"] = passage_id(cells["passage"])
        if cells["question"] and cells["answer"]:
            kept.append(Numbered(number, cells))
        else:
            removed["empty"] += 1
    check_enough((row.number for row in kept), len(rows), missing="no question or no answer")
    return Cleaned(rows=kept, removed=removed)


def enrich(rows: Sequence[Numbered], parameters: BaseModel, salt: bytes, read: ReadSource) -> Cleaned:
    """Rows with what is retrieved for them; see prompts.py, which needs more than a declaration may import."""
    from gradients.tasks.rag.prompts import with_passages

    return with_passages(rows, cast(RagParameters, parameters), salt=salt, read=read)


def text(row: Row) -> str:
    """What rows are compared by: never by their passages, which many rows share."""
    return f"{row['question']} {row['answer']}"


def group(row: Row) -> str:
    """Several answers to one question belong together."""
    return str(row["question"])


RAG = TaskType(
    name="rag",
    title="Answers from retrieved passages",
    schema=RagParameters,
    clean=clean,
    text=text,
    group=group,
    metric=Metric("answer cross-entropy given passages", "nats/token", 2, "lower"),
    measure="gradients.tasks.rag.metric:measure",
    trial="gradients.tasks.rag.metric:trial",
    train="gradients.tasks.rag.trainer:train",
    generate="gradients.tasks.workers.generation:generate",
    schedule_share=0.08,
    demonstrations=(
        Demonstration(
            SHIPPED_DATA / "wordnet-rag" / "rows.jsonl",
            {
                "corpus": str(SHIPPED_DATA / "wordnet-rag" / "passages.jsonl"),
                "columns": {"passage": "passage_id"},
                "passages": 3,
                "passage_characters": 280,  # none of these is longer
            },
        ),
    ),
    sources=("corpus",),
    enrich=enrich,
)
