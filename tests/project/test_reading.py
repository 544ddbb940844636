"""Pages as one reads them, in a real browser: no code has to be pushed sideways, on a wide screen or on a telephone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import CHROMIUM, QUIET, built_alone, in_a_browser

CHAPTERS = ("40_cdlm", "72_algorithm", "80_plan_and_queue")  # theory with long solutions, an engine, commands
WIDE, NARROW = 1400, 390  # pixels
# Everything that is folded is opened first: what a reader never opens is as wide as the rest.
CODE_THAT_SCROLLS = """() => {
    for (const details of document.querySelectorAll('details')) details.open = true;
    for (const folded of document.querySelectorAll('.toggle-hidden')) folded.classList.remove('toggle-hidden');
    const blocks = [...document.querySelectorAll('.cell_input pre')];
    return {
        hidden: blocks.filter(block => block.clientWidth === 0).length, count: blocks.length,
        scroll: blocks.filter(block => block.scrollWidth > block.clientWidth).map(block => block.textContent.slice(0, 100)),
        page: document.documentElement.scrollWidth,
        beside: [...document.querySelectorAll('.bd-sidebar-primary, .bd-sidebar-secondary')].filter(bar => bar.checkVisibility()
            && bar.getBoundingClientRect().left >= 0 && bar.getBoundingClientRect().right <= window.innerWidth).length,
    };
}"""

pytestmark = in_a_browser


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some chapters as a book of their own, in the book's dress; links to the other chapters lead nowhere."""
    return built_alone(tmp_path_factory.mktemp("pages") / "a book", *(f"{name}.ipynb" for name in CHAPTERS))


@pytest.fixture(scope="module")
def browser() -> Iterator:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield opened
        opened.close()


def look(browser, page: Path, width: int) -> dict:
    view = browser.new_page(viewport={"width": width, "height": 1000})
    view.goto(page.as_uri(), wait_until="domcontentloaded")
    view.wait_for_load_state("load")
    seen = view.evaluate(CODE_THAT_SCROLLS)
    view.close()
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_code_does_not_scroll_sideways(chapter: str, width: int, html: Path, browser) -> None:
    seen = look(browser, html / f"{chapter}.html", width)
    assert seen["count"] > 10 and seen["hidden"] == 0
    assert seen["scroll"] == []
    assert seen["page"] == width
    assert width == NARROW or seen["beside"] == 2, "measured with both sidebars open"


@pytest.mark.slow
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_code_that_is_too_wide_is_seen(width: int, html: Path, browser) -> None:
    """With 102 characters in a line every cell of the wide page scrolls; the narrow one folds whatever there is."""
    page = html / f"{CHAPTERS[0]}.html"
    content = page.read_text(encoding="utf-8")
    wider = html / f"wider_{width}.html"
    wider.write_text(content.replace("<pre>", f"<pre>{'x' * 102}\n"), encoding="utf-8")
    seen = look(browser, wider, width)
    assert len(seen["scroll"]) == (seen["count"] if width == WIDE else 0)
