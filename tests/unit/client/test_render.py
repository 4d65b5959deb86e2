"""What people see of results."""

from __future__ import annotations

from rich.console import Console

from gradients.client.held_out import HeldOutRows
from gradients.client.models import TaskDetails, TaskFailure, examples
from gradients.client.render import console, result_table, rows_text, task_table
from gradients.errors import Blame
from tests.unit.client.answers import miner, task


def _shown(shown: TaskDetails, *, weights: dict[int, float] | None = None) -> str:
    console = Console(width=140, record=True)
    console.print(result_table(shown, weights=weights, incentive={}))
    return console.export_text()


def test_a_table_shows_gain_chance_prize_and_weight() -> None:
    lines = _shown(task(miner(loss=3.0, gain=0.25), base_loss=4.0), weights={3: 0.94}).splitlines()
    [winner] = [line for line in lines if "uid 3" in line]
    shown = [cell.strip() for cell in winner.split("│")[1:-1]]
    assert shown == ["1", "uid 3", "lora-tuned", "3.0000", "+25.0%", "91.0%", "1.82", "94.0%", ""]


def test_whoever_gets_no_weight_has_none_once_there_are_weights() -> None:
    unpaid = miner(uid=4, rank=2, chance=0.0, prize=0.0, reason="rank 2 of 2")
    [line] = [line for line in _shown(task(miner(), unpaid), weights={3: 1.0}).splitlines() if "uid 4" in line]
    assert "│   0.0% │" in line


def test_what_miners_say_is_no_markup() -> None:
    rude = miner(uid=4, recipe="[/bold] :100:", rank=None, loss=None, gain=None, reason="[/] :100:")
    text = _shown(task(miner(), rude))
    assert "[/bold] :100:" in text
    assert "uid 4: [/] :100:" in text


def test_without_the_chain_there_is_no_weight() -> None:
    assert "weight" not in _shown(task(miner()))


def test_copies_failures_and_what_is_not_a_fine_tune_have_their_reasons_below_the_table() -> None:
    unplaced = {"rank": None, "chance": 0.0, "prize": 0.0}
    failed = miner(uid=4, loss=None, stderr=None, gain=None, reason="too_late: at block 9", **unplaced)
    copy = miner(uid=5, copy_of="5Winner", reason="the same model as 5Winner's, which was committed first", **unplaced)
    lazy = miner(uid=6, reason="not better than the base beyond noise (+0.10%)", **unplaced)
    text = _shown(task(miner(), failed, copy, lazy))
    for miner_of, words in ((4, failed.reason), (5, copy.reason), (6, lazy.reason)):
        assert f"uid {miner_of}: {words}" in text
    assert miner().reason not in text


def test_while_a_task_runs_it_is_told_how_far_everybody_is_and_who_has_failed() -> None:
    waiting = {
        "rank": None,
        "chance": None,
        "prize": None,
        "loss": None,
        "gain": None,
        "reason": "",
        "state": "started",
    }
    said = {"recipe": "r", "step": 3, "loss": 1.0}
    trains = miner(uid=4, progress={"phase": "training", "fraction": 0.4, "problem": "", **said}, **waiting)
    failed = miner(
        uid=5, progress={"phase": "failed", "fraction": 0.1, "problem": "out_of_memory: no room", **said}, **waiting
    )
    silent = miner(uid=6, **waiting)
    lines = [line.strip() for line in _shown(task(trains, failed, silent, state="assigned")).splitlines()]
    assert [line for line in lines if line.startswith("uid ")] == [
        "uid 4: training 40%",
        "uid 5: failed 10%, out_of_memory: no room",
    ]


def test_a_task_that_has_failed_says_why_in_the_list() -> None:
    failed = task(state="failed", rows=None, failure={"blame": "customer", "code": "too_few_rows", "message": "Only 3"})
    console = Console(width=140, record=True)
    console.print(task_table([failed]))
    assert "too_few_rows: Only 3" in console.export_text()


def test_a_failures_words_are_no_markup_and_no_escapes() -> None:
    broken = task().model_copy(
        update={"failure": TaskFailure(blame=Blame.CUSTOMER, code="bad", message="[/nope] \x1b[2J\u202e")}
    )
    terminal = console()
    with terminal.capture() as shown:
        terminal.print(task_table([broken]), width=200)
    assert "\\x1b[2J\\u202e" in shown.get()
    assert "[/nope]" in shown.get()


def test_rows_are_shown_with_what_everybody_has_on_them_and_no_escape_of_a_row_reaches_the_terminal() -> None:
    page = HeldOutRows.model_validate(examples()["HeldOutRows"])
    hostile = page.rows[0].model_copy(update={"content": {"prompt": "one\ntwo\x1b[2J"}, "is_cut": True})
    text = rows_text(page.model_copy(update={"rows": (hostile,)}))
    assert "is better than the base on 96 and worse on 24 of 120 held-out rows" in text
    assert "Row 17, gain +1.7000: base 3.1000, 5FHneW46… 1.4000, 5GrwvaEF… 2.2000" in text
    assert "  prompt: one\ntwo\\x1b[2J" in text
    assert "--row shows the whole" in text
    gone = page.model_copy(update={"rows": (hostile.model_copy(update={"content": None}),), "kept": False})
    assert "no longer kept here" in rows_text(gone)
