"""The skeleton of a new chapter, in the form that the tests of the book ask for, and its line in the table of contents.

    python book/tools/new_chapter.py 58_priors
"""

from __future__ import annotations

import re
import sys

from program import finish

# isort: split
from disk import ChapterError, write_atomically
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from chapters import BOOK, SOURCE, chapters, read_text, to_text

HEAD = """# {title}

TODO: a question that a reader has, in two sentences, and the picture that will answer it.

**After this chapter you can**

- TODO: three goals that can be tested.

*Prerequisites: TODO, as links. Reading: TODO minutes. Running: seconds.*"""
IDEA = "## TODO: the idea\n\nIn words first, then by a picture, then as a formula, then as code that reads as the formula."
BODY = """What to see in it: one sentence. Then what the paper says, and what we found.

## Summary

- TODO: five lines.

## Exercises"""
EXERCISE = """:::{{exercise-start}} TODO (check, build or think)
:label: ex-{label}-{number}
:::

TODO

:::{{exercise-end}}
:::

:::{{solution-start}} ex-{label}-{number}
:class: dropdown
:::

TODO

:::{{solution-end}}
:::"""
READING = "## Further reading\n\n- TODO: what to read next, one honest sentence each."


def skeleton(name: str) -> str:
    """The text of a chapter called ``name``, with the install cell of the others."""
    title = name.partition("_")[2].replace("_", " ")
    cells = [cell for text in chapters() for cell in read_text(text).cells if "%pip" in cell.source]
    exercises = [EXERCISE.format(label=title.replace(" ", "-"), number=number) for number in range(1, 6)]
    first = new_code_cell("print(6 * 7)", metadata={"tags": ["nbval-check-output"]})
    parts = [new_markdown_cell(HEAD.format(title=title.capitalize())), cells[0], new_markdown_cell(IDEA), first]
    return to_text(new_notebook(cells=[*parts, new_markdown_cell("\n\n".join([BODY, *exercises, READING]))]))


def listed(toc: str, name: str) -> str:
    """The table of contents with ``name`` after the chapter that comes before it in the order of numbers."""
    before = max(other for other in re.findall(r"^ *- file: (\d\d[a-z]?_\w+)$", toc, flags=re.M) if other < name)
    return re.sub(rf"^( *- file: ){before}$", rf"\g<0>\n\g<1>{name}", toc, count=1, flags=re.M)


def add(name: str) -> None:
    """Write the text of a new chapter and list it. Raises ChapterError for a name that is wrong or taken."""
    path, toc = SOURCE / f"{name}.md", BOOK / "_toc.yml"
    if not re.fullmatch(r"[1-9]\d[a-z]?_[a-z][a-z0-9_]*", name):
        raise ChapterError(
            f"{name!r} is no name for a chapter; two digits, the first from 1 to 9, a letter where it goes between two others, "
            "and words: 58_priors, 78b_pixels")
    if taken := [text.stem for text in chapters() if text.stem.partition("_")[0] == name.partition("_")[0]]:
        raise ChapterError(f"{taken[0]} has this number already; take a free one")
    table = listed(toc.read_text(encoding="utf-8"), name)
    write_atomically(path, skeleton(name))
    write_atomically(toc, table)
    print(f"book/src/{name}.md: written, and listed in book/_toc.yml; next: make sync, make execute CHAPTER={name}")


def main() -> int:
    add("".join(sys.argv[1:]))
    return 0


if __name__ == "__main__":
    sys.exit(finish(main))
