"""`training.json`: everything that a reader needs to judge or repeat a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from scripts.pretraining.checkpoint import Run
from scripts.pretraining.sources import Fetched
from scripts.pretraining.training import Budget, Recipe


def training_record(
    run: Run,
    *,
    recipe: Recipe,
    budget: Budget,
    fetched: Sequence[Fetched],
    corpus_characters: Mapping[str, int],
    machine: str,
) -> dict[str, Any]:
    """The record of `run`; `machine` is a class of machine, never a name."""
    return {
        "machine": machine,
        "recipe": asdict(recipe),
        "budget": asdict(budget),
        "steps": run.step,
        "tokens_seen": run.tokens,
        "seconds": round(run.seconds),
        "corpus_characters": dict(corpus_characters),
        "packages": [
            {
                "name": item.package.name,
                "registry": item.package.registry,
                "file": item.file,
                "sha256": item.sha256,
                "text_licence": item.package.text_licence,
            }
            for item in fetched
        ],
        "losses": run.history,
    }
