"""Held-out rows: bound before the start, drawn by the salt, and, where the source can be read, split as the rules of splitting say."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from pydantic import JsonValue

from gradients.audit.report import Checks
from gradients.datasets.access import Access
from gradients.datasets.normal_texts import normalised, plain
from gradients.datasets.rows import Row
from gradients.datasets.sources import FileSource, parts_of
from gradients.datasets.splits import lot
from gradients.domain.seeds import seed
from gradients.errors import CustomerError, GradientsError
from gradients.files.strict_json import strict_json
from gradients.record.models import TaskBody
from gradients.record.reading import RecordSource, RecordUnreadable
from gradients.record.terms import task_in
from gradients.tasks.base import TaskType
from gradients.tasks.preparation import held_out_commitment, prepare
from gradients.tasks.registry import task_type


def check_opening(body: TaskBody, checks: Checks) -> None:
    """What salt and seeds say, without a row."""
    private = body.request.private
    for name, value in (("salt", body.salt), ("metric_seed", body.metric_seed)):
        checks.holds(f"body.{name}", (value is None) == private, value, "withheld of private tasks, and of no others")
    checks.holds(
        "body.request.dataset", (body.request.dataset is None) == private, None, "withheld of private tasks only"
    )
    checks.holds(
        "body.data.made_up_rows",
        0 <= body.data.made_up_rows <= body.data.held_out_rows,
        body.data.made_up_rows,
        f"0 to {body.data.held_out_rows}",
    )
    if private != (body.salt is None):
        checks.alarm("body.request.private", private, not private)
    if body.salt is None:
        checks.note("the task is private: its split, seeds and models are withheld")
        return
    salt = bytes.fromhex(body.salt)
    bound = held_out_commitment(salt, body.data.held_out.sha256, task_in(body).request)
    if bound != body.data.held_out_commitment:
        for field in ("data.held_out_commitment", "data.held_out.sha256", "salt", "request"):
            checks.alarm(f"body.{field}", body.data.held_out_commitment, f"{bound}: what was told before does not open")
    checks.equal("body.metric_seed", body.metric_seed, seed(salt, "measure", body.blocks.deadline_hash))
    if body.draw is not None:
        checks.equal("body.draw.seed", body.draw.get("seed"), seed(salt, "draw"))
    for place, entrant in enumerate(body.entrants[1:], start=1):
        checks.equal(f"body.entrants.{place}.start_seed", entrant.start_seed, seed(salt, "start", entrant.entrant))


def check_rows(body: TaskBody, source: RecordSource, checks: Checks) -> None:
    """The rows themselves: digests, sizes, counts, and whether the salt draws the held-out ones."""
    if body.salt is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        read: dict[str, Sequence[Row]] = {}
        for name, blob in (("train", body.data.train), ("held_out", body.data.held_out)):
            try:
                content = source.blob(blob.sha256, Path(folder)).read_bytes()
                rows = [cast(Row, strict_json(line)) for line in content.splitlines()]
            except (RecordUnreadable, ValueError) as error:
                checks.alarm(f"body.data.{name}.sha256", blob.sha256, f"its rows cannot be had: {error}")
                return
            checks.equal(f"body.data.{name}.size_bytes", blob.size_bytes, len(content))
            read[name] = rows
    checks.equal("body.data.train_rows", body.data.train_rows, len(read["train"]))
    checks.equal("body.data.held_out_rows", body.data.held_out_rows, len(read["held_out"]))
    kind = task_type(body.request.type)
    drawn = read["held_out"][: max(len(read["held_out"]) - body.data.made_up_rows, 0)]
    if drawn and read["train"]:
        check_lots(kind, read["train"], drawn, bytes.fromhex(body.salt), checks)


def check_source(body: TaskBody, checks: Checks, *, access: Access) -> None:
    """Prepare the task once more from the source that it names, as its validator did."""
    if body.salt is None:
        return
    dataset = body.request.dataset or {}
    try:
        files = [source.path for source in parts_of(cast(JsonValue, dataset)) if isinstance(source, FileSource)]
        if not all(file.exists() for file in files):
            checks.note("its data set is a file that is not on this machine: the split was checked by its rows alone")
            return
        with tempfile.TemporaryDirectory() as folder:
            made = prepare(
                task_type(body.request.type),
                task_in(body).request,
                salt=bytes.fromhex(body.salt),
                folder=Path(folder),
                access=access,
            )
    except CustomerError as error:
        checks.alarm("body.request", cast(dict[str, str], dataset), f"no task can be made of it: {error}")
        return
    except GradientsError as error:
        checks.note(f"its data set cannot be read here: {error}")
        return
    checks.equal("body.data.train.sha256", body.data.train.sha256, made.train.sha256)
    if body.data.made_up_rows == 0:
        checks.equal("body.data.held_out.sha256", body.data.held_out.sha256, made.held_out.sha256)
    checks.equal("body.data.train_rows", body.data.train_rows, made.train_rows)
    checks.equal("body.data.made_up_rows", body.data.made_up_rows, body.data.held_out_rows - made.held_out_rows)


def check_lots(kind: TaskType, train: Sequence[Row], held_out: Sequence[Row], salt: bytes, checks: Checks) -> None:
    """Whether every held-out row has a smaller lot than every train row: whoever chose rows by hand put one in that has not.

    Rows that belong together are drawn by their group's lot, unless the group is larger than what is held out; where a group's size is
    not certain, since rows were removed, its rows are left out.
    """
    rows = [*held_out, *train]
    whole = [plain(kind.text(row)) for row in rows]
    names = [normalised(kind.group(row)) if kind.group else text for row, text in zip(rows, whole, strict=True)]
    sizes = Counter(names)
    most = len(held_out)
    lots = [lot(salt, name if sizes[name] <= most else text) for name, text in zip(names, whole, strict=True)]
    certain = [2 * sizes[name] <= most or sizes[name] > 2 * most or kind.group is None for name in names]
    kept = [one for one, sure in zip(lots[:most], certain[:most], strict=True) if sure]
    other = [one for one, sure in zip(lots[most:], certain[most:], strict=True) if sure]
    wrong = sum(one > min(other) for one in kept) if kept and other else 0
    checks.holds("body.data.held_out.sha256", wrong == 0, wrong, "held-out rows that the salt does not draw")
