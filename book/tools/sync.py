"""Texts to notebooks, and notebooks edited in JupyterLab back to texts; nothing is overwritten unseen.

    python book/tools/sync.py                    all chapters: text to notebook
    python book/tools/sync.py --adopt 20_vae     one chapter: notebook back to text
    python book/tools/sync.py --discard 20_vae   all chapters; this one's notebook is overwritten even if edited
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from program import finish

# isort: split
from disk import ChapterError, leftovers, visible, write_atomically

from chapters import (
    BOOK,
    ROOT,
    chapters,
    faithful_text,
    generate,
    notebook_json,
    notebook_path,
    read_notebook,
    read_text,
    refuse_what_texts_cannot_hold,
    text_fingerprint,
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
    written = text.read_bytes()
    canonical = faithful_text(read_text(text), text.stem)
    target = notebook_path(text)
    old = target.read_bytes() if target.exists() else None
    previous = read_notebook(target) if old is not None else None
    if previous is not None and not discard:
        refuse_what_texts_cannot_hold(previous, text.stem)
    changed = canonical.encode() != written
    if changed:
        write_atomically(text, canonical, instead_of=written)
    new = notebook_json(generate(text, previous))
    if new.encode() != old:
        write_atomically(target, new, instead_of=old)
        changed = True
    return changed


def adopt(text: Path) -> str:
    """Bring a notebook's edits into the text; where both were edited, lay the notebook's text beside for a merge."""
    target = notebook_path(text)
    if not target.exists():
        raise ChapterError(f"{text.stem}: there is no notebook; `make sync` generates it")
    written, side = text.read_bytes(), edited_side(text)
    if side in ("none", "text"):
        return f"{text.stem}: the notebook holds no edit of its own; nothing to adopt"
    theirs = faithful_text(read_notebook(target), text.stem)
    if side == "both":
        beside = text.with_name(f"{text.name}.from-notebook")
        if beside.exists() and beside.read_bytes() != theirs.encode():
            raise ChapterError(f"{text.stem}: {beside.relative_to(ROOT)} is there from a merge that is not finished;"
                               " finish it, or delete that file")
        write_atomically(beside, theirs)
        raise ChapterError(
            f"{text.stem}: text and notebook were both edited; the notebook's text is in {beside.relative_to(ROOT)}:"
            f" merge it into {text.relative_to(ROOT)} by hand, delete it, then `make sync DISCARD={text.stem}`"
        )
    write_atomically(text, theirs, instead_of=written)
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
        for path in list(leftovers(BOOK)):
            path.unlink()
            print(f"{path.relative_to(ROOT)}: removed, half a file of a process that was killed")
        stems = {text.stem for text in selected}
        for notebook in visible(BOOK, "*.ipynb"):
            if notebook.stem not in stems:
                print(f"error: {notebook.name} has no text in book/src; `git rm` it or write its text", file=sys.stderr)
                failed = True
    except ChapterError as error:
        print(f"error: {error}", file=sys.stderr)
        failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(finish(main))
