"""The whole book as one PDF, and the cheat sheet as another: ``python book/tools/paper.py``, into _build/course.

The pages of the built book are joined into one, in their order, and printed by Chromium, with bookmarks. Names within a page
get the page's name before them, so that links from page to page become links within the file. Solutions, and answers of
self-checks, stand in a part of their own at the end, with links to and fro; code that is folded on the pages is left out.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from html import escape
from pathlib import Path

from program import finish

# isort: split
import yaml
from bs4 import BeautifulSoup, Tag
from disk import write_atomically
from pypdf import PdfReader
from webpages import COURSE, HTML, Page, browser, math_scripts, read_page, read_pages, ship

from chapters import ROOT

SHEET = "cheatsheet"
SOLUTIONS = "Solutions and answers"
UNKNOWN = "000"     # in place of a page number until the book has been printed once
FRAME = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<link rel="stylesheet" href="_static/pygments.css">
<link rel="stylesheet" href="_static/paper.css">
{math}
</head>
<body class="tex2jax_ignore {kind}">
{body}
</body>
</html>
"""
# Formulas and tables that are wider than the column are made smaller; what still is too wide is named.
FIT = """async () => {
  await MathJax.startup.promise;
  const column = document.body.getBoundingClientRect();
  const shrink = (part, share) => { part.style.fontSize = Math.floor(100 * share) + '%'; };
  for (const box of document.querySelectorAll('div.math')) {
    const drawn = box.querySelector('mjx-container > mjx-math')?.getBoundingClientRect().width ?? 0;
    const number = box.querySelector('.eqno')?.getBoundingClientRect().width ?? 0;
    const room = box.getBoundingClientRect().width - 2 * number - 8;
    if (drawn > room) shrink(box, room / drawn);
  }
  for (const table of document.querySelectorAll('table')) {
    const width = table.getBoundingClientRect().width, room = table.parentElement.getBoundingClientRect().width;
    if (width > room + 1) shrink(table, 0.8 * room / width);
  }
  await document.fonts.ready;
  const parts = document.querySelectorAll('p, li, dt, pre, table, img, figcaption, div.math mjx-container > mjx-math');
  return [...parts].filter(part => part.getBoundingClientRect().right > column.right + 2)
    .map(part => `${part.tagName.toLowerCase()} "${(part.alt ?? part.textContent).trim().slice(0, 60)}"`);
}"""
WIDTH = 642     # of the column in CSS pixels: A4 less 20 mm on each side
NUMBERED = '<div style="width: 100%; text-align: center; font-size: 8px; color: #57606a"><span class="pageNumber"></span></div>'


def anchor(page: str, name: str = "") -> str:
    """The name that a page, or a place on it, has in the joined book."""
    return f"{page}--{name}" if name else page


def rename(page: Page, names: set[str]) -> None:
    """Make names of the page unique, and point its links to where they lead in the joined book; others become text."""
    for named in page.article.select("[id]"):
        named["id"] = anchor(page.name, named["id"])
    for link in page.article.select("a"):
        file, _, place = link.get("href", "").partition("#")
        target = file.removesuffix(".html") if file else page.name
        if file.startswith(("http:", "https:", "mailto:")):
            continue
        if target in names:
            link["href"] = "#" + anchor(target, place)
        else:
            link.unwrap()


def shift_headings(article: Tag) -> None:
    """A chapter is a heading of the second level: the first is for parts."""
    for level in range(5, 0, -1):
        for heading in article.select(f"h{level}"):
            heading.name = f"h{level + 1}"


def open_what_is_folded(article: Tag) -> None:
    """Folded code goes, folded text is shown."""
    for folded in article.select("details.hide"):
        folded.decompose()
    for cell in article.select("div.cell"):
        if not cell.get_text(strip=True) and not cell.select_one("img"):
            cell.decompose()
    for details in article.select("details:not(.quiz-why)"):
        details.name = "div"
        if details.summary:
            details.summary.name = "p"


def take_solutions(page: Page) -> list[Tag]:
    """Take solutions out of the page, each with a link from its exercise."""
    taken = []
    for number, solution in enumerate(page.article.select("div.solution"), 1):
        solution["id"] = solution.get("id") or anchor(page.name, f"solution-{number}")
        back = solution.select_one(".admonition-title a[href^='#']")
        exercise = page.article.find(id=back["href"][1:]) if back else None
        if exercise is not None:
            link = BeautifulSoup(f' <a class="to-solution" href="#{solution["id"]}">solution</a>', "html.parser")
            (exercise.select_one(".admonition-title") or exercise).append(link)
        taken.append(solution.extract())
    return taken


def take_answers(page: Page) -> list[Tag]:
    """Take answers of the self-check out of the page; a question keeps its choices, lettered, and a link."""
    taken = []
    for number, question in enumerate(page.article.select("fieldset.quiz"), 1):
        asked, there = anchor(page.name, f"question-{number}"), anchor(page.name, f"answer-{number}")
        labels = question.select("label")
        right = next((letter for letter, label in zip("ABCD", labels) if label.input.has_attr("data-right")), "")
        choices = BeautifulSoup('<ol type="A"></ol>', "html.parser").ol
        for label in labels:
            label.input.decompose()
            label.name = "li"
            choices.append(label.extract())
        why = question.select_one("details p")
        answer = BeautifulSoup(f'<p id="{there}"><a href="#{asked}">Question {number}</a>, {right}. </p>', "html.parser").p
        answer.extend(list(why.contents))
        taken.append(answer)
        for part in question.select("details, .quiz-said"):
            part.decompose()
        question.legend.name = "p"
        question.append(choices)
        question.append(BeautifulSoup(f'<p><a class="to-solution" href="#{there}">answer</a></p>', "html.parser"))
        question.name, question["id"] = "div", asked
    return taken


def find_images(page: Page, html: Path) -> None:
    """Point images to where they lie in the built book."""
    for image in page.article.select("img[src]"):
        image["src"] = (html / image["src"]).resolve().as_uri()


def prepare(page: Page, names: set[str], html: Path) -> list[Tag]:
    """Make a page a chapter on paper; what stands at the end of the book instead is returned."""
    rename(page, names)
    open_what_is_folded(page.article)
    shift_headings(page.article)
    find_images(page, html)
    top = page.article.select_one("h2").find_parent("section") or page.article
    top.insert_before(BeautifulSoup(f'<span id="{page.name}"></span>', "html.parser"))
    return take_answers(page) + take_solutions(page)


def listed(entries: list[tuple[str, str, str]]) -> str:
    """The table of contents: (part, name, title) of each chapter, with room for the numbers of pages."""
    lines, before = [], None
    for part, name, title in entries:
        if part and part != before:
            lines.append(f'<p class="part">{escape(part)}</p>')
        before = part
        number = f'<span class="number" data-of="{name}">{UNKNOWN}</span>'
        lines.append(f'<p><a href="#{name}"><span>{escape(title)}</span>{number}</a></p>')
    return "\n".join(lines)


def with_numbers(book: str, numbers: dict[str, int]) -> str:
    """The joined book, with the pages on paper on which each chapter begins in its table of contents."""
    return re.sub(rf'(data-of="([^"]+)">){UNKNOWN}', lambda found: f"{found[1]}{numbers.get(found[2], UNKNOWN)}", book)


def joined(pages: list[Page], html: Path) -> str:
    """One page of HTML with all of them."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    names, body, back, before = {page.name for page in pages}, [], [], None
    entries = [(page.part, page.name, page.title) for page in pages]
    for page in pages:
        taken = prepare(page, names, html)
        if page.part and page.part != before:
            body.append(f'<h1 class="part">{escape(page.part)}</h1>')
        before = page.part
        body.append(f'<div class="chapter">{page.article.decode_contents()}</div>')
        if taken:
            title = page.article.select_one("h2").get_text().strip()
            back.append(f"<section><h3>{escape(title)}</h3>{''.join(map(str, taken))}</section>")
    if back:
        entries.append(("", "solutions", SOLUTIONS))
        body.append(f'<div class="chapter"><span id="solutions"></span><h1>{SOLUTIONS}</h1>{"".join(back)}</div>')
    title = f'<div class="cover"><p class="title">{config["title"]}</p><p>{config["author"]}</p>' \
            "<p>Text and figures: CC BY 4.0. Code: MIT.</p></div>"
    front = f'{title}<div class="contents"><h1>Contents</h1>{listed(entries)}</div>'
    return FRAME.format(title=escape(config["title"]), math=math_scripts("_static"), kind="book", body=front + "\n".join(body))


def page_numbers(pdf: Path, names: set[str]) -> dict[str, int]:
    """On which page of a PDF each name stands."""
    reader = PdfReader(pdf)
    found = {name.lstrip("/"): target for name, target in reader.named_destinations.items()}
    return {name: reader.get_destination_page_number(found[name]) + 1 for name in names if name in found}


def print_page(opened, page: Path, pdf: Path, **options: object) -> list[str]:
    """Print one page of HTML, its formulas drawn and fitted; returns what is wider than the column all the same."""
    tab = opened.new_page(viewport={"width": WIDTH, "height": 900})
    tab.set_default_timeout(1_200_000)
    tab.emulate_media(media="print")
    tab.goto(page.resolve().as_uri(), wait_until="load")
    wide = tab.evaluate(FIT)
    with tempfile.TemporaryDirectory(dir=pdf.parent) as folder:
        written = Path(folder, pdf.name)
        tab.pdf(path=written, format="A4", outline=True, tagged=True, print_background=True, prefer_css_page_size=True, **options)
        written.replace(pdf)
    tab.close()
    return wide


def make(chapter: str, html: Path, course: Path) -> tuple[Path, list[str]]:
    """Print all pages whose name contains ``chapter`` to one PDF, twice: the first time tells the numbers of pages.

    Returns the file, and what is wider than the column.
    """
    ship(html, course)
    footer = {"display_header_footer": True, "header_template": "<span></span>", "footer_template": NUMBERED}
    source, pdf = course / "book.html", course / "book.pdf"
    pages = read_pages(html, chapter)
    book = joined(pages, html)
    with browser() as opened:
        write_atomically(source, book)
        print_page(opened, source, pdf, **footer)
        write_atomically(source, with_numbers(book, page_numbers(pdf, {page.name for page in pages} | {"solutions"})))
        wide = print_page(opened, source, pdf, **footer)
    source.unlink()
    return pdf, wide


def sheet(html: Path, course: Path) -> Path:
    """Print the cheat sheet, on one page."""
    ship(html, course)
    page = read_page(html, SHEET)
    rename(page, {SHEET})
    find_images(page, html)
    source, pdf = course / f"{SHEET}.html", course / f"{SHEET}.pdf"
    body = page.article.decode_contents()
    write_atomically(source, FRAME.format(title=escape(page.title), math=math_scripts("_static"), kind="sheet", body=body))
    with browser() as opened:
        print_page(opened, source, pdf)
    source.unlink()
    return pdf


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("chapter", nargs="?", default="", help="part of its name; the whole book if left out")
    chapter = parser.parse_args().chapter
    pdf, wide = make(chapter, HTML, COURSE)
    for file in [pdf] if chapter else [pdf, sheet(HTML, COURSE)]:
        print(f"{file}: {len(PdfReader(file).pages)} pages")
    for part in wide:
        print(f"wider than the column: {part}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(finish(main))
