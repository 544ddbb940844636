"""The whole book as one PDF, and the cheat sheet as another: ``python book/tools/paper.py``, into _build/course.

Each page of the built book is printed by Chromium, and what it printed is joined, in the order of the book: all of it as one
page is more than Chromium prints. Names within a page get the page's name before them, so that links from page to page become
links within the file. Bookmarks and tags (for readers that speak) are joined as well. Solutions, and answers of self-checks,
stand in a part of their own at the end, with links to and fro; code that is folded on the pages is left out.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from html import escape, unescape
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from program import finish

# isort: split
import yaml
from bs4 import BeautifulSoup, Tag
from disk import write_atomically
from pypdf import PdfReader, PdfWriter
from pypdf.generic import (
    ArrayObject,
    BooleanObject,
    DictionaryObject,
    Fit,
    IndirectObject,
    NameObject,
    NumberObject,
    TextStringObject,
)
from webpages import COURSE, HTML, Page, browser, math_scripts, read_page, read_pages, ship

from chapters import ROOT

SHEET = "cheatsheet"
SOLUTIONS = "Solutions and answers"
UNKNOWN = "000"     # in place of a page number until all else has been printed
LINK = re.compile(r' href="#([^"]+)"')
ELSEWHERE = "book:"     # before a name that another part of the book has
FRAME = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<link rel="stylesheet" href="_static/pygments.css">
<link rel="stylesheet" href="_static/paper.css">
<style>html {{ counter-reset: page {before} }}</style>
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


class Piece(NamedTuple):
    """What is printed at once: HTML, and the part of the book that it belongs to; ``opens`` where it begins that part."""

    body: str
    part: str = ""
    opens: bool = False


class Place(NamedTuple):
    """Where a name stands in the printed book: the page, from 0, and how far from its lower and left edge, in points."""

    page: int
    left: float
    top: float


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


def pieces(pages: list[Page], html: Path) -> list[Piece]:
    """Cover and contents, then each page, and what stands at the end."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    names, body, back, before = {page.name for page in pages}, [], [], ""
    entries = [(page.part, page.name, page.title) for page in pages]
    for page in pages:
        taken, opens = prepare(page, names, html), page.part not in ("", before)
        head = f'<h1 class="part">{escape(page.part)}</h1>' if opens else ""
        body.append(Piece(f'{head}<div class="chapter">{page.article.decode_contents()}</div>', page.part, opens))
        before = page.part
        if taken:
            title = page.article.select_one("h2").get_text().strip()
            back.append(f"<section><h3>{escape(title)}</h3>{''.join(map(str, taken))}</section>")
    if back:
        entries.append(("", "solutions", SOLUTIONS))
        end = f'<div class="chapter"><span id="solutions"></span><h1>{SOLUTIONS}</h1>{"".join(back)}</div>'
        body.append(Piece(end))
    title = f'<div class="cover"><p class="title">{config["title"]}</p><p>{config["author"]}</p>' \
            "<p>Text and figures: CC BY 4.0. Code: MIT.</p></div>"
    return tied([Piece(f'{title}<div class="contents"><h1>Contents</h1>{listed(entries)}</div>'), *body])


def tied(parts: list[Piece]) -> list[Piece]:
    """Links to another piece get an address that is found again in what is printed; and as only names to which something on
    the same page leads are kept there, each piece gets links to all of its own that others lead to, which nobody sees."""
    named = [set(re.findall(r' id="([^"]+)"', part.body)) for part in parts]
    asked = set().union(*(set(LINK.findall(part.body)) - own for part, own in zip(parts, named)))
    return [part._replace(body=tie(part.body, own, sorted(own & asked))) for part, own in zip(parts, named)]


def tie(body: str, own: set[str], wanted: list[str]) -> str:
    """One piece of ``tied``, with its own names and those of them to which others lead."""
    body = LINK.sub(lambda link: link[0] if link[1] in own else f' href="{ELSEWHERE}{link[1]}"', body)
    unseen = "".join(f'<a href="#{name}"></a>' for name in wanted)
    return f"{body}<div hidden>{unseen}</div>" if wanted else body


def places(reader: PdfReader, before: int) -> dict[str, Place]:
    """Where the names stand that a printed piece has, with so many pages before it."""
    return {unquote(name.removeprefix("/")): Place(before + reader.get_destination_page_number(target), target.left, target.top)
            for name, target in reader.named_destinations.items()}


def add_bookmarks(writer: PdfWriter, reader: PdfReader, entries: list, before: int, titles: dict[str, str],
                  above: IndirectObject | None) -> IndirectObject | None:
    """Add a piece's bookmarks below ``above``; returns the first of them. ``titles`` are those of ``headings``."""
    first = last = None
    for entry in entries:
        if isinstance(entry, list):
            add_bookmarks(writer, reader, entry, before, titles, last)
            continue
        page, squeezed = before + reader.get_destination_page_number(entry), "".join(entry.title.split())
        last = writer.add_outline_item(title=titles.get(squeezed, str(entry.title)), page_number=page, parent=above,
                                       fit=Fit.xyz(entry.left, entry.top), is_open=False)
        first = first or last
    return first


def headings(body: str) -> dict[str, str]:
    """Headings by what they are without white space, as Chromium loses that between two lines."""
    found = [unescape(re.sub("<[^>]+>", "", inner)) for inner in re.findall(r"<h[1-6][^>]*>(.*?)</h[1-6]>", body, flags=re.S)]
    return {"".join(text.split()): " ".join(text.split()) for text in found}


def add_tags(writer: PdfWriter, reader: PdfReader, before: int, root: DictionaryObject) -> None:
    """Add a piece's tree of tags, which says what is a heading, a paragraph or a table, to that of the book."""
    tree = reader.root_object["/StructTreeRoot"].clone(writer)
    start, numbers = root["/ParentTreeNextKey"], root["/ParentTree"]["/Nums"]
    own = tree["/ParentTree"]["/Nums"]
    for key, value in zip(own[::2], own[1::2]):
        numbers.extend([NumberObject(key + start), value])
    for page, printed in zip(writer.pages[before:], reader.pages):
        page[NameObject("/StructParents")] = NumberObject(printed["/StructParents"] + start)    # not copied with the page
        for link in (entry.get_object() for entry in page.get("/Annots", [])):
            link[NameObject("/StructParent")] = NumberObject(link["/StructParent"] + start)
    top = tree.raw_get("/K")
    for element in top if isinstance(top, list) else [top]:
        element.get_object()[NameObject("/P")] = root.indirect_reference
        root["/K"].append(element)
    root[NameObject("/ParentTreeNextKey")] = NumberObject(start + tree["/ParentTreeNextKey"])


def lead(writer: PdfWriter, known: dict[str, Place]) -> set[str]:
    """Let each link within the book lead to its place, and take away those that have none; returns the names of these."""
    dead = set()
    for page in writer.pages:
        kept = ArrayObject()
        for entry in page.get("/Annots", []):
            link = entry.get_object()
            to = link.get("/Dest") or link.get("/A", {}).get("/URI", "")
            if str(to).startswith(("/", ELSEWHERE)):
                name = unquote(str(to).removeprefix("/").removeprefix(ELSEWHERE))
                if name not in known:
                    dead.add(name)
                    continue
                fit = Fit.xyz(known[name].left, known[name].top)
                target = [writer.pages[known[name].page].indirect_reference, fit.fit_type, *fit.fit_args]
                link.pop("/A", None)
                link[NameObject("/Dest")] = ArrayObject(target)
            kept.append(entry)
        if kept or "/Annots" in page:
            page[NameObject("/Annots")] = kept
    return dead


def join(parts: list[Piece], printed: list[Path], title: str, pdf: Path) -> set[str]:
    """Make one PDF of all that was printed; returns names that links lead to and that nothing has."""
    writer, known, above, before = PdfWriter(), {}, None, 0
    root = DictionaryObject({NameObject("/Type"): NameObject("/StructTreeRoot"), NameObject("/K"): ArrayObject(),
                             NameObject("/ParentTree"): DictionaryObject({NameObject("/Nums"): ArrayObject()}),
                             NameObject("/ParentTreeNextKey"): NumberObject(0)})
    writer._add_object(root)
    for part, path in zip(parts, printed):
        reader = PdfReader(path)
        writer.append(reader, import_outline=False)
        below = None if part.opens or not part.part else above
        first = add_bookmarks(writer, reader, reader.outline, before, headings(part.body), below)
        above = first if part.opens else above
        known |= places(reader, before)
        add_tags(writer, reader, before, root)
        before += len(reader.pages)
    dead = lead(writer, known)
    writer.root_object.pop("/Names", None)      # of use for joining only
    writer.root_object[NameObject("/StructTreeRoot")] = root.indirect_reference
    writer.root_object[NameObject("/MarkInfo")] = DictionaryObject({NameObject("/Marked"): BooleanObject(True)})
    writer.root_object[NameObject("/Lang")] = TextStringObject("en")
    writer.add_metadata({"/Title": title})
    writer.page_mode = "/UseOutlines"
    with tempfile.TemporaryDirectory(dir=pdf.parent) as folder:
        written = Path(folder, pdf.name)
        writer.write(written)
        written.replace(pdf)
    return dead


def print_page(opened, page: Path, pdf: Path) -> list[str]:
    """Print one page of HTML, its formulas drawn and fitted; returns what is wider than the column all the same."""
    tab = opened.new_page(viewport={"width": WIDTH, "height": 900})
    tab.set_default_timeout(1_200_000)
    tab.emulate_media(media="print")
    tab.goto(page.resolve().as_uri(), wait_until="load")
    wide = tab.evaluate(FIT)
    with tempfile.TemporaryDirectory(dir=pdf.parent) as folder:
        written = Path(folder, pdf.name)
        tab.pdf(path=written, format="A4", outline=True, tagged=True, print_background=True, prefer_css_page_size=True)
        written.replace(pdf)
    tab.close()
    return wide


def make(chapter: str, html: Path, course: Path) -> tuple[Path, list[str]]:
    """Print all pages whose name contains ``chapter`` to one PDF, and the contents at last, when numbers of pages are known.

    Returns the file, and what is to be mended: what is wider than the column, and links that lead nowhere.
    """
    ship(html, course)
    title = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["title"]
    front, *others = parts = pieces(read_pages(html, chapter), html)
    source, pdf, faults, numbers, printed = course / "book.html", course / "book.pdf", [], {}, []
    with tempfile.TemporaryDirectory(dir=course) as folder, browser() as opened:

        def put(body: str, number: int, before: int) -> tuple[PdfReader, list[str]]:
            """Print a piece that begins after so many pages."""
            path = Path(folder, f"{number}.pdf")
            kind = {"title": escape(title), "math": math_scripts("_static"), "kind": "book"}
            write_atomically(source, FRAME.format(before=before, body=body, **kind))
            wide = print_page(opened, source, path)
            return PdfReader(path), [f"wider than the column: {what}" for what in wide]

        before = len(put(front.body, 0, 0)[0].pages)
        for number, part in enumerate(others, 1):
            reader, wide = put(part.body, number, before)
            numbers |= {name: place.page + 1 for name, place in places(reader, before).items()}
            before, faults = before + len(reader.pages), faults + wide
        faults += put(with_numbers(front.body, numbers), 0, 0)[1]
        printed = [Path(folder, f"{number}.pdf") for number in range(len(parts))]
        dead = join(parts, printed, title, pdf)
    source.unlink()
    return pdf, faults + [f"leads nowhere: {name}" for name in sorted(dead)]


def sheet(html: Path, course: Path) -> Path:
    """Print the cheat sheet, on one page."""
    ship(html, course)
    page = read_page(html, SHEET)
    rename(page, {SHEET})
    find_images(page, html)
    source, pdf = course / f"{SHEET}.html", course / f"{SHEET}.pdf"
    frame = {"title": escape(page.title), "before": 0, "math": math_scripts("_static"), "kind": "sheet"}
    write_atomically(source, FRAME.format(body=page.article.decode_contents(), **frame))
    with browser() as opened:
        print_page(opened, source, pdf)
    source.unlink()
    return pdf


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("chapter", nargs="?", default="", help="part of its name; the whole book if left out")
    chapter = parser.parse_args().chapter
    pdf, faults = make(chapter, HTML, COURSE)
    for file in [pdf] if chapter else [pdf, sheet(HTML, COURSE)]:
        print(f"{file}: {len(PdfReader(file).pages)} pages")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(finish(main))
