"""Tables that a page shows with columns to sort by, and everything else as text.

Generated from book/src/80_plan_and_queue.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

__all__ = ["Entry", "Sheet"]


# 80_plan_and_queue: A table to look at

class Entry(NamedTuple):
    """A cell of a sheet: what it says, what it is sorted by, and whether it is marked."""

    text: str
    value: float | None = None
    marked: bool = False


@dataclass(frozen=True)
class Sheet:
    """A table: names of its columns, and rows of text and entries; the first column names
    the row.

    Its text has aligned columns and a star at what is marked.
    """

    heads: Sequence[str]
    rows: Sequence[Sequence[str | Entry]]
    caption: str = ""

    def __repr__(self) -> str:
        return sheet_text(self)

    def _repr_html_(self) -> str:
        return sheet_html(self)


def entry_of(cell: str | Entry) -> Entry:
    """A cell as an entry."""
    return cell if isinstance(cell, Entry) else Entry(cell)


def sheet_text(sheet: Sheet) -> str:
    """A sheet as lines of text: first column to the left, the others to the right."""
    lines = [list(sheet.heads)] + [[entry.text + "*" * entry.marked
                                    for entry in map(entry_of, row)] for row in sheet.rows]
    wide = [max(map(len, column)) for column in zip(*lines)]
    told = ["  ".join([line[0].ljust(wide[0]),
                       *(text.rjust(size) for text, size in zip(line[1:], wide[1:]))]).rstrip()
            for line in lines]
    return "\n".join(([sheet.caption] if sheet.caption else []) + told)


SHEET_STYLE = """<style>
.sheet { overflow-x: auto; font-size: 0.85em }
.sheet button { background: none; border: 0; padding: 0; font: inherit; color: inherit }
.sheet button { cursor: pointer; text-align: inherit }
.sheet [aria-sort=ascending] button::after { content: " \\25B2" }
.sheet [aria-sort=descending] button::after { content: " \\25BC" }
.sheet td { white-space: nowrap; padding: 0.2em 0.4em }
</style>"""


SHEET_SCRIPT = """<script>
window.sortSheet = function (button) {
  var head = button.parentNode, body = head.closest("table").tBodies[0], no = head.cellIndex;
  var up = head.getAttribute("aria-sort") !== "ascending", rows = Array.from(body.rows);
  var key = function (row) {
    var cell = row.cells[no], value = cell.dataset.value;
    return value === undefined ? cell.textContent : value === "" ? null : Number(value);
  };
  rows.sort(function (a, b) {
    var x = key(a), y = key(b), sign = up ? 1 : -1;
    if (x === null || y === null) { return (x === null) - (y === null); }
    return sign * (x > y ? 1 : x < y ? -1 : 0);
  }).forEach(function (row) { body.appendChild(row); });
  Array.from(head.parentNode.cells).forEach(function (cell) {
    cell.setAttribute("aria-sort", cell !== head ? "none" : up ? "ascending" : "descending");
  });
};
</script>"""


def cell_html(cell: str | Entry, first: bool) -> str:
    """A cell of the body; an entry without a value stands last, however one sorts."""
    entry = entry_of(cell)
    text = f"<strong>{escape(entry.text)}</strong>" if entry.marked else escape(entry.text)
    if first:
        return f'<th scope="row">{text}</th>'
    if isinstance(cell, str):
        return f"<td>{text}</td>"
    value = "" if entry.value is None or entry.value != entry.value else f"{entry.value:.6g}"
    return f'<td data-value="{value}">{text}</td>'


def sheet_html(sheet: Sheet) -> str:
    """A sheet as a table of HTML that can be sorted, with nothing that has to be loaded."""
    heads = "".join(f'<th scope="col" aria-sort="none"><button type="button" '
                    f'onclick="sortSheet(this)">{escape(head or "row")}</button></th>'
                    for head in sheet.heads)
    body = "\n".join("<tr>" + "".join(cell_html(cell, place == 0)
                                      for place, cell in enumerate(row)) + "</tr>"
                     for row in sheet.rows)
    caption = f"<caption>{escape(sheet.caption)}</caption>" if sheet.caption else ""
    return (f'<div class="sheet"><table class="dataframe">{caption}\n<thead><tr>{heads}</tr>'
            f"</thead>\n<tbody>\n{body}\n</tbody></table></div>\n{SHEET_STYLE}{SHEET_SCRIPT}")
