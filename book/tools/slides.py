"""Slides of a chapter, from its page in the built book: ``python book/tools/slides.py [CHAPTER]``, into _build/course/slides.

What is on them follows from the text:

- the title with the first paragraph, and what one can do after the chapter;
- of each section its heading, its first paragraph, and its numbered formulas, or the first formula if none has a number;
- the first cell of at most 15 lines that is not folded and does more than import, with what it prints: below the paragraph, or
  on a slide of its own where there are formulas;
- on slides of their own, under the same heading: definitions and theorems, figures with their captions, tables of at most 12
  rows;
- the summary as a whole, and each question of the self-check, whose answer comes with the next key;
- everything else of a section as notes for the speaker (key S).

A cell with the tag ``slide`` is shown whatever its length, one with the tag ``no-slide`` is not. Exercises and further reading
are left out.
"""

from __future__ import annotations

import argparse
import copy
import shutil
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path

from program import finish

# isort: split
from bs4 import BeautifulSoup, Tag
from disk import ChapterError, write_atomically
from webpages import COURSE, HTML, Page, math_scripts, read_pages, ship

LEFT_OUT = ("Exercises", "Further reading", "References")
WHOLE = ("Summary",)
SHORT = 15      # lines of code that can be read from the last row
ROWS = 12       # of a table
FRAME = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="../_static/reveal/reveal.css">
<link rel="stylesheet" href="../_static/pygments.css">
<link rel="stylesheet" href="../_static/slides.css">
{math}
<script src="../_static/reveal/reveal.js"></script>
<script src="../_static/reveal/notes.js"></script>
</head>
<body>
<div class="reveal tex2jax_ignore"><div class="slides">
{slides}
</div></div>
<script>{start}</script>
</body>
</html>
"""
INDEX = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Slides</title><link rel="stylesheet" href="../_static/pack.css"></head>
<body>
<h1>Slides</h1>
<ul>
{listed}
</ul>
<p>Keys: arrows, O for all slides, S for the notes of the speaker, F for the full screen. To print, add <code>?print-pdf</code> to
the address. Text and figures: CC BY 4.0. Code: MIT.</p>
</body>
</html>
"""
# Formulas are drawn before anything is hidden, and what is too much for a slide is made smaller.
START = """
const fit = slide => {
  const body = slide.querySelector('.body');
  for (let size = 100; size > 40 && body.offsetTop + body.scrollHeight > 700; size -= 3) body.style.fontSize = size + '%';
};
MathJax.startup.promise.then(async () => {
  Reveal.on('slidechanged', event => fit(event.currentSlide));
  Reveal.on('pdf-ready', () => document.querySelectorAll('.slides section').forEach(fit));
  await Reveal.initialize({width: 1280, height: 720, margin: 0.02, center: false, hash: true, slideNumber: 'c/t',
    transition: 'none', pdfSeparateFragments: false, plugins: [RevealNotes]});
  fit(Reveal.getCurrentSlide());
  document.documentElement.dataset.ready = 'yes';
});
"""


def plain(part: Tag) -> Tag:
    """A copy without names, whose links within the book are text, and whose sections are no slides of their own."""
    made = copy.copy(part)
    for section in made.select("section"):
        section.name = "div"
    for link in made.select("a"):
        if not link.get("href", "").startswith("http"):
            link.unwrap()
    for named in [made, *made.select("[id]")]:
        named.attrs.pop("id", None)
    return made


def heading(section: Tag) -> Tag | None:
    return section.find(["h1", "h2", "h3", "h4"], recursive=False)


def name_of(section: Tag) -> str:
    """Its heading without a number."""
    made = copy.copy(heading(section))
    for number in made.select(".section-number"):
        number.decompose()
    return made.get_text().strip()


def classes(part: Tag) -> list[str]:
    return part.get("class") or []


def code_of(cell: Tag) -> Tag | None:
    """The code of a cell that is not folded."""
    return cell.select_one(":scope > .cell_input pre")


def chosen_cell(cells: list[Tag]) -> Iterator[Tag]:
    """Cells with the tag ``slide``, and the first short one that is shown on the page."""
    first = True
    for cell in cells:
        code = code_of(cell)
        short = code is not None and len(code.get_text().strip().splitlines()) <= SHORT
        importing = short and code.get_text().lstrip().startswith(("from ", "import "))
        if "tag_slide" in classes(cell):
            yield cell
        elif first and short and not importing:
            first = False
            yield cell


def slide(title: Tag | str, *parts: Tag | str, notes: str = "", kind: str = "") -> str:
    """One slide; ``notes`` is for the speaker."""
    inner = title if isinstance(title, str) else plain(title).decode_contents()
    body = "\n".join(part if isinstance(part, str) else str(plain(part)) for part in parts)
    aside = f'<aside class="notes">{notes}</aside>' if notes else ""
    return f'<section class="{kind}"><h2>{inner}</h2><div class="body">{body}</div>{aside}</section>'


def question(fieldset: Tag, title: Tag) -> str:
    """A question of a self-check; its answer and the reason are a fragment."""
    asked = plain(fieldset.legend)
    answers = [plain(label) for label in fieldset.select("label")]
    for answer in answers:
        answer.input.decompose()
    listed = "".join(f"<li>{answer.decode_contents()}</li>" for answer in answers)
    code = fieldset.select_one("div.highlight, pre")
    why = plain(fieldset.select_one("details p")).decode_contents()
    return slide(title, f"<p>{asked.decode_contents()}</p>", code or "", f'<ol type="A">{listed}</ol>',
                 f'<p class="fragment">{why}</p>', kind="question")


def fits(part: Tag) -> bool:
    """Whether a table or a printed text can be read when it is on one slide."""
    return len(part.select("tr")) <= ROWS and all(len(pre.get_text().splitlines()) <= SHORT for pre in part.select("pre"))


def code_and_text(cell: Tag) -> list[Tag]:
    """Code of a cell and what it prints; figures have slides of their own."""
    parts = [code_of(cell).find_parent("div", class_="highlight")] if code_of(cell) is not None else []
    return parts + list(filter(fits, cell.select(":scope > .cell_output > .output")))


def section_slides(section: Tag) -> Iterator[str]:
    """Slides of one section, without those below it."""
    title, own = heading(section), [part for part in section.find_all(True, recursive=False) if part.name != "section"]
    if name_of(section) in WHOLE:
        yield slide(title, *own[1:])
        return
    own = [part for part in own if "tag_no-slide" not in classes(part)]
    asked = [part for part in own if part.name == "fieldset" and "quiz" in classes(part)]
    paragraphs = [part for part in own if part.name == "p"]
    formulas = [part for part in own if part.name == "div" and "math" in classes(part)]
    shown = [formula for formula in formulas if formula.select_one(".eqno")] or formulas[:1]
    notes = "".join(str(plain(part)) for part in own if part.name in ("p", "ul", "ol") and part not in paragraphs[:1])
    codes = list(chosen_cell([part for part in own if "cell" in classes(part)]))
    beside = [] if shown else codes[:1]
    if paragraphs or shown:
        yield slide(title, *paragraphs[:1], *shown, *(text for cell in beside for text in code_and_text(cell)), notes=notes)
    for part in own:
        if part in asked:
            yield question(part, title)
        elif "proof" in classes(part) and "admonition" in classes(part):
            yield slide(title, part)
        elif fits(part) and (part.name == "table" or "pst-scrollable-table-container" in classes(part)):
            yield slide(title, part)
        elif part in codes and not (part in beside and paragraphs):
            yield slide(title, *code_and_text(part))
        for figure in [part] if part.name == "figure" else part.select(":scope > .cell_output figure"):
            yield slide(title, figure, kind="figure")


def title_slides(page: Page) -> Iterator[str]:
    """The title with the first paragraph, the figure above all sections if there is one, and the goals."""
    top = heading(page.article.section).find_parent("section")
    own = [part for part in top.find_all(True, recursive=False) if part.name != "section"]
    first = next((part for part in own if part.name == "p"), "")
    yield slide(heading(top), first, kind="title")
    for figure in top.select(":scope > figure, :scope > .cell > .cell_output figure"):
        yield slide(heading(top), figure, kind="figure")
    if goals := top.select_one(":scope > ul"):
        yield slide("After this chapter you can", goals)


def slides(page: Page) -> list[str]:
    """All slides of a page, in the order of its text."""
    made = list(title_slides(page))
    top = heading(page.article.section).find_parent("section")
    for section in top.select("section"):
        nested = [section, *section.find_parents("section")]
        if heading(section) is not None and not any(heading(each) and name_of(each) in LEFT_OUT for each in nested):
            made += section_slides(section)
    return made


def with_images(text: str, html: Path, to: Path) -> str:
    """The text with images beside it: copied into ``to``, which lies beside the text."""
    soup = BeautifulSoup(text, "html.parser")
    for image in soup.select("img[src]"):
        source = html / image["src"]
        if not source.is_file():
            raise ChapterError(f"{image['src']} is shown on a page and is not there; build the book anew")
        to.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, to / source.name)
        image["src"] = f"{to.name}/{source.name}"
    return str(soup)


def make(chapter: str, html: Path, course: Path) -> list[Path]:
    """Write the slides of all chapters whose name contains ``chapter``, and a list of them."""
    ship(html, course)
    folder, written, listed = course / "slides", [], []
    for page in read_pages(html, chapter):
        if not page.name[:2].isdigit():
            continue
        made = slides(page)
        body = with_images("\n".join(made), html, folder / "images")
        write_atomically(folder / f"{page.name}.html",
                         FRAME.format(title=escape(page.title), math=math_scripts("../_static"), slides=body, start=START))
        written.append(folder / f"{page.name}.html")
        listed.append(f'<li><a href="{page.name}.html">{escape(page.title)}</a>, {len(made)} slides</li>')
    if not chapter:
        write_atomically(folder / "index.html", INDEX.format(listed="\n".join(listed)))
    return written


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("chapter", nargs="?", default="", help="part of its name; all chapters if left out")
    written = make(parser.parse_args().chapter, HTML, COURSE)
    print(f"slides of {len(written)} chapters: {written[0].parent}")
    return 0


if __name__ == "__main__":
    sys.exit(finish(main))
