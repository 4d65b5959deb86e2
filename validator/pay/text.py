"""What `gradients weights` prints for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.table import Table

from gradients.client.render import console
from gradients.domain.task import Hotkey
from validator.ledger.outbox import Outgoing
from validator.pay.explain import MinersWeight, Verdict

BLOCKS_PER_DAY = 7_200  # of 12 seconds
MOST_NAMED = 3  # winners in a task's line


def show_verdict(verdict: Verdict) -> None:
    """The decision, its tasks and everybody's share."""
    terminal = console()
    _say_decision(terminal, verdict)
    tasks = [
        (
            task.id,
            task.type,
            task.customer,
            f"{task.age_blocks / BLOCKS_PER_DAY:.2f}",
            f"{task.factor:.2f}",
            f"{task.weight:.3%}",
            _winners(task.chances),
        )
        for task in verdict.tasks
    ]
    together = f"{sum(task.weight for task in verdict.tasks):.3%}"
    columns = ("task", "type", "customer", "age, days", "size", "weight", "chance of being best")
    terminal.print(_table(columns, [*tasks, ("together", "", "", "", "", together, "")]))
    shares = sorted(verdict.shares.items(), key=lambda each: (-each[1], each[0]))
    sums = [(hotkey, f"{share:.4%}") for hotkey, share in shares]
    terminal.print(_table(("hotkey", "share"), [*sums, ("together", f"{sum(verdict.shares.values()):.4%}")]))


def show_miner(told: MinersWeight) -> None:
    """One miner's tasks and what they add up to."""
    terminal = console()
    _say_decision(terminal, told.verdict)
    rows = [
        (
            each.task.id,
            each.task.type,
            f"{each.task.age_blocks / BLOCKS_PER_DAY:.2f}",
            f"{each.task.weight:.3%}",
            f"{each.chance:.1%}",
            f"{each.part:.4%}",
            each.result,
        )
        for each in told.tasks
    ]
    columns = ("task", "type", "age, days", "weight", "chance", "part", "result")
    terminal.print(_table(columns, [*rows, ("together", "", "", "", "", f"{told.share:.4%}", "")]))
    for each in told.tasks:
        if each.why:
            terminal.print(f"{each.task.id}: {each.why}")
    if told.sent is not None:
        value = f"uid {told.sent.uid} has {told.sent.value} of 65535 in the row that was sent"
        terminal.print(f"{value}, {told.sent.part:.4%} of its sum")


def show_burning(parts: Mapping[float, float], *, burned_now: float, part_now: float, burn_share: float) -> None:
    """What the subnet is paid, by what its owner gets of the incentive."""
    terminal = console()
    terminal.print(
        f"In the last epoch {burned_now:.2%} of the incentive went to the owner, and the subnet gets {part_now:.4%} of all TAO. "
        f"This validator's burn_share is {burn_share:g}. If all validators together gave the owner",
    )
    whole = parts[0.0]
    rows = [
        (
            f"{step:.0%}",
            f"{part:.4%}",
            f"{part / whole - 1:+.1%}" if whole else "",
            "<- ours" if step == burn_share else "",
        )
        for step, part in parts.items()
    ]
    terminal.print(_table(("to the owner", "the subnet's part of all TAO", "against none", ""), rows))


def _say_decision(terminal: Console, verdict: Verdict) -> None:
    """By which rules, when, and what became of it."""
    lines = [f"Rules: version {verdict.rules_version}, as of block {verdict.block}"]
    call, decided = verdict.call, verdict.decided
    if call is None or decided is None:
        lines.append("Nothing is decided yet; this is what would be decided now")
    else:
        lines.append(f"{call.key}: decided at block {call.decided_at_block}, {call.state.value}{_fate(call)}")
        if decided.key != call.key:
            lines.append(f"It repeats what was decided at block {decided.decided_at_block}")
        if not verdict.as_decided:
            lines.append("The sums below are NOT what was decided: the ledger does not hold all that led to it")
        sent = call.sent or {}
        if "uids" in sent:
            lines.append(f"Sent: uids {sent['uids']}, values {sent['values']}, version key {sent.get('version_key')}")
            lines.append(
                f"The subnet's limits: {sent.get('limits')}; changed by them: {sent.get('changes') or 'nothing'}"
            )
    for line in lines:
        terminal.print(line)


def _fate(call: Outgoing) -> str:
    receipt = call.receipt or {}
    sent = f" in block {call.sent_at_block}" if call.sent_at_block is not None else ""
    landed = f", on chain in block {receipt['block']}" if "block" in receipt else ""
    return sent + landed + (f" ({call.problem})" if call.problem else "")


def _winners(chances: Mapping[Hotkey, float]) -> str:
    won = sorted(((chance, hotkey) for hotkey, chance in chances.items() if chance > 0), reverse=True)
    named = ", ".join(f"{hotkey[:8]}… {chance:.1%}" for chance, hotkey in won[:MOST_NAMED])
    more = f" and {len(won) - MOST_NAMED} more" if len(won) > MOST_NAMED else ""
    return named + more if won else f"nobody won ({len(chances)} took part)"


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
    table = Table()
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    return table
