"""Pictures of a simulated market: who is paid day by day, and for what skill. PNG by Pillow (extra `image`)."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from gradients.simulator.figures import WARM_UP_DAYS
from gradients.simulator.report import Report

WIDTH, HEIGHT, MARGIN = 900, 520, 60
INK, FAINT, PAPER = (40, 40, 40), (215, 215, 215), (255, 255, 255)

Colour = tuple[int, int, int]
Curve = Sequence[tuple[float, float]]


def draw_plots(report: Report, folder: Path) -> list[Path]:
    """Writes two pictures into the folder, which is made; the files' paths."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{report.said['market']}-v{report.said['rules']}"
    drawn = {"days": pay_by_day(report), "skill": pay_by_skill(report)}
    for name, picture in drawn.items():
        picture.save(folder / f"{stem}-{name}.png")
    return [folder / f"{stem}-{name}.png" for name in drawn]


def pay_by_day(report: Report) -> Image.Image:
    """A curve for each group's share of pay, mean over seeds; of the honest also the best one's own."""
    mean = np.mean(report.weights, axis=0)
    groups = [miner.group for miner in report.market.miners]
    curves = {
        name: mean[:, [i for i, g in enumerate(groups) if g == name]].sum(axis=1) for name in dict.fromkeys(groups)
    }
    best = max(range(len(groups)), key=lambda i: (groups[i] == "honest", report.market.miners[i].skill))
    curves["best honest one"] = mean[:, best]
    chart = Chart("share of pay by day", x=(0, len(mean)), y=(0, 1.05 * max(float(c.max()) for c in curves.values())))
    for colour, (name, values) in zip(colours(len(curves)), curves.items(), strict=True):
        chart.curve([(day + 1, float(value)) for day, value in enumerate(values)], colour, f"{name} {values[-1]:.1%}")
    return chart.picture


def pay_by_skill(report: Report) -> Image.Image:
    """A dot for each hotkey that has a skill: its share after the warm-up, mean over seeds."""
    days = len(report.weights[0])
    mean = np.mean(report.weights, axis=0)[min(WARM_UP_DAYS, days // 2) :].mean(axis=0)
    groups = list(dict.fromkeys(miner.group for miner in report.market.miners))
    chart = Chart("share of pay by skill", x=(0, 1.1), y=(0, 1.05 * float(mean.max())))
    for colour, group in zip(colours(len(groups)), groups, strict=True):
        dots = [(m.skill, float(mean[i])) for i, m in enumerate(report.market.miners) if m.group == group]
        chart.dots([dot for dot in dots if dot[0] <= 1.1], colour, group)
    return chart.picture


class Chart:
    """Axes with five lines each, and a legend on the right."""

    def __init__(self, title: str, *, x: tuple[float, float], y: tuple[float, float], form: str = ".1%") -> None:
        """Args:
        form: of the numbers beside the upright axis.
        """
        self.picture = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
        self._pen = ImageDraw.Draw(self.picture)
        self._x, self._y, self._named = x, y, 0
        self._pen.text((MARGIN, 20), title, fill=INK)
        for k in range(6):
            across, up = x[0] + (x[1] - x[0]) * k / 5, y[0] + (y[1] - y[0]) * k / 5
            self._pen.line([self._at(x[0], up), self._at(x[1], up)], fill=FAINT)
            self._pen.text((8, self._at(x[0], up)[1] - 6), f"{up:{form}}", fill=INK)
            self._pen.text((self._at(across, y[0])[0] - 8, HEIGHT - MARGIN + 8), f"{across:.3g}", fill=INK)

    def curve(self, points: Curve, colour: Colour, name: str) -> None:
        """A line through points, and its name."""
        self._pen.line([self._at(*point) for point in points], fill=colour, width=3)
        self._name(colour, name)

    def dots(self, points: Curve, colour: Colour, name: str) -> None:
        """Points by themselves, and their name."""
        for across, up in (self._at(*point) for point in points):
            self._pen.ellipse([across - 4, up - 4, across + 4, up + 4], fill=colour)
        self._name(colour, name)

    def _at(self, x: float, y: float) -> tuple[float, float]:
        right, bottom = WIDTH - 3 * MARGIN, HEIGHT - MARGIN
        across = (x - self._x[0]) / (self._x[1] - self._x[0])
        up = (y - self._y[0]) / max(self._y[1] - self._y[0], 1e-12)
        return MARGIN + across * (right - MARGIN), bottom - up * (bottom - MARGIN)

    def _name(self, colour: Colour, name: str) -> None:
        left, top = WIDTH - 3 * MARGIN + 10, MARGIN + 20 * self._named
        self._pen.rectangle([left, top, left + 12, top + 12], fill=colour)
        self._pen.text((left + 18, top), name, fill=INK)
        self._named += 1


def colours(count: int) -> list[Colour]:
    """So many that can be told from one another."""
    found = [colorsys.hsv_to_rgb(i / count, 0.75, 0.8) for i in range(count)]
    return [(int(255 * r), int(255 * g), int(255 * b)) for r, g, b in found]
