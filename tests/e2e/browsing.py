"""A real browser for tests: visits, what makes a page one that everybody can use, and pictures of pages."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium")
SECONDS = 180.0  # for what workers and miners do on a busy machine
SIZES = {"desktop": (1100, 900), "phone": (390, 844)}
COLOURS = 64  # of a picture: pages have few
MOST_SCROLLERS = 10  # what a browser puts among the stops by itself, because it scrolls

Scheme = Literal["light", "dark"]
needs_chromium = pytest.mark.skipif(CHROMIUM is None and not os.environ.get("CI"), reason="scripts/services start")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium. While it runs there is an event loop in this thread."""
    expect.set_options(timeout=1000 * SECONDS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])  # root has none
        yield browser
        browser.close()


def visit(browser: Browser, problems: list[str], *, size: str = "desktop", scheme: Scheme = "light") -> Page:
    """A page of a browser of its own that notes what it complains of, such as a script that the policy refuses."""
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    context.set_default_timeout(1000 * SECONDS)
    page = context.new_page()
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    return page


def sign_in(page: Page, url: str, key: str) -> None:
    """By keyboard: the field for the key has the focus."""
    page.goto(f"{url}/sign-in")
    expect(page.get_by_label("API key")).to_be_focused()
    page.keyboard.type(key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def assert_everybody_can_use(page: Page, *, scheme: Scheme) -> None:
    """The page that was just loaded in `scheme` is no wider than its window, stands still, and can be read and walked by keyboard."""
    size = page.viewport_size
    other: Scheme = "light" if scheme == "dark" else "dark"
    assert size is not None
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], page.url
    assert float(page.evaluate(SHIFT)) < 0.1, page.url  # what Web Vitals calls good
    for each in (scheme, other, scheme):
        page.emulate_media(color_scheme=each)
        assert float(page.evaluate(CONTRAST)) >= 4.5, (page.url, each)  # WCAG 2.2, AA
    walk(page)


def walk(page: Page) -> None:
    """Press Tab from the page's beginning: everything that can be used gets its turn, in order, and is seen to have it."""
    page.evaluate("document.querySelector('.skip').focus()")
    stops, seen = int(page.evaluate(f"({STOPS})().length")), [0]
    for _ in range(stops + MOST_SCROLLERS):
        if seen[-1] == stops - 1:
            break
        page.keyboard.press("Tab")
        at, ring_pixels, what = page.evaluate(FOCUSED)
        if at >= 0:
            assert ring_pixels >= 2, (page.url, what)
            seen.append(at)
    assert seen == list(range(stops)), page.url


@dataclass(frozen=True)
class Pictures:
    """Where pictures of pages go."""

    folder: Path
    are_kept: bool

    def take(self, page: Page, name: str, *, scheme: Scheme = "light", at: str = "body") -> None:
        """What a browser's window shows of a page that is scrolled to an element; a small file."""
        page.emulate_media(color_scheme=scheme)
        page.locator(at).first.evaluate("element => element.scrollIntoView()")
        with Image.open(io.BytesIO(page.screenshot(animations="disabled"))) as image:
            image.convert("RGB").quantize(COLOURS).save(self.folder / f"{name}.png", optimize=True)
        page.emulate_media(color_scheme="light")


STOPS = """() => [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, [tabindex='0']")]
  .filter((element) => !element.disabled && element.checkVisibility({ visibilityProperty: true }))"""
FOCUSED = f"""() => {{
  const element = document.activeElement, style = getComputedStyle(element);
  const ring = style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth);
  return [({STOPS})().indexOf(element), ring, element.outerHTML.slice(0, 200)];
}}"""
SHIFT = """() => new Promise((resolve) => {
  let moved = 0;
  new PerformanceObserver((list) => list.getEntries().forEach((entry) => { moved += entry.hadRecentInput ? 0 : entry.value; }))
    .observe({ type: "layout-shift", buffered: true });
  const soon = () => setTimeout(() => resolve(moved), 500);
  if (document.querySelector("[hx-trigger='every 2s']")) document.addEventListener("htmx:afterSettle", soon, { once: true });
  else soon();
})"""
CONTRAST = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => numbers(colour).slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const back = getComputedStyle(each).backgroundColor;
      if ((numbers(back)[3] ?? 1) > 0) return back;
    }
    return "rgb(255, 255, 255)";
  };
  let lowest = 21;
  for (const element of document.querySelectorAll("main *, header *, footer *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest(".u-legend, progress, .htmx-indicator")) continue;
    const [a, b] = [light(getComputedStyle(element).color), light(behind(element))].sort((x, y) => y - x);
    lowest = Math.min(lowest, (a + 0.05) / (b + 0.05));
  }
  return lowest;
}"""
