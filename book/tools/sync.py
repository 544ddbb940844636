"""Texts to notebooks, and notebooks edited in JupyterLab back to texts; nothing is overwritten unseen.

    python book/tools/sync.py                    all chapters: text to notebook
    python book/tools/sync.py --adopt 20_vae     one chapter: notebook back to text
    python book/tools/sync.py --discard 20_vae   all chapters; this one's notebook is overwritten even if edited
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nbformat import NotebookNode

from chapters import (
    BOOK,
    ROOT,
    ChapterError,
    chapters,
    generate,
    notebook_json,
    notebook_path,
    read_notebook,
    read_text,
    text_fingerprint,
    to_text,
    write_atomically,
)


def edited_side(text: Path) -> str:
    """Which form of the chapter was edited since the last sync: "none", "text", "notebook" or "both"."""
    target = notebook_path(text)
    if not target.exists():
        return "text"
    notebook = read_notebook(target)
    now_text, now_notebook = text_fingerprint(read_text(text)), text_fingerprint(notebook)
    if now_text == now_notebook:
        return "none"
    # A notebook without our fingerprint was made elsewhere: count it as edited.
    generated_from = notebook.metadata.get("cdlm", {}).get("text")
    if now_notebook == generated_from:
        return "text"
    return "notebook" if now_text == generated_from else "both"


def refuse_attachments(notebook: NotebookNode, text: Path) -> None:
    """Images pasted into a notebook have no place in the text; say so before they are lost."""
    if any(cell.get("attachments") for cell in notebook.cells):
        raise ChapterError(
            f"{text.stem}: an image is pasted into the notebook, which the text cannot hold; save it as a file in"
            f" figures/ and link that (`make sync DISCARD={text.stem}` throws it away)"
        )


def sync(text: Path, discard: bool = False) -> bool:
    """Write the notebook of ``text`` if it differs; true if anything was written."""
    side = edited_side(text)
    if side in ("notebook", "both") and not discard:
        raise ChapterError(
            f"{text.stem}: the notebook was edited"
            + (" and so was the text" if side == "both" else "")
            + f"; `make adopt CHAPTER={text.stem}` brings the notebook's edits into the text,"
            + f" `make sync DISCARD={text.stem}` throws them away"
        )
    canonical = to_text(read_text(text))
    changed = canonical.encode() != text.read_bytes()
    if changed:
        write_atomically(text, canonical)
    target = notebook_path(text)
    previous = read_notebook(target) if target.exists() else None
    if previous is not None and not discard:
        refuse_attachments(previous, text)
    new = notebook_json(generate(text, previous))
    if not target.exists() or target.read_bytes() != new.encode():
        write_atomically(target, new)
        changed = True
    return changed


def adopt(text: Path) -> str:
    """Bring a notebook's edits into the text; where both were edited, lay the notebook's text beside for a merge."""
    target = notebook_path(text)
    if not target.exists():
        raise ChapterError(f"{text.stem}: there is no notebook; `make sync` generates it")
    side = edited_side(text)
    if side in ("none", "text"):
        return f"{text.stem}: the notebook holds no edit of its own; nothing to adopt"
    refuse_attachments(read_notebook(target), text)
    theirs = to_text(read_notebook(target))
    if side == "both":
        beside = text.with_name(f"{text.name}.from-notebook")
        write_atomically(beside, theirs)
        raise ChapterError(
            f"{text.stem}: text and notebook were both edited; the notebook's text is in {beside.relative_to(ROOT)}:"
            f" merge it into {text.relative_to(ROOT)} by hand, delete it, then `make sync DISCARD={text.stem}`"
        )
    write_atomically(text, theirs)
    return f"{text.stem}: text updated from the notebook"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--adopt", metavar="CHAPTER", help="bring this chapter's notebook edits back into its text")
    parser.add_argument("--discard", metavar="CHAPTER", help="overwrite this chapter's notebook even if it was edited")
    options = parser.parse_args(arguments)
    failed = False
    try:
        selected = chapters(options.adopt or "")
        if options.discard is not None and options.discard not in {text.stem for text in selected}:
            raise ChapterError(f"--discard wants the whole name of a chapter, not {options.discard!r}")
        for text in selected:
            try:
                if options.adopt is not None:
                    print(adopt(text))
                elif sync(text, discard=text.stem == options.discard):
                    print(f"{text.stem}: written")
            except ChapterError as error:
                print(f"error: {error}", file=sys.stderr)
                failed = True
        if options.adopt is not None:
            return int(failed)
        stems = {text.stem for text in selected}
        for notebook in sorted(BOOK.glob("*.ipynb")):
            if notebook.stem not in stems:
                print(f"error: {notebook.name} has no text in book/src; `git rm` it or write its text", file=sys.stderr)
                failed = True
    except ChapterError as error:
        print(f"error: {error}", file=sys.stderr)
        failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
