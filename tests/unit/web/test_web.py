"""What pages are made of: text that is never markup, numbers as people read them, curves within a bound."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from gradients.web.curves import MOST_POINTS, Curve, chart
from gradients.web.site import HERE, Site, bytes_text, short, time_text


def site(folder: Path, template: str) -> Site:
    (folder / "page.html").write_text(template)
    return Site.of(folder, name="Test", links=[("/", "Here")])


@pytest.mark.parametrize(
    "where", ["{{ word }}", '<a title="{{ word }}">', "{{ word|short }}", "{% set x = word %}{{ x }}"]
)
def test_whatever_is_printed_is_text(tmp_path: Path, where: str) -> None:
    word = "<b>'\"\x1b\u202e&"
    shown = bytes(site(tmp_path, where).page("page.html", word=word).body).decode()
    assert not {"<b>", "\x1b", "\u202e"} & {part for part in ("<b>", "\x1b", "\u202e") if part in shown}
    assert "&lt;b&gt;&#39;&#34;\\x1b\\u202e&amp;" in shown


def test_a_name_that_a_page_lacks_is_an_error_and_not_an_empty_place(tmp_path: Path) -> None:
    with pytest.raises(UndefinedError):
        site(tmp_path, "{{ nobody }}").page("page.html")


def test_every_file_of_others_has_its_licence_beside_it() -> None:
    files = {file.name for file in (HERE / "static").iterdir()}
    others = files - {"site.css", "site.js", "icon.svg"}
    assert {name.partition(".")[0] for name in others} == {"htmx", "uPlot"}
    assert {"htmx.LICENSE", "uPlot.LICENSE"} <= files


def test_numbers_are_shown_in_the_unit_that_suits_them() -> None:
    assert [bytes_text(n) for n in (0, 1023, 1024, 1024**3 * 2.5, 1024**5)] == [
        "0 bytes",
        "1,023 bytes",
        "1.0 KiB",
        "2.5 GiB",
        "1,024.0 TiB",
    ]
    assert time_text(0.0) == "1970-01-01 00:00 UTC"
    assert short("5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY") == "5Grwva…utQY"


@given(st.lists(st.floats(allow_nan=True), max_size=1200))
def test_a_curve_keeps_its_last_point_and_a_bounded_number_in_order(losses: list[float]) -> None:
    curve = Curve()
    for step, loss in enumerate(losses):
        curve.add(step, loss)
    finite = [(step, loss) for step, loss in enumerate(losses) if math.isfinite(loss)]
    assert len(curve.points) <= MOST_POINTS
    assert curve.points == sorted(set(curve.points) & set(finite))
    assert curve.points[-1:] == finite[-1:]


def test_a_training_that_begins_anew_has_a_new_curve() -> None:
    curve = Curve()
    for step, loss in [(5, 3.0), (6, 2.0), (6, 9.0), (1, 3.5), (2, 3.0)]:
        curve.add(step, loss)
    assert curve.points == [(1, 3.5), (2, 3.0)]


def test_a_chart_holds_every_step_and_gaps_where_a_curve_has_none() -> None:
    drawn = chart({"a": [(1, 2.0), (3, 1.0)], "b": [(2, 5.0)]})
    assert drawn == {
        "x": [1, 2, 3],
        "series": [{"name": "a", "values": [2.0, None, 1.0]}, {"name": "b", "values": [None, 5.0, None]}],
    }
