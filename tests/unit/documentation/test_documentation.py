"""What documents show is what there is: error codes, command lines, links of the site."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.documentation.codes import codes
from scripts.documentation.examples import calls_of, problem_of_call, problem_of_mention, whole_calls
from scripts.documentation.gathering import documents, gather
from scripts.documentation.reference import api, commands, settings

ROOT = Path(__file__).parents[3]
ERRORS = ROOT / "docs" / "errors.md"


def documented() -> list[str]:
    rows = re.findall(r"^\| (`[^|]+`) \|", ERRORS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [code for row in rows for code in re.findall(r"`(\w+)`", row)]


def test_troubleshooting_has_every_code_that_is_said_and_no_other() -> None:
    said, written = codes(), set(documented())
    assert sorted(said - written) == [], "docs/errors.md does not say what to do about these"
    assert sorted(written - said) == [], "docs/errors.md has codes that nothing says"


def test_a_code_has_one_place() -> None:
    written = documented()
    assert sorted({code for code in written if written.count(code) > 1}) == []


def test_codes_are_found_however_they_are_given() -> None:
    given = {
        "disk_full",  # of a class
        "ledger_newer",  # by keyword
        "no_miners",  # by position, to a dataclass
        "system_late",  # by position, to an exception
        "malformed",  # by position, to a function
        "job_deadline",  # by how a worker ended
        "weight_vec_length_is_low",  # from a table
        "StaleRequest",  # a class of the SDK
    }
    assert given <= codes()


@pytest.mark.parametrize("document", documents(), ids=lambda file: str(file.relative_to(ROOT)))
def test_command_lines_of_a_document_are_ones_that_the_command_line_takes(document: Path) -> None:
    wrong = {call: problem for call, problem in calls_of(document.read_text(encoding="utf-8")) if problem}
    assert wrong == {}


def test_a_wrong_command_line_is_found() -> None:
    assert problem_of_call("gradients task submit --hours many") != ""
    assert problem_of_call("gradients task submit --dataset rows.jsonl --ours 2") != ""
    assert problem_of_call("gradients mine run") != ""
    assert problem_of_call("gradients repo check folder") != ""  # lacks --base
    assert problem_of_mention("gradients repo check folder") == ""
    assert problem_of_mention("gradients repo check folder --bases x") != ""


def test_continued_lines_are_one_call_and_what_a_command_prints_is_none() -> None:
    text = "```\ngradients audit copy \\\n    --json   # both\nls\ngradients localnet   block 47\n```\n"
    assert whole_calls(text) == ["gradients audit copy --json"]


@pytest.mark.slow
def test_the_site_is_built_with_every_link_and_anchor_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    gather(tmp_path / ".site")
    shutil.copyfile(ROOT / "mkdocs.yml", tmp_path / "mkdocs.yml")
    run = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict"],
        cwd=tmp_path,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (run.returncode, run.stderr if run.returncode else "") == (0, "")
    pages = list((tmp_path / "site").rglob("*.html"))
    assert tmp_path / "site" / "index.html" in pages
    elsewhere = (
        r'<(?:script|img|iframe)[^>]*src="(?:https?:)?//|<link[^>]*rel="(?:stylesheet|preconnect)"[^>]*href="https?:'
    )
    loading = [page for page in pages if re.search(elsewhere, page.read_text(encoding="utf-8"))]
    assert loading == []


@pytest.mark.parametrize(
    ("page", "heading"),
    [(commands, "## gradients task submit"), (settings, "[emission]"), (api, "## POST /v1/tasks")],
)
def test_pages_of_reference_are_written_from_the_code(page: Callable[[], str], heading: str) -> None:
    assert heading in page().splitlines()
