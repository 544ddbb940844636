"""Pages for everybody: axe-core finds nothing on a sample of pages, formulas can be read aloud, and keys reach what is pushed.

All pages are looked at in test_book.py, which builds them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import CHROMIUM, QUIET, barriers, built_alone, in_a_browser

# Between them: sliders, a quiz, formulas, theorems, folded solutions, a sheet to draw on, tables of results, a table of symbols.
SAMPLE = ["cheatsheet.md", "51_moments.ipynb", "79_results.ipynb", "draw.md", "notation.md"]

pytestmark = [*in_a_browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_alone(tmp_path_factory.mktemp("accessible") / "a book", *SAMPLE)


@pytest.fixture(scope="module")
def tab() -> Iterator:
    sync = pytest.importorskip("playwright.sync_api")
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(180_000)       # on a busy machine, too
        yield page
        browser.close()


@pytest.mark.parametrize("file", SAMPLE)
def test_axe_finds_no_barrier(file: str, html: Path, tab) -> None:
    tab.goto((html / Path(file).with_suffix(".html").name).as_uri())
    assert barriers(tab) == []


def test_barriers_are_found(tab) -> None:
    """Each in the colors in which it is one."""
    tab.set_content("""<!DOCTYPE html><html lang="en"><head><title>A</title><style>p { color: #777; background: #fff }
        html[data-theme="dark"] p { background: #333 }</style></head>
        <body><main><h1>A</h1><img src="x.png"><p>gray</p><input></main></body></html>""")
    found = barriers(tab)
    assert {line.partition(": ")[2].partition(":")[0] for line in found if line.startswith("light")} == {
        "color-contrast", "image-alt", "label"}
    assert [line for line in found if line.startswith("dark: color-contrast")]


def test_formulas_can_be_read_aloud(html: Path, tab) -> None:
    """Each has a twin in MathML, which screen readers read, and what is drawn is hidden from them."""
    tab.goto((html / "51_moments.html").as_uri())
    tab.evaluate("MathJax.startup.promise")
    read = tab.evaluate("""[...document.querySelectorAll('article mjx-container')].map(formula => ({
        drawn: formula.querySelector(':scope > mjx-math')?.getAttribute('aria-hidden'),
        twin: formula.querySelector(':scope > mjx-assistive-mml > math')?.textContent.trim() ?? ''}))""")
    assert len(read) > 100
    assert [formula for formula in read if formula["drawn"] != "true" or not formula["twin"]] == []
    assert any("γ" in formula["twin"] and "σ" in formula["twin"] for formula in read)
    # Said by a browser, as an assistive technology hears it.
    assert "- math: " in tab.locator("article p:has(mjx-container)").first.aria_snapshot()


PUSHED = """() => [...document.querySelectorAll('article *')].filter(part =>
    ['auto', 'scroll'].includes(getComputedStyle(part).overflowX) && part.scrollWidth > part.clientWidth + 1
    && part.clientWidth > 0 && part.checkVisibility())
    .filter(part => part.tabIndex < 0 && !part.querySelector('a[href], button, input, select, textarea, [tabindex="0"]'))
    .map(part => `${part.localName}.${part.className}: ${part.textContent.trim().slice(0, 60)}`)"""


@pytest.mark.parametrize("file", SAMPLE)
def test_what_is_pushed_on_a_telephone_is_reached_by_keys(file: str, html: Path, tab) -> None:
    tab.set_viewport_size({"width": 390, "height": 844})
    try:
        tab.goto((html / Path(file).with_suffix(".html").name).as_uri())
        tab.evaluate("window.MathJax?.startup?.promise")
        tab.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true; })")
        tab.wait_for_timeout(1000)          # scripts wait until a page has come to rest
        assert tab.evaluate(PUSHED) == []
    finally:
        tab.set_viewport_size({"width": 1400, "height": 900})
