"""The page of one job in a real Chromium; ``FLEET_PICTURES=docs/pictures`` keeps its looks."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fleet_cli.dashboard.serve import serving
from fleet_cli.exits import Fault
from fleet_cli.oncall.views import Overview
from helpers.chromium import Browser, browsing
from helpers.overviews import NASTY, page

WIDTH, HEIGHT = 1400, 900
READY = "document.querySelectorAll('#robot-rows tr').length > 0"
POINTS = "document.querySelectorAll('#curve .promoted, #curve .rolledback, #curve .other').length"
SPILT = """[...document.querySelectorAll("section")]
  .filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.innerText)"""
FOCUSED = "document.activeElement.id || document.activeElement.className"


class Source:
    """What the cluster says now."""

    def __init__(self) -> None:
        self.shown: Overview | None = page()

    async def look(self) -> Overview:
        if self.shown is None:
            raise Fault("the API server does not answer")
        return self.shown


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
async def browser(source: Source, tmp_path: Path) -> AsyncIterator[Browser]:
    async with (
        serving(source.look) as url,
        browsing(tmp_path, url, WIDTH, HEIGHT) as opened,
    ):
        await opened.until(READY)
        yield opened


async def text(browser: Browser, id_: str) -> str:
    return str(await browser.tell(f"document.getElementById('{id_}').innerText"))


async def keep(browser: Browser, name: str, tmp_path: Path) -> None:
    folder = Path(os.environ.get("FLEET_PICTURES") or tmp_path)
    await browser.picture(folder / f"{name}.png")
    assert (folder / f"{name}.png").stat().st_size > 20_000


async def test_one_screen_shows_all_of_it(browser: Browser, tmp_path: Path) -> None:
    assert "▶ 2 robots, 20 episodes (now)" in await text(browser, "stages")
    assert "12 (candidate)" in await text(browser, "cohorts")
    assert "69 to 99 %" in await text(browser, "cohorts")
    assert "2 in trouble" in await text(browser, "counts")
    assert "version 12: 93 % of 14" in await text(browser, "curve-says")
    assert await browser.tell(POINTS) == 9
    assert await browser.tell("document.querySelectorAll('#curve .rolledback').length") == 1
    assert "96 MB" in await text(browser, "moved")
    assert "within 2.5 s" in await text(browser, "latency")
    assert await browser.tell("document.documentElement.scrollHeight") <= HEIGHT
    assert await browser.tell("document.documentElement.scrollWidth") <= WIDTH
    assert await browser.tell(SPILT) == []
    await keep(browser, "dashboard", tmp_path)
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    await browser.ask("Emulation.setEmulatedMedia", features=dark)
    await keep(browser, "dashboard-dark", tmp_path)
    # As somebody sees it who tells no colours apart at all.
    await browser.ask("Emulation.setEmulatedMedia", features=[])
    await browser.ask("Emulation.setEmulatedVisionDeficiency", type="achromatopsia")
    await keep(browser, "dashboard-grey", tmp_path)
    assert browser.said == []


async def test_words_of_the_cluster_are_never_markup(browser: Browser) -> None:
    assert NASTY in await text(browser, "robot-rows")
    assert await browser.tell("document.querySelectorAll('main img').length") == 0
    assert browser.said == []


async def test_it_is_live_and_says_when_it_is_not(browser: Browser, source: Source) -> None:
    source.shown = page(phase="Stalled")
    await browser.until("document.title === 'staged: Stalled'")
    source.shown = None
    await browser.until("!document.getElementById('stale').hidden")
    assert "the API server does not answer" in await text(browser, "stale")
    assert "⚠ Stalled" in await text(browser, "phase")  # what was seen last stays
    source.shown = page()
    await browser.until("document.getElementById('stale').hidden")


async def test_a_keyboard_reaches_everything(browser: Browser) -> None:
    reached = []
    for _ in range(3):
        await browser.press("Tab")
        reached.append(await browser.tell(FOCUSED))
    assert reached == ["skip", "filter", "robots"]
    await browser.tell("document.getElementById('filter').focus()")
    await browser.ask("Input.insertText", text="cell-")
    await browser.until("document.getElementById('robot-rows').children.length === 2")


@pytest.mark.parametrize("width", [360, 800])
async def test_a_narrow_screen_scrolls_one_way_only(
    source: Source, tmp_path: Path, width: int
) -> None:
    async with serving(source.look) as url, browsing(tmp_path, url, width, 800) as browser:
        await browser.until(READY)
        assert await browser.tell("document.documentElement.scrollWidth") <= width


CONTRAST = """
(() => {
  const rgb = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const light = (text) => {
    const [r, g, b] = rgb(text).map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const back = light(getComputedStyle(document.body).backgroundColor);
  const found = [...document.querySelectorAll("main *, header *")]
    .filter((one) => one.childNodes.length && !one.closest("svg"))
    .map((one) => light(getComputedStyle(one).color));
  const apart = (one) => (Math.max(one, back) + 0.05) / (Math.min(one, back) + 0.05);
  return Math.min(...found.map(apart));
})()
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_word_stands_out(browser: Browser, scheme: str) -> None:
    feature = [{"name": "prefers-color-scheme", "value": scheme}]
    await browser.ask("Emulation.setEmulatedMedia", features=feature)
    assert await browser.tell(CONTRAST) >= 4.5  # WCAG 2.2, AA
