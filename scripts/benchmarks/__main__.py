"""`scripts/bench`: one line per figure, the median of several runs with the extremes beside it.

Machines differ, and the same machine from hour to hour: compare two ways of doing something within one run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence

from gradients.log import configure_logging
from scripts.benchmarks import control, market, preparing
from scripts.benchmarks.timing import Figure, Ratios, said


def ranks() -> Sequence[Figure]:
    """How alike two metrics of images rank. Imported here, since diffusers takes seconds that no other benchmark has to wait."""
    from scripts.benchmarks import drawing

    return drawing.ranks()


def copies() -> Sequence[Figure]:
    """How alike honest models and copies are. Imported here, since torch takes seconds that no other benchmark has to wait."""
    from scripts.benchmarks import copies

    return copies.copies()


def flood() -> Sequence[Figure]:
    """Honest requests during an attack. Imported here, since a whole API takes seconds that no other benchmark has to wait."""
    from scripts.benchmarks import flood

    return flood.slow_bodies()


def pages() -> Iterable[Figure]:
    """How long pages take over many tasks. Imported here, since a whole API takes seconds that no other benchmark has to wait."""
    from scripts.benchmarks import pages

    return pages.pages()


def race() -> Iterable[Figure]:
    """What racing saves and what it costs. Imported here, since its fields' types are declared by all of gradients."""
    from scripts.benchmarks import racing

    return racing.racing()


def racing_rows() -> Iterable[Figure]:
    """The fields that racing is simulated on. Imported here, since torch takes seconds that no other benchmark has to wait."""
    from scripts.benchmarks import racing_rows

    return racing_rows.racing_rows()


def evaluation() -> Iterable[Figure | Ratios]:
    """Sixteen adapters, four ways. Imported here, since torch takes seconds that no other benchmark has to wait."""
    from scripts.benchmarks import evaluation

    return evaluation.evaluation()


def training() -> Iterable[Figure | Ratios]:
    """Our loop and TRL's in turns. Imported here for the shipped bases' place only; both run in processes of their own."""
    from scripts.benchmarks import training_rivals

    return training_rivals.training()


def budgets() -> Iterable[Figure]:
    """What becomes of the hours, on a modelled clock. Imported here for torch."""
    from scripts.benchmarks import budgets

    return budgets.budgets()


def deadlines() -> Iterable[Figure]:
    """Random budgets and kills. Imported here, since a miner's parts take seconds that no other benchmark has to wait."""
    from scripts.benchmarks import deadlines

    return deadlines.deadlines()


def idle() -> Iterable[Figure]:
    """What daemons take while there is nothing to do. Imported here, since the chain's SDK takes seconds that few others have to wait."""
    from scripts.benchmarks import idle

    return idle.idle()


def offers() -> Iterable[Figure]:
    """A round of offers among dead miners. Imported here, since a validator's step takes seconds that no other benchmark has to wait."""
    from scripts.benchmarks import offering

    return offering.offers()


BENCHMARKS: dict[str, Callable[[], Iterable[Figure | Ratios]]] = {
    "help": control.help_text,
    "imports": control.imports,
    "doctor": control.silent_chain,
    "axon": control.signed_round_trip,
    "epoch": market.epoch,
    "duplicates": market.near_duplicates,
    "preparing": preparing.large_table,
    "measuring": market.measuring,
    "training": training,
    "ranks": ranks,
    "copies": copies,
    "flood": flood,
    "pages": pages,
    "evaluation": evaluation,
    "racing": race,
    "racing-rows": racing_rows,
    "budgets": budgets,
    "deadlines": deadlines,
    "idle": idle,
    "offers": offers,
}


ON_DEMAND = ("racing-rows", "deadlines", "idle")  # half an hour, two hours, ten minutes
WITH_OPTIONS = ("recipes", "training")  # by themselves, with options of their own


def main() -> None:
    """Run the benchmarks that were named, or all."""
    first, more = sys.argv[1:2], sys.argv[2:]
    if first == ["recipes"]:
        from scripts.benchmarks.recipes import command

        command.main(more)
        return
    if first == ["training"] and not BENCHMARKS.keys() & more:
        from scripts.benchmarks import training_rivals

        training_rivals.main(more)
        return
    configure_logging(style="text", level="warning")
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="name",
        help=f"one of {', '.join(BENCHMARKS)}; or {' or '.join(WITH_OPTIONS)} with its own options, which see",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    asked = parser.parse_args()
    if unknown := [name for name in asked.names if name not in BENCHMARKS]:
        parser.error(f"unknown: {', '.join(unknown)}; choose from {', '.join(BENCHMARKS)}")
    for name in asked.names or [name for name in BENCHMARKS if name not in ON_DEMAND]:
        for figure in BENCHMARKS[name]():
            print(said(name, figure, as_json=asked.json), flush=True)


if __name__ == "__main__":
    main()
