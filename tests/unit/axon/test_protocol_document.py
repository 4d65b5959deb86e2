"""docs/protocol.md says what the code does: every code that refuses a submission, every route, every number."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gradients.axon.auth import ALLOWED_SKEW_SECONDS, MAX_AGE_SECONDS
from gradients.axon.client import LOWEST_PORT
from gradients.axon.limits import ClientLimits
from gradients.domain.commitment import HEIGHT, PREFIX, payload
from gradients.repo.manifest import FORMAT
from gradients.repo.screening import MAX_ADAPTER_SHARE, MAX_FULL_SHARE, SMALL_REPO_BYTES
from gradients.scoring.rules import CHANCE
from miner.plan import COMMIT_BLOCKS
from miner.settings import PUBLIC_STAKE_ALPHA
from validator.settings import CollectSettings, OfferSettings

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
REFUSALS = {"SubmissionRejected", "CommitmentMissing", "Failure", "PeerMisbehaved"}
ELSEWHERE = {
    "no_miners",  # of a task, as is the next
    "job_failed",
    "submission_late",  # of the reference miner to itself
    "blob_corrupted",  # of our own store
}


def calls() -> Iterator[ast.Call]:
    """Every place where the code says why a submission is refused."""
    files = [*(ROOT / "gradients").rglob("*.py"), *(ROOT / "validator").rglob("*.py")]
    for file in files:
        if "testing" in file.parts or "localnet" in file.parts:
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in REFUSALS:
                yield node


def codes() -> set[str]:
    found = set[str]()
    for call in calls():
        assert isinstance(call.func, ast.Name)
        given = [keyword.value for keyword in call.keywords if keyword.arg == "code"]
        given += call.args[1:2] if call.func.id == "Failure" else []
        found |= {str(each.value) for each in given if isinstance(each, ast.Constant)}
    return found - ELSEWHERE


def test_every_code_that_refuses_a_submission_is_explained_and_no_other() -> None:
    table = TEXT.partition("## What is refused")[2].partition("## How it is scored")[0]
    explained = {code for line in table.splitlines() for code in re.findall(r"`([a-z_]+)`", line.partition(" | ")[0])}
    assert codes() - explained == set()
    # The classes' own, and what a miner's axon says to us.
    assert explained - codes() <= {"commitment_missing", "peer_misbehaved", "stake_too_low"}


def test_the_routes_are_those_of_both_axons() -> None:
    served = set[str]()
    for file in ("miner/endpoints.py", "validator/axon_app.py"):
        served |= set(re.findall(r'@app\.\w+\("(/v1/[^"]+)"\)', (ROOT / file).read_text(encoding="utf-8")))
    told = set(re.findall(r"/v1/[\w{}/]+", TEXT.partition("```\n")[2].partition("```")[0]))
    assert told == {path.replace("{task_id}", "{id}") for path in served}


@pytest.mark.parametrize(
    "said",
    [
        f"may be {MAX_AGE_SECONDS:g} s old\nand {ALLOWED_SKEW_SECONDS:g} s ahead",
        f"a port from {LOWEST_PORT} on",
        f"within {OfferSettings().answer_seconds:g} s where it is an offer or a start, {ClientLimits().answer_seconds:g} s otherwise",
        f"at most {ClientLimits().answer_bytes // 10**6} MB",
        f"draws up to {OfferSettings().pool_size} miners",
        f"asks for {PUBLIC_STAKE_ALPHA:,.0f} alpha",
        f"{CollectSettings().reveal_seconds:g} s after the deadline by default",
        f"the {len(payload([bytes(64)]))} bytes `{PREFIX.decode()}`",
        f"a sparse Merkle tree of {HEIGHT} levels",
        f"`format` `{FORMAT}`",
        f"or {SMALL_REPO_BYTES // 10**6} MB; a full model {MAX_FULL_SHARE:g} times",
    ],
)
def test_the_numbers_are_those_of_the_code(said: str) -> None:
    assert said.replace("\n", " ") in re.sub(r"\s+", " ", TEXT)


def test_what_is_said_in_words_still_holds() -> None:
    assert COMMIT_BLOCKS == 3  # "three blocks before it"
    assert MAX_ADAPTER_SHARE == 0.5  # "half of the base's bytes"
    assert (CHANCE.base_z, CHANCE.base_share) == (2.326, 0.005)  # "1 %, one-sided", "half a percent"
