"""Fail on one byte of drift between texts, notebooks and package, and on outputs not of a whole, current run."""

from __future__ import annotations

import sys
from pathlib import Path

from program import finish

# isort: split
from disk import ChapterError, visible
from export import drift, package_files
from fingerprint import why_stale

from chapters import (
    BOOK,
    SOURCE,
    chapters,
    generate,
    notebook_json,
    notebook_path,
    read_notebook,
    read_text,
    to_text,
)


def chapter_problems(text: Path) -> list[str]:
    target = notebook_path(text)
    written = text.read_bytes()
    if to_text(read_text(text)).encode() != written:
        return [f"{text.stem}: the text is not in canonical form; `make sync`"]
    if not target.exists():
        return [f"{text.stem}: no notebook; `make sync`"]
    notebook = read_notebook(target)
    if to_text(notebook).encode() != written:
        return [f"{text.stem}: text and notebook differ; `make sync`, or `make adopt` if the notebook is right"]
    if notebook_json(generate(text, notebook)).encode() != target.read_bytes():
        return [f"{text.stem}: the notebook is not as generated; `make sync`"]
    problems = []
    if why := why_stale(notebook):
        problems.append(f"{text.stem}: stale, because {why}; `make execute`")
    if any(output.output_type == "error" for cell in notebook.cells for output in cell.get("outputs", [])):
        problems.append(f"{text.stem}: a cell ended in an error")
    return problems


def problems() -> list[str]:
    texts = chapters()
    found = [problem for text in texts for problem in chapter_problems(text)]
    names = {text.stem for text in texts}
    found += [f"{path.name}: a notebook without a text" for path in visible(BOOK, "*.ipynb") if path.stem not in names]
    found += [f"{path.name}: not a chapter" for path in visible(SOURCE) if path.suffix != ".md"]
    return found + drift(package_files(texts))


def main() -> int:
    try:
        found = problems()
    except ChapterError as error:
        found = [str(error)]
    for problem in found:
        print(f"error: {problem}", file=sys.stderr)
    if not found:
        print("texts, notebooks and package agree")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(finish(main))
