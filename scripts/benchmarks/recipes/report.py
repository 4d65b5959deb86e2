"""The figures as Markdown tables, and a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

from scripts.benchmarks.recipes.arms import ARMS, ORACLES
from scripts.benchmarks.recipes.results import Outcomes, Pairing, by_family, pairings
from scripts.benchmarks.recipes.run import Done
from scripts.benchmarks.recipes.tasks import TASKS

DRAWN = ("autotrain", "community", "lora-tuned", "full-tuned", "planner", "planner-x4")


def tables(outcomes: Outcomes, runs: Sequence[Done]) -> Iterator[str]:
    """Lines of Markdown."""
    yield "### Held-out loss by task, mean over seeds\n"
    yield from _losses(outcomes)
    yield "\n### What arms used\n"
    yield from _used(outcomes)
    yield "\n### Pairs\n"
    yield from _pairs(pairings(outcomes))
    yield "\n### By family\n"
    for family, pairs in by_family(outcomes).items():
        chosen = [pair for pair in pairs if pair.arm in ("planner", "planner-x4")]
        if chosen:
            yield f"\n**{family}**\n"
            yield from _pairs(chosen)
    failed = [done for done in runs if done.failure]
    yield f"\n{len(failed)} of {len(runs)} runs failed."
    for done in failed:
        last = done.failure.strip().splitlines()[-1]
        yield f"- {done.run.arm} on {done.run.task}, seed {done.run.seed}: {last[:200]}"


def draw(outcomes: Outcomes, file: Path) -> None:
    """A dot for each task and arm: the loss over the base's, so that lower is better."""
    from gradients.simulator.plots import Chart, colours  # Pillow, which tables do without

    tasks = [name for name in TASKS if any(place[1] == name for place in outcomes["base"])]
    shown = [arm for arm in DRAWN if arm in outcomes]
    chart = Chart(
        "loss over the base's, by number of the task", x=(0, 5 * (len(tasks) // 5 + 1)), y=(0, 1.1), form=".2f"
    )
    for colour, arm in zip(colours(len(shown)), shown, strict=True):
        dots = []
        for number, task in enumerate(tasks, start=1):
            shares = [
                fmean(each.test) / fmean(outcomes["base"][place].test)
                for place, each in outcomes[arm].items()
                if place[1] == task
            ]
            dots += [(float(number), fmean(shares))] if shares else []
        chart.dots(dots, colour, arm)
    chart.picture.save(file)


def _losses(outcomes: Outcomes) -> Iterator[str]:
    arms = [
        arm
        for arm in (*ARMS, *outcomes)
        if arm in outcomes and "/" not in arm and not arm.startswith(("random-", "oracle-"))
    ]
    arms = list(dict.fromkeys(arms))
    yield f"| | task | family | {' | '.join(arms)} |"
    yield f"|{'---|' * (len(arms) + 3)}"
    measured = {place[:2] for place in outcomes["base"]}
    tasks = [name for name in TASKS if any(task == name for _, task in measured)]
    for base in dict.fromkeys(base for task in tasks for base, name in sorted(measured) if name == task):
        for number, task in enumerate(tasks, start=1):
            if (base, task) not in measured:
                continue
            cells = []
            for arm in arms:
                values = [fmean(each.test) for place, each in outcomes[arm].items() if place[:2] == (base, task)]
                cells.append(f"{fmean(values):.4g}" if values else "")
            yield f"| {number} | {base}: {task} | {TASKS[task].family} | {' | '.join(cells)} |"


def _used(outcomes: Outcomes) -> Iterator[str]:
    yield "| arm | units of budget used, mean (most) | seconds of training, mean | failed |"
    yield "|---|---|---|---|"
    for arm, by_place in outcomes.items():
        if arm in ORACLES or arm.startswith("oracle-"):
            continue
        shares = [each.share for each in by_place.values()]
        seconds = fmean(each.seconds for each in by_place.values())
        failed = sum(each.failed for each in by_place.values())
        yield f"| {arm} | {fmean(shares):.2f} ({max(shares):.2f}) | {seconds:.1f} | {failed} |"


def _pairs(found: Sequence[Pairing]) -> Iterator[str]:
    yield "| arm | against | tokens, ours over theirs | wins (ties) of | win rate [95 %] | mean gain % [95 %] |"
    yield "|---|---|---|---|---|---|"
    for arm, against, each, tokens in found:
        rate, gain = each.win_rate, each.gain
        yield (
            f"| {arm} | {against} | {tokens:.2f} | {each.wins} ({each.ties}) of {each.runs} "
            f"| {rate.mean:.0%} [{rate.low:.0%}, {rate.high:.0%}] | {gain.mean:.1f} [{gain.low:.1f}, {gain.high:.1f}] |"
        )
