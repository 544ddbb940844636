"""Pages of paragraphs, tables and pictures, as HTML and as Markdown.

Generated from book/src/88_report.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import base64
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import yaml
from jinja2 import DictLoader, Environment, select_autoescape

from cdlm.data.archives import printable
from cdlm.files import RunError, flush, need_folder
from cdlm.runs.folder import check_free

__all__ = [
    "Page",
    "Paragraph",
    "Picture",
    "Points",
    "Section",
    "Table",
    "front_matter",
    "new_folder",
    "write_page",
    "written",
]


# 88_report: A page of parts

@dataclass(frozen=True)
class Paragraph:
    """A paragraph of plain text, or a ``verbatim`` one: code."""

    text: str
    verbatim: bool = False
    kind: ClassVar[str] = "paragraph"


@dataclass(frozen=True)
class Points:
    """A list of sentences."""

    lines: Sequence[str]
    kind: ClassVar[str] = "points"


@dataclass(frozen=True)
class Picture:
    """A picture file, "svg" or "png", with what it shows for those who do not see it, and a
    caption."""

    name: str                           # without the ending, unique on its page
    data: bytes
    form: str
    alt: str
    caption: str
    kind: ClassVar[str] = "picture"


@dataclass(frozen=True)
class Table:
    """Rows of cells, the first of each row being its name. ``shares``, if any, in [0, 1] and
    of the shape of ``rows`` without the first column, shade the cells."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    shares: Sequence[Sequence[float]] = ()
    kind: ClassVar[str] = "table"

    @property
    def numeric(self) -> list[bool]:
        """Which columns hold numbers, or a line in the place of one, and nothing else."""
        return [all(re.fullmatch(r"[-+]?[\d.,]+|–", cell) for cell in column)
                for column in zip(*self.rows)]


class Section(NamedTuple):
    """A heading and what stands under it."""

    title: str
    parts: Sequence[Paragraph | Points | Picture | Table]


class Page(NamedTuple):
    """A title, sections, and ``front``: what machines read of the page."""

    title: str
    sections: Sequence[Section]
    front: Mapping[str, object]


PART_HTML = """\
{% if part.kind == "paragraph" and part.verbatim %}
<pre tabindex="0"><code>{{ part.text | e }}</code></pre>
{% elif part.kind == "paragraph" %}
<p>{{ part.text }}</p>
{% elif part.kind == "points" %}
<ul>{% for line in part.lines %}<li>{{ line }}</li>{% endfor %}</ul>
{% elif part.kind == "picture" %}
<figure><img class="{{ part.form }}" alt="{{ part.alt }}" src="{{ part | uri }}">
<figcaption>{{ part.caption }}</figcaption></figure>
{% else %}
<div class="wide" tabindex="0" role="region" aria-label="{{ part.caption }}"><table>
<caption>{{ part.caption }}</caption>
<thead><tr>{% for cell in part.header %}<th scope="col"
{%- if loop.index0 and part.numeric[loop.index0] %} class="number"{% endif %}>
{{- cell }}</th>{% endfor %}</tr></thead><tbody>
{% for cells in part.rows %}{% set row = loop.index0 %}
<tr><th scope="row">{{ cells[0] }}</th>
{% for cell in cells[1:] %}<td{% if part.numeric[loop.index] %} class="number"{% endif %}
{%- if part.shares %} style="--share: {{ part.shares[row][loop.index0] }}"{% endif %}>
{{- cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>
{% endif %}
"""


PAGE_HTML = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{{ page.title }}</title>
<style>
{% include "page.css" %}
</style>
</head>
<body><main>
<h1>{{ page.title }}</h1>
{% for section in page.sections %}
<section aria-labelledby="section-{{ loop.index }}">
<h2 id="section-{{ loop.index }}">{{ section.title }}</h2>
{% for part in section.parts %}{% include "part.html" %}{% endfor %}
</section>
{% endfor %}
</main></body></html>
"""


STYLE = """\
:root { color-scheme: light dark; --paper: #fff; --ink: #1f2328; --soft: #57606a;
  --line: #d0d7de; --well: #f6f8fa }
@media (prefers-color-scheme: dark) { :root { --paper: #0d1117; --ink: #e6edf3;
  --soft: #9da7b3; --line: #30363d; --well: #161b22 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
main { max-width: 50rem; margin: auto; padding: 1rem }
h1, h2 { line-height: 1.2 }
h2 { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1rem }
figure { margin: 1.5rem 0 }
img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: 4px;
  padding: 4px }
figcaption, caption { color: var(--soft); text-align: left; padding: .3rem 0 }
"""


STYLE_OF_TABLES = """\
.wide, pre { overflow-x: auto; margin: 1rem 0; overflow-wrap: normal }
pre { background: var(--well); padding: .8rem; border-radius: 4px }
@media (prefers-color-scheme: dark) { img.svg { filter: invert(1) hue-rotate(180deg) } }
table { border-collapse: collapse; font-variant-numeric: tabular-nums;
  min-width: min(100%, 28rem) }
th, td { padding: .2rem .5rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top }
th.number { text-align: right }
tbody th { font-weight: normal }
td.number { text-align: right }
td[style] { background: color-mix(in srgb, #0072B2 calc(var(--share) * 45%), transparent) }
:focus-visible { outline: 2px solid #0072B2; outline-offset: 2px }
"""


PAGE_MARKDOWN = """\
---
{{ page.front | yaml | safe }}---

# {{ page.title }}
{% for section in page.sections %}

## {{ section.title }}
{% for part in section.parts %}

{% include "part.md" %}
{% endfor %}
{% endfor %}
"""


PART_MARKDOWN = """\
{% if part.kind == "paragraph" and part.verbatim %}
~~~python
{{ part.text | safe }}
~~~
{% elif part.kind == "paragraph" %}
{{ part.text }}
{% elif part.kind == "points" %}
{% for line in part.lines %}
- {{ line }}
{% endfor %}
{% elif part.kind == "picture" %}
{% set file = "figures/" ~ part.name ~ "." ~ part.form %}
{{ "!" }}[{{ part.alt }}]({{ file | safe }})

{{ part.caption }}
{% else %}
{{ part.caption }}:

|{% for cell in part.header %} {{ cell }} |{% endfor +%}
|{% for cell in part.header %} --- |{% endfor +%}
{% for row in part.rows %}
|{% for cell in row %} {{ cell }} |{% endfor +%}
{% endfor %}
{% endif %}
"""


TEMPLATES = {"page.html": PAGE_HTML, "part.html": PART_HTML,
             "page.css": STYLE + STYLE_OF_TABLES, "page.md": PAGE_MARKDOWN,
             "part.md": PART_MARKDOWN}


def in_markdown(text: object) -> object:
    """A text whose characters Markdown takes for themselves; what is marked as safe stays as
    it is."""
    if hasattr(text, "__html__"):
        return text
    return re.sub(r"([\\`*_\[\]<>|~$&#]|:(?=//))", r"\\\1", printable(str(text)))


def in_html(text: object) -> object:
    """A text without characters that no page should get; Jinja escapes it afterwards."""
    return text if hasattr(text, "__html__") else printable(str(text))


def data_uri(picture: Picture) -> str:
    """A picture as an address that holds it."""
    form = "svg+xml" if picture.form == "svg" else picture.form
    return f"data:image/{form};base64,{base64.b64encode(picture.data).decode()}"


def written(page: Page, form: str) -> str:
    """A page as "html", all in one file, or as "md", whose pictures lie in ``figures``."""
    environment = Environment(
        loader=DictLoader(TEMPLATES), autoescape=select_autoescape(["html"]),
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
        finalize=in_html if form == "html" else in_markdown)
    environment.filters |= {"uri": data_uri, "yaml": front_matter}
    return environment.get_template(f"page.{form}").render(page=page)


def front_matter(front: Mapping[str, object]) -> str:
    """The first lines of a card, for machines."""
    return yaml.safe_dump(dict(front), sort_keys=False, allow_unicode=True)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to write into that becomes ``out`` when the block ends well; else nothing is
    left of it. Raises RunError where ``out`` is not free or cannot be written."""
    out = Path(os.path.abspath(out))
    need_folder(out.parent)
    check_free(out)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as beside:
            folder = Path(beside) / out.name
            folder.mkdir()
            yield folder
            for path in (*folder.rglob("*"), folder):
                flush(path)
            check_free(out)
            os.replace(folder, out)
    except OSError as error:
        raise RunError(f"cannot write {out}: {error.strerror or error}; make room, or name "
                       "another folder") from None


def write_page(page: Page, folder: Path, name: str = "README.md") -> None:
    """Write a page as Markdown into a folder, with its pictures."""
    pictures = [part for section in page.sections for part in section.parts
                if part.kind == "picture"]
    for picture in pictures:
        (folder / "figures").mkdir(exist_ok=True)
        (folder / "figures" / f"{picture.name}.{picture.form}").write_bytes(picture.data)
    (folder / name).write_text(written(page, "md"), encoding="utf-8")
