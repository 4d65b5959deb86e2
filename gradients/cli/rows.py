"""The customers' command on held-out rows: where a model gains and loses. Part of `gradients task`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gradients.cli.customer import AsJson, Key, TaskArgument, Url, as_json_text, market

if TYPE_CHECKING:
    from gradients.client.held_out import Order

ORDERS: tuple[Order, ...] = ("gained", "lost", "file")


def rows(
    task_id: TaskArgument,
    row: Annotated[
        int | None, typer.Option(min=1, help="One row, whole, by its number; by default many, with long texts cut.")
    ] = None,
    miner: Annotated[str | None, typer.Option(help="Whose gains count, a hotkey; by default the winner's.")] = None,
    order: Annotated[
        str, typer.Option(help="gained or lost: where the miner gains or loses most comes first; file: as in the file.")
    ] = "gained",
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many at most.")] = 10,
    after: Annotated[int, typer.Option(min=0, help="How many to pass over, as the page before has said.")] = 0,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """The held-out rows of a scored task, and how base and miners did on each; what follows is told on stderr."""
    from gradients.client.models import BEST

    asked = next((each for each in ORDERS if each == order), None)
    if asked is None:
        raise typer.BadParameter(f"There is no order {order!r}; choose from {', '.join(ORDERS)}")
    with market(url, key) as client:
        if row is not None:
            one = client.row(task_id, row, miner=miner or BEST)
            page = None
        else:
            page = client.rows(task_id, miner=miner or BEST, order=asked, after=after, limit=limit)
    if as_json:
        typer.echo(as_json_text(page if page is not None else one))
    else:
        from gradients.client.render import row_text, rows_text

        typer.echo(rows_text(page) if page is not None else row_text(one))
    if page is not None and page.next is not None:
        typer.echo(f"There are more: --after {page.next}", err=True)
