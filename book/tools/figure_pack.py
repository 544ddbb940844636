"""All figures of the book as files for slides and papers: ``python book/tools/figure_pack.py``, into _build/course/figures.

Each as it is in the book (SVG, or PNG where it has many pixels), and as PDF, with its number, caption and alternative text on
a page ``index.html``. Drawings of ``figures/`` that no page shows are there as well.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from html import escape
from pathlib import Path
from typing import NamedTuple

from program import finish

# isort: split
from disk import ChapterError, write_atomically
from slides import plain
from webpages import COURSE, HTML, Page, browser, math_scripts, read_pages, ship

from chapters import ROOT

FRAME = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Figures</title>
<link rel="stylesheet" href="../_static/pack.css">
{math}
</head>
<body>
<h1>Figures</h1>
<p>Text and figures: CC BY 4.0. Images of data sets in them keep the licenses of their data sets, which the chapters name.</p>
{figures}
</body>
</html>
"""
SIZE = """image => ({width: image.naturalWidth, height: image.naturalHeight})"""


class Figure(NamedTuple):
    """A figure: its file, what it is to be called, where it stands, its caption as HTML, and what is to be seen."""

    file: Path
    name: str
    chapter: str
    caption: str
    alt: str


def figures_of(page: Page, html: Path) -> list[Figure]:
    """Figures of a page, each called by its label."""
    found = []
    for number, figure in enumerate(page.article.select("figure"), 1):
        image, caption = figure.img, figure.figcaption
        if image is not None:
            name = figure.get("id") or f"{page.name}-{number}"
            shown = plain(caption).decode_contents().strip() if caption else ""
            found.append(Figure(html / image["src"], name, page.title, shown, image.get("alt", "")))
    return found


def unshown(shown: list[Figure]) -> list[Figure]:
    """Drawings that no page has."""
    contents = {figure.file.read_bytes() for figure in shown}
    return [Figure(path, path.stem, "", "", "") for path in sorted((ROOT / "figures").glob("*.svg"))
            if path.read_bytes() not in contents]


def entry(figure: Figure) -> str:
    """What the index has of a figure."""
    file = f"{figure.name}{figure.file.suffix}"
    return (f'<figure id="{figure.name}"><img src="{file}" alt="{escape(figure.alt)}" loading="lazy">'
            f"<figcaption>{figure.caption}\n<p>{escape(figure.chapter)}</p>\n<p>Alternative text: {escape(figure.alt)}</p>\n"
            f'<p><a href="{file}">{file}</a>, <a href="{figure.name}.pdf">{figure.name}.pdf</a></p></figcaption></figure>')


def print_figures(figures: list[Figure], folder: Path) -> None:
    """Write each as a PDF of its own size."""
    with browser() as opened:
        tab = opened.new_page()
        for figure in figures:
            source = folder / f"{figure.name}{figure.file.suffix}"
            tab.goto((folder / "index.html").resolve().as_uri(), wait_until="commit")
            tab.set_content(f'<style>@page {{ margin: 0 }} body {{ margin: 0 }} img {{ display: block }}</style>'
                            f'<img src="{source.resolve().as_uri()}">', wait_until="load")
            size = tab.locator("img").evaluate(SIZE)
            if not size["width"]:
                raise ChapterError(f"{source.name} cannot be shown")
            tab.pdf(path=folder / f"{figure.name}.pdf", width=f"{size['width'] + 1}px", height=f"{size['height'] + 1}px",
                    print_background=True, page_ranges="1")


def make(chapter: str, html: Path, course: Path) -> Path:
    """Write the figures of all pages whose name contains ``chapter``, and their index, which is returned."""
    ship(html, course)
    folder = course / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    figures = [figure for page in read_pages(html, chapter) for figure in figures_of(page, html)]
    figures += [] if chapter else unshown(figures)
    for figure in figures:
        shutil.copyfile(figure.file, folder / f"{figure.name}{figure.file.suffix}")
    body = '<div class="tex2jax_ignore">' + "\n".join(map(entry, figures)) + "</div>"
    write_atomically(folder / "index.html", FRAME.format(math=math_scripts("../_static"), figures=body))
    print_figures(figures, folder)
    return folder / "index.html"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("chapter", nargs="?", default="", help="part of its name; all chapters if left out")
    print(make(parser.parse_args().chapter, HTML, COURSE))
    return 0


if __name__ == "__main__":
    sys.exit(finish(main))
