"""The built book as material: its pages in their order, and a browser that prints.

Slides, the book on paper and the collection of figures are made from the pages in ``_build/html``, so that numbers of
figures, references and citations are those of the book.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml
from bs4 import BeautifulSoup, Tag
from disk import ChapterError

from chapters import ROOT, one_line

HTML = ROOT / "_build/html"
COURSE = ROOT / "_build/course"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
MATHJAX = ("tex-chtml.js", "input/tex", "output/chtml")     # of many ways to draw formulas, this one
# Of no use but on a screen, or of no use without the rest of the page.
ON_SCREEN_ONLY = ("a.headerlink, script, style, link, button, canvas, iframe, video, noscript, select, textarea, input[type=range],"
                  " input[type=checkbox], svg.sd-octicon, div.toctree-wrapper")


class Page(NamedTuple):
    """A page of the book: its name, the part that it stands in ("" for the first pages), and what it holds."""

    name: str
    part: str
    article: Tag

    @property
    def title(self) -> str:
        return self.article.h1.get_text().strip()


def contents(toc: dict) -> Iterator[tuple[str, str]]:
    """Names of all pages in their order, each with the caption of its part."""
    yield toc["root"], ""
    for part in [{"chapters": toc.get("chapters", [])}, *toc.get("parts", [])]:
        for entry in part["chapters"]:
            yield entry["file"], part.get("caption", "")


def read_page(html: Path, name: str, part: str = "") -> Page:
    """One built page, without what only a screen needs. Raises ChapterError where it was not built."""
    path = html / f"{name}.html"
    if not path.exists():
        raise ChapterError(f"the page {name} is not built: say `make book` first")
    article = BeautifulSoup(path.read_bytes(), "html.parser").select_one("article")
    if article is None or article.h1 is None:
        raise ChapterError(f"the page {name} has no article with a heading; build it anew with `make clean book`")
    for head in article.select("th > button"):      # a click on it sorts the table
        head.unwrap()
    for useless in article.select(ON_SCREEN_ONLY):
        useless.decompose()
    return Page(name, part, article)


def read_pages(html: Path, chapter: str = "") -> list[Page]:
    """Pages whose name contains ``chapter``, all if it is empty. Raises ChapterError if there is none."""
    toc = yaml.safe_load((ROOT / "book/_toc.yml").read_text(encoding="utf-8"))
    names = [(name, part) for name, part in contents(toc) if chapter in name]
    if not names:
        raise ChapterError(f"no page matches {chapter!r}; see book/_toc.yml for what there is")
    return [read_page(html, name, part) for name, part in names]


def math_scripts(static: str) -> str:
    """What draws formulas, offline: settings of the book, and MathJax in the folder ``static``."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["sphinx"]["config"]["mathjax3_config"]
    config["options"] = {"enableMenu": False, "ignoreHtmlClass": "tex2jax_ignore", "processHtmlClass": "math"}
    return f'<script>window.MathJax = {json.dumps(config)}</script>\n<script src="{static}/mathjax/tex-chtml.js"></script>'


def ship(html: Path, course: Path) -> None:
    """Put MathJax, colors of code and reveal.js where everything of the course finds them, without a network."""
    static = course / "_static"
    for part in MATHJAX:
        source, to = html / "_static/mathjax" / part, static / "mathjax" / part
        if source.is_dir():
            shutil.copytree(source, to, dirs_exist_ok=True)
        else:
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, to)
    shutil.copytree(ROOT / "book/course/reveal", static / "reveal", dirs_exist_ok=True)
    shutil.copyfile(html / "_static/pygments.css", static / "pygments.css")
    for file in (ROOT / "book/course").glob("*.css"):
        shutil.copyfile(file, static / file.name)


@contextlib.contextmanager
def browser() -> Iterator:
    """A headless Chromium: the one that is installed, or Playwright's own. Raises ChapterError where there is neither."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        raise ChapterError("printing needs Playwright: pip install playwright") from None
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as playwright:
        try:
            opened = playwright.chromium.launch(executable_path=path)
        except Error as error:
            raise ChapterError(f"printing needs Chromium; install it, or say `playwright install chromium`"
                               f" ({one_line(error)[:120]})") from None
        try:
            yield opened
        finally:
            opened.close()
