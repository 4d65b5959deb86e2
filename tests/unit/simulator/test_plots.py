"""Pictures of a run."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from gradients.scoring.rules import rules_of
from gradients.simulator.plots import draw_plots
from gradients.simulator.report import Plan, simulate


def test_two_pictures_are_drawn_that_show_something(tmp_path: Path) -> None:
    paths = draw_plots(simulate(Plan("idle", rules_of(1), days=3, pool=15)), tmp_path / "new")
    assert [path.name for path in paths] == ["idle-v1-days.png", "idle-v1-skill.png"]
    for path in paths:
        with Image.open(path) as picture:
            colours = picture.getcolors(1 << 16)
        assert colours is not None
        assert len(colours) > 4
