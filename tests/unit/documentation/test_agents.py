"""What programs are told of the product in llms.txt and llms-full.txt is true, and docs/ has it as it is served."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import cast

import pytest

from gradients.client.estimates import EstimateSpec
from gradients.client.models import PostedSpec, Refusal
from gradients.tasks.registry import TYPES, validate_request
from scripts.documentation.agents import DOCS, texts, usual_bounds
from validator.api.agents import full_text
from validator.api.app import api_app
from validator.api.dependencies import Dependencies

FULL = texts()["llms-full.txt"]
DOCUMENT = api_app(cast(Dependencies, None)).openapi()


@pytest.mark.parametrize("name", ["llms.txt", "llms-full.txt"])
def test_docs_have_what_a_validator_with_the_usual_settings_serves(name: str) -> None:
    shown = (DOCS / name).read_text(encoding="utf-8")
    assert shown == texts()[name], "python -m scripts.documentation.agents writes it anew"


def test_the_summary_has_the_form_of_llmstxt() -> None:
    """A title, a quoted summary, then sections of links, of which each leads to something that is served."""
    lines = texts()["llms.txt"].splitlines()
    assert lines[0] == "# Gradients"
    assert lines[2].startswith("> ")
    links = re.findall(r"^- \[[^\]]+\]\((/[^)]*)\): \S", texts()["llms.txt"], flags=re.MULTILINE)
    assert {"/openapi.json", "/llms-full.txt"} <= set(links) <= {*DOCUMENT["paths"], "/openapi.json"}


def test_every_operation_of_the_api_is_named_and_no_other() -> None:
    operations = {
        f"{method.upper()} {path}"
        for path, methods in DOCUMENT["paths"].items()
        for method in methods
        if path.startswith("/v1")
    }
    assert set(re.findall(r"^- `([A-Z]+ /v1[^`]*)`: \S", FULL, flags=re.MULTILINE)) == operations
    named = {
        f"{m} {p.partition('?')[0].replace('/best', '/{hotkey}')}"
        for m, p in re.findall(r"`([A-Z]+) (/v1[^`]*)`", FULL)
    }
    assert named == operations


def test_the_examples_are_taken_by_the_api() -> None:
    blocks = [json.loads(block) for block in re.findall(r"```json\n(.*?)\n```", FULL, flags=re.DOTALL)]
    estimate, posted, *types, refusal = blocks
    EstimateSpec.model_validate(estimate)
    validate_request(PostedSpec.model_validate(posted).model_dump())
    Refusal.model_validate(refusal)
    assert {example["type"] for example in types} == set(TYPES)
    for example in types:
        assert validate_request({"base": "nano-lm", "dataset": "hub:org/rows", "hours": 1, **example}).parameters


def test_no_path_of_this_machine_is_told() -> None:
    assert "/gradients/assets" not in FULL


def test_the_limits_are_the_validators_own() -> None:
    bounds = replace(usual_bounds(), running_tasks=7, upload_bytes=12_345)
    other = full_text(DOCUMENT, bounds)
    assert "- 7 tasks that have not ended" in other
    assert "- 12,345 bytes for one upload" in other
