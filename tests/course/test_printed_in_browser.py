"""Slides, the book on paper and the figures in the browser that shows and prints them: nothing cut, no link dead, no network."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import figure_pack
import paper
import pytest
import slides
import webpages
from bs4 import BeautifulSoup
from conftest import ROOT, copy_of_repository
from pages import built_alone, in_a_browser
from pypdf import PdfReader
from pypdf.generic import Destination, DictionaryObject, IndirectObject

pytestmark = [*in_a_browser, pytest.mark.slow]
NAME = "35_adversary"


def leads_elsewhere(fault: str) -> bool:
    """Whether a fault is a link to what stands in another chapter, which is not built here."""
    text, target = (ROOT / f"book/src/{NAME}.md").read_text(encoding="utf-8"), fault.removeprefix(f"leads nowhere: {NAME}--")
    return target != fault and f"({target})=" not in text and f":label: {target}\n" not in text


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slides, figures and a PDF of one chapter, and the cheat sheet."""
    root = tmp_path_factory.mktemp("course")
    html, course = built_alone(root / "book", f"{NAME}.ipynb", "cheatsheet.md"), root / "made"
    slides.make(NAME, html, course)
    figure_pack.make(NAME, html, course)
    assert [fault for fault in paper.make(NAME, html, course)[1] if not leads_elsewhere(fault)] == []
    paper.sheet(html, course)
    return course


# How far the content of a slide reaches, with all that comes by further keys; a slide has 1280 by 720 pixels.
REACH = """() => {
    const body = Reveal.getCurrentSlide().querySelector('.body');
    const inside = part => part.getBoundingClientRect().right <= Reveal.getCurrentSlide().getBoundingClientRect().right + 1;
    return {bottom: body.offsetTop + body.scrollHeight, size: parseFloat(body.style.fontSize || '100'),
            wide: [...body.querySelectorAll('p, pre, table, img, mjx-container')].filter(part => !inside(part)).length,
            drawn: body.querySelectorAll('mjx-container').length, formulas: body.querySelectorAll('.math').length};
}"""


def on_screen(page: Path) -> tuple[list[dict], list[str]]:
    """What each slide looks like, and which addresses beside files were asked for or failed."""
    asked: list[str] = []
    with webpages.browser() as opened:
        tab = opened.new_page(viewport={"width": 1280, "height": 720})
        tab.on("request", lambda request: asked.append(request.url) if not request.url.startswith(("file:", "data:")) else None)
        tab.on("requestfailed", lambda request: asked.append(request.url))
        tab.goto(page.as_uri())
        tab.wait_for_selector("html[data-ready=yes]", timeout=180_000)
        seen = []
        for number in range(tab.evaluate("Reveal.getTotalSlides()")):
            tab.evaluate("number => Reveal.slide(number)", number)
            seen.append(tab.evaluate(REACH))
    return seen, asked


def targets(reader: PdfReader) -> tuple[int, list[str]]:
    """How many links within a PDF there are, and those that lead nowhere."""
    count, dead, pages = 0, [], {page.indirect_reference.idnum for page in reader.pages}
    for page in reader.pages:
        for link in (entry.get_object() for entry in page.get("/Annots", [])):
            if not str(link.get("/A", {}).get("/URI", "")).startswith(("http:", "https:", "mailto:")):
                count += 1
                dead += [link] if "/Dest" not in link or link["/Dest"][0].idnum not in pages else []
    return count, dead


def tags(element: DictionaryObject) -> Iterator[str]:
    """What a tree of tags calls its elements."""
    if "/S" in element:
        yield element["/S"]
    below = element.get("/K", [])
    for part in below if isinstance(below, list) else [below]:
        if isinstance(part := part.get_object(), DictionaryObject):
            yield from tags(part)


def on_pages(element: DictionaryObject) -> list[IndirectObject]:
    """The pages on which an element of a tree of tags begins and goes on."""
    parts = element["/K"] if isinstance(element["/K"], list) else [element["/K"]]
    return [part.raw_get("/Pg") for part in (element, *parts) if isinstance(part, DictionaryObject) and "/Pg" in part]


def bookmarks(outline: list, level: int = 1) -> list[tuple[int, str]]:
    """Level and title of each bookmark."""
    found = []
    for entry in outline:
        found += [(level, str(entry.title))] if isinstance(entry, Destination) else bookmarks(entry, level + 1)
    return found


def test_slides_show_all_they_have_and_ask_no_network(made: Path) -> None:
    seen, asked = on_screen(made / f"slides/{NAME}.html")
    assert asked == [] and len(seen) > 15
    assert [(number, slide) for number, slide in enumerate(seen) if slide["bottom"] > 702 or slide["wide"]] == []
    assert min(slide["size"] for slide in seen) >= 55, "not smaller than what can be read"
    assert all(slide["drawn"] >= slide["formulas"] for slide in seen) and sum(slide["formulas"] for slide in seen) > 10


def test_the_pdf_has_bookmarks_and_links_that_lead_somewhere(made: Path) -> None:
    reader = PdfReader(made / "book.pdf")
    assert 12 <= len(reader.pages) <= 40
    found = bookmarks(reader.outline)
    assert any("An adversary" in title for _, title in found)
    assert sum("Exercises" in title for _, title in found) == 1 and found[-1][1] != "Contents"
    count, dead = targets(reader)
    assert count > 30 and dead == []
    tree = reader.root_object["/StructTreeRoot"]
    numbers = tree["/ParentTree"]["/Nums"]
    assert numbers[::2] == list(range(tree["/ParentTreeNextKey"])) and {"/H1", "/H3", "/Figure", "/TD"} <= set(tags(tree))
    for page in reader.pages:
        marked = numbers[2 * page["/StructParents"] + 1].get_object()
        assert all(page.indirect_reference in on_pages(element.get_object()) for element in marked)
    text = " ".join(page.extract_text() for page in reader.pages)
    assert paper.UNKNOWN not in reader.pages[1].extract_text() and "Solution to Exercise" in text


def test_the_sheet_is_one_page_of_paper(made: Path) -> None:
    page, = PdfReader(made / "cheatsheet.pdf").pages
    width, height = (float(side) / 72 * 25.4 for side in page.mediabox[2:])
    assert abs(width - 210) < 1 and abs(height - 297) < 1
    text = page.extract_text()
    assert all(word in text for word in ("Four codes", "Five losses", "Who is reached", "Defaults"))


def test_every_figure_is_a_file_and_a_page(made: Path) -> None:
    index = BeautifulSoup((made / "figures/index.html").read_bytes(), "html.parser")
    figures = index.select("figure")
    assert len(figures) >= 4
    for figure in figures:
        assert figure.img["alt"] and (made / "figures" / figure.img["src"]).exists()
        page, = PdfReader(made / f"figures/{figure['id']}.pdf").pages
        assert float(page.mediabox.width) > 100 and page["/Resources"]


@pytest.mark.everything
def test_make_course_makes_all_of_it(tmp_path: Path) -> None:
    """In a copy of the repository, by the commands that a teacher types, with what is installed here."""
    copy, stamps = copy_of_repository(tmp_path / "a course"), (".made", ".book", ".all")
    installed = [f"VENV={sys.prefix}", *(f"--assume-old={sys.prefix}/{stamp}" for stamp in stamps)]
    run = subprocess.run(["make", "course", *installed], cwd=copy, capture_output=True, text=True, timeout=7200)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    assert "wider than the column" not in run.stderr and "leads nowhere" not in run.stderr
    course = copy / "_build/course"
    texts = {path.stem for path in (ROOT / "book/src").glob("*.md")}
    assert {path.stem for path in (course / "slides").glob("*.html")} == texts | {"index"}
    assert len(list((course / "student").glob("*.ipynb"))) >= 6
    figures = BeautifulSoup((course / "figures/index.html").read_bytes(), "html.parser").select("figure")
    assert len(figures) > 150 and all((course / f"figures/{figure['id']}.pdf").exists() for figure in figures)
    assert all(figure.img["alt"] for figure in figures if not re.fullmatch(r"[a-z_]+", figure["id"]))
    reader = PdfReader(course / "book.pdf")
    found = bookmarks(reader.outline)
    assert 400 < len(reader.pages) < 2000 and len(found) > 400
    count, dead = targets(reader)
    assert count > 2000 and dead == []
    assert len(PdfReader(course / "cheatsheet.pdf").pages) == 1
