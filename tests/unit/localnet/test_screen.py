"""The terminal view, drawn from pictures of a market."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console

from gradients.client.models import TaskFailure
from gradients.domain.task import TaskState
from gradients.errors import Blame
from gradients.localnet.screen import draw, plain_line
from gradients.localnet.snapshot import Snapshot
from tests.unit.client.answers import miner, task

DATA = {
    "train_rows": 90,
    "held_out_rows": 10,
    "made_up_rows": 0,
    "removed": {},
    "train_sha256": "a" * 64,
    "held_out_commitment": "b" * 64,
    "base_digest": "c" * 64,
    "base_parameters": 1000,
}
PROGRESS = {"phase": "training", "recipe": "lora-tuned", "fraction": 0.4, "step": 21, "loss": 4.071, "problem": ""}
TRAINING = task(
    miner(
        uid=2,
        state="started",
        reason="",
        rank=None,
        loss=None,
        gain=None,
        chance=None,
        prize=None,
        repo=None,
        progress=PROGRESS,
    ),
    id="instruct-1",
    state="assigned",
    data=DATA,
    blocks={"started": 20, "deadline": 84, "reveal_until": 90},
    base_loss=None,
)
MARKET = Snapshot(33.0, "miners are training", block=33, tasks=(TRAINING,))


def shown(snapshot: Snapshot) -> str:
    console = Console(width=120, record=True)
    console.print(draw(snapshot))
    return console.export_text()


def test_a_training_miner_is_shown_with_recipe_step_and_loss() -> None:
    text = shown(MARKET)
    for words in ("block 33", "0:33", "instruct-1", "90 train rows, 10 held out, deadline at block 84", "uid 2"):
        assert words in text
    assert all(words in text for words in ("lora-tuned", "training", "step 21", "loss 4.071"))


def test_what_a_miner_says_is_no_markup() -> None:
    rude = PROGRESS | {"problem": "[/] :100:"}
    training = TRAINING.model_copy(
        update={"miners": (miner(recipe="[/bold]", state="started", rank=None, progress=rude),)}
    )
    text = shown(replace(MARKET, tasks=(training,)))
    assert "[/bold]" in text
    assert "[/] :100:" in text


def test_a_task_that_failed_says_why() -> None:
    failure = TaskFailure(blame=Blame.CUSTOMER, code="too_few_rows", message="Only 3 rows")
    failed = TRAINING.model_copy(update={"state": TaskState.FAILED, "failure": failure})
    assert "too_few_rows: Only 3 rows" in shown(replace(MARKET, tasks=(failed,)))


SCORED = task(miner(uid=2), id="chat-2")


def test_a_scored_task_has_a_line_while_another_is_under_way_and_then_its_table() -> None:
    meanwhile = shown(replace(MARKET, tasks=(SCORED, TRAINING)))
    assert "chat-2  scored: base 4.5000, best 3.2500 (uid 2, lora-tuned)" in meanwhile
    assert "base model" not in meanwhile
    at_the_end = shown(replace(MARKET, tasks=(SCORED,)))
    assert all(words in at_the_end for words in ("base model", "+27.8%", "91.0%", "1.82"))


def test_restarted_processes_are_named() -> None:
    assert "miner-1 restarted 2x" in shown(replace(MARKET, restarts={"miner-1": 2, "chain": 0}))


def test_a_line_says_what_a_pipe_needs() -> None:
    line = plain_line(MARKET)
    assert "block   33" in line
    assert "lora-tuned training 40%" in line
