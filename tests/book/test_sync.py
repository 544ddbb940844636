"""Texts and notebooks: the way there, the way back, and that no edit is lost between them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import check
import checksums
import disk
import export
import nbformat
import pytest
import reads
import sync
from conftest import HEADER, ROOT, House, code
from fingerprint import run_fingerprint, why_stale
from hypothesis import given, settings
from hypothesis import strategies as st
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import chapters

TEXTS = sorted((ROOT / "book/src").glob("*.md"))
CELLS = ("Some prose.", code("x = 1"), "More prose.", code("print(x)", "nbval-check-output"), code("y = 2"))


@pytest.fixture
def synced(house: House) -> House:
    """One chapter, 10_a, in both forms, its code run."""
    house.write("10_a", *CELLS)
    assert sync.main([]) == 0
    notebook = read(house)
    for count, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), start=1):
        cell.execution_count = count
        cell.outputs = [new_output("stream", name="stdout", text=f"output {count}\n")]
    write(house, notebook)
    return house


def read(house: House, chapter: str = "10_a") -> NotebookNode:
    return nbformat.read(house.notebook(chapter), as_version=4)


def write(house: House, notebook: NotebookNode, chapter: str = "10_a") -> None:
    house.notebook(chapter).write_text(chapters.notebook_json(notebook), encoding="utf-8")


def text_of(house: House, chapter: str = "10_a") -> str:
    return (house.book / "src" / f"{chapter}.md").read_text(encoding="utf-8")


def edit(house: House, old: str, new: str) -> None:
    """Edit the text, as an author does in an editor."""
    content = text_of(house)
    assert content.count(old) == 1
    (house.book / "src/10_a.md").write_text(content.replace(old, new), encoding="utf-8")


def edit_notebook(house: House, old: str, new: str) -> None:
    """Edit the notebook by some program that knows nothing of its text."""
    notebook = read(house)
    cells = [cell for cell in notebook.cells if old in cell.source]
    assert len(cells) == 1
    cells[0].source = cells[0].source.replace(old, new)
    write(house, notebook)


def outputs(notebook: NotebookNode) -> dict[str, str]:
    return {c.source: "".join(o.text for o in c.outputs) for c in notebook.cells if c.cell_type == "code"}


def snapshot(house: House) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in house.book.rglob("*") if path.suffix in (".md", ".ipynb")}


# There and back


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.stem)
def test_text_to_notebook_to_text_is_identity(text: Path) -> None:
    notebook = chapters.generate(text)
    nbformat.validate(notebook)
    assert chapters.to_text(notebook).encode() == text.read_bytes()
    saved = nbformat.reads(chapters.notebook_json(notebook), as_version=4)
    assert chapters.to_text(saved).encode() == text.read_bytes()


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.stem)
def test_notebooks_are_the_same_whenever_they_are_generated(text: Path) -> None:
    first, second = (chapters.notebook_json(chapters.generate(text)) for _ in range(2))
    assert first == second
    ids = [cell["id"] for cell in json.loads(first)["cells"]]
    assert len(set(ids)) == len(ids)


def test_cell_ids_follow_from_content(house: House) -> None:
    same = code("x = 1")
    house.write("10_a", same, "Words.", same)
    before = [cell.id for cell in chapters.generate(house.book / "src/10_a.md").cells]
    house.write("10_a", "New words first.", same, "Words.", same)
    after = [cell.id for cell in chapters.generate(house.book / "src/10_a.md").cells]
    assert len(set(before)) == 4  # title, x, words, x again
    assert before[1:] == after[1:]
    assert before[0] != after[0]  # prose above the first code cell is one cell with the title


def test_ids_are_pinned(house: House) -> None:
    """A change of the recipe would touch every notebook; it has to be meant."""
    assert chapters.cell_id("code", "x = 1\n", set()) == chapters.cell_id("code", "x = 1", set()) == "9eb61f3177b1"
    assert chapters.cell_id("markdown", "x = 1", set()) != "9eb61f3177b1"


# What becomes of outputs


def test_outputs_stay_when_only_prose_changes(synced: House) -> None:
    before = outputs(read(synced))
    edit(synced, "More prose.", "Other prose, and more of it.\n\n+++\n\nA new cell.")
    assert sync.main([]) == 0
    after = read(synced)
    assert outputs(after) == before == {"x = 1": "output 1\n", "print(x)": "output 2\n", "y = 2": "output 3\n"}
    assert [c.execution_count for c in after.cells if c.cell_type == "code"] == [1, 2, 3]


def test_outputs_go_when_their_code_changes(synced: House) -> None:
    edit(synced, "x = 1", "x = 10")
    assert sync.main([]) == 0
    assert outputs(read(synced)) == {"x = 10": "", "print(x)": "output 2\n", "y = 2": "output 3\n"}
    assert read(synced).cells[1].execution_count is None


def test_outputs_of_edited_code_are_not_given_to_a_cell_that_looks_like_the_old_one(synced: House) -> None:
    """In JupyterLab a cell keeps its id when it is edited; its output belongs to what it says now."""
    notebook = read(synced)
    notebook.cells[1].source = "x = 10"
    notebook.cells[1].outputs[0].text = "ten\n"
    notebook.cells.append(new_code_cell("x = 1"))
    write(synced, notebook)
    assert sync.main(["--adopt", "10_a"]) == 0 and sync.main([]) == 0
    assert outputs(read(synced))["x = 1"] == "" and outputs(read(synced))["x = 10"] == "ten\n"


def test_outputs_survive_new_cell_ids(synced: House) -> None:
    """Some programs give all cells new ids when they save."""
    notebook = read(synced)
    before = outputs(notebook)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"random{number}"
    write(synced, notebook)
    assert sync.main([]) == 0
    assert outputs(read(synced)) == before
    assert [c.id for c in read(synced).cells] == [c.id for c in chapters.generate(synced.book / "src/10_a.md").cells]


def test_second_sync_writes_nothing(synced: House, capsys: pytest.CaptureFixture) -> None:
    assert sync.main([]) == 0
    before = {path: path.stat().st_mtime_ns for path in snapshot(synced)}
    capsys.readouterr()
    assert sync.main([]) == 0
    assert capsys.readouterr().out == ""
    assert before == {path: path.stat().st_mtime_ns for path in snapshot(synced)}


# No edit is lost

EDITS = {
    "prose": lambda house: edit_notebook(house, "More prose", "Better prose"),
    "code": lambda house: edit_notebook(house, "y = 2", "y = 3"),
    "a tag": lambda house: change(house, lambda nb: nb.cells[1].metadata.update(tags=["hide-input"])),
    "a caption": lambda house: change(house, lambda nb: nb.cells[1].metadata.update(mystnb={"image": {"alt": "A"}})),
    "a new cell": lambda house: change(house, lambda nb: nb.cells.append(new_code_cell("z = 3"))),
    "a cell moved": lambda house: change(house, lambda nb: nb.cells.append(nb.cells.pop(1))),
    "a cell deleted": lambda house: change(house, lambda nb: nb.cells.pop(1)),
    "a cell's kind": lambda house: change(house, lambda nb: nb.cells[1].update(cell_type="raw")),
    "one letter": lambda house: edit_notebook(house, "Some prose", "some prose"),
}


def change(house: House, how) -> None:
    notebook = read(house)
    how(notebook)
    if any(cell.cell_type != "code" and "outputs" in cell for cell in notebook.cells):
        for cell in notebook.cells:
            if cell.cell_type != "code":
                cell.pop("outputs", None), cell.pop("execution_count", None)
    write(house, notebook)


@pytest.mark.parametrize("how", EDITS.values(), ids=EDITS)
def test_an_edit_in_a_notebook_is_refused_then_adopted(synced: House, how, capsys: pytest.CaptureFixture) -> None:
    how(synced)
    before, edited = snapshot(synced), read(synced)
    assert sync.main([]) == 1
    message = capsys.readouterr().err
    assert "10_a: the notebook was edited" in message and message.count("\n") == 1
    assert "`make adopt CHAPTER=10_a`" in message and "`make sync DISCARD=10_a`" in message
    assert snapshot(synced) == before

    assert sync.main(["--adopt", "10_a"]) == 0
    assert text_of(synced) == chapters.to_text(edited) != before[synced.book / "src/10_a.md"].decode()
    assert sync.main([]) == 0
    after = read(synced)
    assert [(c.cell_type, c.source) for c in after.cells] == [(c.cell_type, c.source) for c in edited.cells]
    assert [c.metadata for c in after.cells] == [c.metadata for c in edited.cells]
    assert text_of(synced) == chapters.to_text(edited)
    assert [p for p in check.problems() if "make execute" not in p and "cdlm/" not in p] == []


def test_an_edit_can_be_thrown_away_for_one_chapter_only(synced: House, capsys: pytest.CaptureFixture) -> None:
    synced.write("20_b", code("b = 1"))
    assert sync.main([]) == 0
    text = text_of(synced)
    for chapter in ("10_a", "20_b"):
        notebook = read(synced, chapter)
        notebook.cells.append(new_code_cell("edited = True"))
        write(synced, notebook, chapter)
    assert sync.main(["--discard", "10_a"]) == 1
    assert "20_b: the notebook was edited" in capsys.readouterr().err
    assert text_of(synced) == text
    assert "edited" not in chapters.to_text(read(synced)) and "edited" in chapters.to_text(read(synced, "20_b"))


@pytest.mark.parametrize("name", ["1", "0_", "", "10", "30_c"])
def test_throwing_away_needs_the_whole_name(synced: House, name: str, capsys: pytest.CaptureFixture) -> None:
    EDITS["prose"](synced)
    before = snapshot(synced)
    assert sync.main(["--discard", name]) == 1
    assert "whole name" in capsys.readouterr().err
    assert snapshot(synced) == before


def test_where_both_were_edited_both_are_kept(synced: House, capsys: pytest.CaptureFixture) -> None:
    EDITS["prose"](synced)
    edit(synced, "Some prose.", "Prose edited in the text.")
    before = snapshot(synced)
    assert sync.main([]) == 1
    assert "the notebook was edited and so was the text" in capsys.readouterr().err
    assert sync.main(["--adopt", "10_a"]) == 1
    message = capsys.readouterr().err
    assert "book/src/10_a.md.from-notebook" in message and "DISCARD=10_a" in message and message.count("\n") == 1
    assert snapshot(synced) == before
    beside = synced.book / "src/10_a.md.from-notebook"
    assert beside.read_text(encoding="utf-8") == chapters.to_text(read(synced))
    assert any("from-notebook" in problem for problem in check.problems())  # not forgotten

    merged = beside.read_text(encoding="utf-8").replace("Some prose.", "Prose edited in the text.")
    (synced.book / "src/10_a.md").write_text(merged, encoding="utf-8")
    beside.unlink()
    assert sync.main(["--discard", "10_a"]) == 0
    assert {"Better prose.", "# Chapter 10_a\n\nProse edited in the text."} <= {c.source for c in read(synced).cells}


def test_same_edit_in_both_is_no_conflict(synced: House) -> None:
    EDITS["prose"](synced)
    edit(synced, "More prose.", "Better prose.")
    assert sync.main([]) == 0


def test_a_notebook_from_elsewhere_counts_as_edited(synced: House) -> None:
    """Without our fingerprint nobody knows what it was made from."""
    notebook = read(synced)
    notebook.cells[0].source = "# Rewritten on another machine"
    del notebook.metadata["cdlm"]
    write(synced, notebook)
    before = snapshot(synced)
    assert sync.main([]) == 1
    assert snapshot(synced) == before


@pytest.mark.parametrize("arguments", [(), ("--adopt", "10_a")])
def test_pasted_images_are_not_lost(synced: House, arguments: tuple[str, ...], capsys: pytest.CaptureFixture) -> None:
    notebook = read(synced)
    notebook.cells[2].attachments = {"image.png": {"image/png": "iVBORw0KGgo="}}
    if arguments:
        notebook.cells[2].source = "![seen](attachment:image.png)"
    write(synced, notebook)
    before = snapshot(synced)
    assert sync.main(list(arguments)) == 1
    assert "an image is pasted into the notebook" in capsys.readouterr().err
    assert snapshot(synced) == before


def test_adopt_has_nothing_to_do_without_an_edit(synced: House, capsys: pytest.CaptureFixture) -> None:
    before = snapshot(synced)
    assert sync.main(["--adopt", "10_a"]) == 0
    assert "nothing to adopt" in capsys.readouterr().out
    edit(synced, "Some prose.", "An edit of the text is not undone.")
    before = snapshot(synced)
    assert sync.main(["--adopt", "10_a"]) == 0
    assert snapshot(synced) == before


def test_adopt_without_a_name_adopts_every_edit(synced: House) -> None:
    EDITS["prose"](synced)
    assert sync.main(["--adopt", ""]) == 0
    assert "Better prose." in text_of(synced)


# What a text cannot hold


def cell_with(source: str = "", kind: str = "markdown", **metadata: object) -> Callable[[NotebookNode], None]:
    """An edit of a notebook: a new cell at the end."""
    def edit(notebook: NotebookNode) -> None:
        cell = (new_code_cell if kind == "code" else new_markdown_cell)(source)
        cell.metadata.update(metadata)
        notebook.cells.append(cell)
    return edit


UNKEPT = {
    "a form feed": (cell_with("a\x0cb"), "cell 6 cannot be kept in a text: it holds U+000C"),
    "a form feed in code": (cell_with("a = 1\x0cb = 2", "code"), "it holds U+000C"),
    "a vertical tab": (cell_with("a\x0bb"), "it holds U+000B"),
    "line ends of Windows": (cell_with("a\r\nb"), "it holds U+000D"),
    "a line separator": (cell_with("x = 'a\u2028b'", "code"), "it holds U+2028"),
    "a paragraph separator": (cell_with("a\u2029b"), "it holds U+2029"),
    "a next line of mainframes": (cell_with("a\x85b"), "it holds U+0085"),
    "a null": (cell_with("a\0b"), "it holds U+0000"),
    "half a character": (cell_with("a\ud800b"), "it holds U+D800"),
    "a tag with a comma": (cell_with("1", "code", tags=["a,b"]), "'a,b' does not match"),
    "a tag with a line separator": (cell_with("1", "code", tags=["a\u2028b"]), "cannot be kept in a text"),
    "prose that looks like a cell": (cell_with("```{code-cell}\n1\n```"), "cell 6 cannot be kept in a text: it would come back"),
    "prose that looks like a break": (cell_with("+++\na"), "it would come back as something else"),
    "slides": (cell_with("a", slideshow={"slide_type": "slide"}), "cell 6 has metadata 'slideshow', which the text cannot hold"),
    "slides in code": (cell_with("1", "code", slideshow={"slide_type": "slide"}, tags=["a"]), "cell 6 has metadata 'slideshow'"),
    "metadata of the notebook": (lambda notebook: [notebook.metadata.update(rise={"theme": "sky"}), notebook.cells.pop()],
                                 "the notebook has metadata 'rise'"),
}  # fmt: skip


def save_unchecked(house: House, notebook: NotebookNode) -> None:
    house.notebook("10_a").write_text(json.dumps(notebook), encoding="utf-8")


@pytest.mark.parametrize("how, words", UNKEPT.values(), ids=UNKEPT)
def test_adopt_refuses_what_would_not_come_back(synced: House, how, words: str, capsys: pytest.CaptureFixture) -> None:
    notebook = read(synced)
    how(notebook)
    save_unchecked(synced, notebook)
    before = snapshot(synced)
    status, message = sync.main(["--adopt", "10_a"]), capsys.readouterr().err
    errors = [line for line in message.splitlines() if line.startswith("error: ")]
    assert status == 1 and len(errors) == 1 and words in errors[0], message
    assert snapshot(synced) == before


ODD = {
    "fences in code": cell_with("s = '''\n```\n````\n'''", "code"),
    "fences in prose": cell_with("````\n```{note}\n```\n````"),
    "options in code": cell_with(":x: 1\n---\ny", "code"),
    "tags with quotes": cell_with("1", "code", tags=["it's", 'a "b"', "#c", "yes"]),
    "letters of all kinds": cell_with("é ß 漢字 🙂 \u200b \xa0 \ufeff"),
    "tabs": cell_with("if x:\n\ty = 1", "code"),
    "what editors note": cell_with("a", editable=True, jupyter={"source_hidden": True}, collapsed=True),
    "an empty cell": cell_with(""),
    "code that begins with an empty line": cell_with("\n\nx = 1", "code", tags=["a"]),
}


@pytest.mark.parametrize("how", ODD.values(), ids=ODD)
def test_adopt_brings_odd_cells_back_whole(synced: House, how) -> None:
    notebook = read(synced)
    how(notebook)
    cell_with("The end.")(notebook)
    write(synced, notebook)
    assert sync.main(["--adopt", "10_a"]) == 0
    assert chapters.content(chapters.read_text(synced.book / "src/10_a.md")) == chapters.content(notebook)
    assert sync.main([]) == 0 and chapters.content(read(synced)) == chapters.content(notebook)


SOURCES = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(list("\n\n `+:-#{}%$\t\"'")), max_size=60)


@settings(max_examples=150)
@given(SOURCES, st.sampled_from(["code", "markdown"]), st.lists(st.text(max_size=8), max_size=2))
def test_any_cell_comes_back_or_is_refused_in_one_line(source: str, kind: str, tags: list[str]) -> None:
    notebook = new_notebook(cells=[new_markdown_cell("# Title"), new_markdown_cell("The end.")])
    cell = (new_code_cell if kind == "code" else new_markdown_cell)(source)
    cell.metadata["tags"] = tags
    notebook.cells.insert(1, cell)
    try:
        text = chapters.faithful_text(notebook, "10_a")
    except disk.ChapterError as error:
        assert "\n" not in str(error)
    else:
        assert chapters.content(chapters.parse(text.encode().decode(), "10_a.md")) == chapters.content(notebook)


@pytest.mark.parametrize(("old", "new", "words"), [
    ("Some prose.", "Some\u2028prose.", "line 14 holds U+2028; delete it there"),
    ("Some prose.", "Some\x0cprose.", "line 14 holds U+000C"),
    ("Some prose.", "<<<<<<< HEAD\nSome prose.\n=======\nProse.\n>>>>>>> other", "line 14 is the mark of a merge"),
    ("```{code-cell}\nx = 1", "```{code-cell}\n:slideshow: {slide_type: slide}\n\nx = 1", "cell 2 has metadata 'slideshow'"),
    ("More prose.", '+++ {"slideshow": {"slide_type": "slide"}}\n\nMore prose.', "has metadata 'slideshow'"),
    ("kernelspec:", "title: Mine\nkernelspec:", "the notebook has metadata 'title'"),
])  # fmt: skip
def test_sync_refuses_texts_of_which_it_would_lose_something(synced: House, old: str, new: str, words: str,
                                                             capsys: pytest.CaptureFixture) -> None:
    edit(synced, old, new)
    before = snapshot(synced)
    assert sync.main([]) == 1
    message = capsys.readouterr().err
    assert words in message and message.count("\n") == 1
    assert snapshot(synced) == before


def test_a_mark_of_byte_order_is_dropped(synced: House) -> None:
    """As editors of Windows write it."""
    path = synced.book / "src/10_a.md"
    before = path.read_bytes()
    path.write_bytes(b"\xef\xbb\xbf" + before.replace(b"\n", b"\r\n"))
    assert sync.main([]) == 0 and path.read_bytes() == before


def test_a_half_done_merge_is_not_overwritten(synced: House, capsys: pytest.CaptureFixture) -> None:
    EDITS["prose"](synced)
    edit(synced, "Some prose.", "Prose edited in the text.")
    assert sync.main(["--adopt", "10_a"]) == sync.main(["--adopt", "10_a"]) == 1      # nothing new: the same advice
    beside = synced.book / "src/10_a.md.from-notebook"
    beside.write_text("half of it is merged", encoding="utf-8")
    capsys.readouterr()
    assert sync.main(["--adopt", "10_a"]) == 1
    assert "is there from a merge that is not finished; finish it, or delete that file" in capsys.readouterr().err
    assert beside.read_text(encoding="utf-8") == "half of it is merged"


def test_metadata_added_in_the_notebook_are_not_dropped_unsaid(synced: House, capsys: pytest.CaptureFixture) -> None:
    """No edit that the text would show; a sync that has something else to write would lose them."""
    change(synced, lambda notebook: notebook.cells[2].metadata.update(slideshow={"slide_type": "slide"}))
    edit(synced, "Some prose.", "Other prose.")
    before = snapshot(synced)
    assert sync.main([]) == 1
    assert "cell 3 has metadata 'slideshow'" in capsys.readouterr().err and snapshot(synced) == before
    assert sync.main(["--discard", "10_a"]) == 0 and "slideshow" not in synced.notebook("10_a").read_text()


@pytest.mark.parametrize("form", ["text", "notebook"])
def test_an_edit_saved_while_sync_works_is_not_overwritten(synced: House, form: str, monkeypatch: pytest.MonkeyPatch,
                                                           capsys: pytest.CaptureFixture) -> None:
    path = synced.book / "src/10_a.md" if form == "text" else synced.notebook("10_a")
    content = text_of(synced).replace("Some prose.", "Other prose.")
    (synced.book / "src/10_a.md").write_bytes(content.replace("\n", "\r\n").encode())       # written anew in either form

    def slow(notebook: NotebookNode) -> str:
        path.write_text("saved meanwhile", encoding="utf-8")
        return made(notebook)

    where, name = (chapters, "to_text") if form == "text" else (sync, "notebook_json")
    made = getattr(where, name)
    monkeypatch.setattr(where, name, slow)
    assert sync.main([]) == 1
    assert f"error: {path.name} was edited meanwhile, and stays as it was saved" in capsys.readouterr().err
    assert path.read_text(encoding="utf-8") == "saved meanwhile"


# Files that are nobody's

LITTER = [".DS_Store", "._10_a.md", "._10_a.ipynb", ".10_a.md.swp", "10_a.md~", "#10_a.md#", "Thumbs.db", "desktop.ini",
          ".ipynb_checkpoints/10_a-checkpoint.md", ".ipynb_checkpoints/10_a-checkpoint.ipynb", "__MACOSX/10_a.md",
          "._low.py", "__pycache__/low.pyc", "._run-1.json"]  # fmt: skip


@pytest.mark.slow
def test_litter_of_systems_and_editors_is_seen_by_no_tool(synced: House, capsys: pytest.CaptureFixture) -> None:
    (synced.book / "results/run-1.json").write_text("{}")
    clean(synced)
    assert checksums.seal(synced.root) == ["book/results/run-1.json"]
    before, noted = snapshot(synced), reads.contents(synced.root, "book/results/*.json")
    for folder in ("book/src", "book", "book/results", "book/tools", "cdlm", "cdlm/room", "figures"):
        for name in LITTER:
            path = synced.root / folder / name
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_bytes(b"\0\x05\x16\x07\xff")
    assert [path.stem for path in chapters.chapters()] == ["10_a"]
    assert sync.main([]) == export.main([]) == export.main(["--check"]) == 0
    assert check.problems() == [] and checksums.problems(synced.root) == [] and checksums.seal(synced.root) == []
    assert why_stale(read(synced)) == "" and reads.contents(synced.root, "book/results/*.json") == noted
    assert reads.contents(synced.root, "book/results/") == hashlib.sha256(b"run-1.json").hexdigest()[:12]
    assert {path: content for path, content in snapshot(synced).items() if path in before} == before
    assert synced.tool("sync").returncode == synced.tool("export").returncode == 0


def test_what_is_hidden() -> None:
    assert all(disk.hidden(name.partition("/")[0]) for name in LITTER)
    assert not any(map(disk.hidden, ["10_a.md", "10_a.ipynb", "_static", "__init__.py", "10_a.md.from-notebook", "py.typed"]))


# JupyterLab


def save_in_jupyterlab(book: Path, name: str, edit) -> None:
    """Open and save as JupyterLab's server does, through jupytext, with the book's own jupytext.toml."""
    from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
    from jupytext.async_contentsmanager import build_async_jupytext_contents_manager_class

    async def open_edit_save() -> None:
        manager = build_async_jupytext_contents_manager_class(AsyncLargeFileManager)()
        manager.root_dir = str(book)
        notebook = (await manager.get(name, content=True, type="notebook"))["content"]
        edit(notebook)
        notebook.metadata["kernelspec"]["display_name"] = "Python 3 (ipykernel)"
        notebook.metadata["language_info"] = {"name": "python", "version": "3.11.7", "pygments_lexer": "ipython3"}
        await manager.save({"type": "notebook", "format": "json", "content": notebook}, name)

    asyncio.run(open_edit_save())


@pytest.mark.parametrize("newer", ["text", "notebook", "neither"])
def test_a_save_in_jupyterlab_reaches_the_text(synced: House, newer: str) -> None:
    """Whichever file is newer, as after a checkout or a run: the chapter opens, and a save writes both forms."""
    text, notebook = synced.book / "src/10_a.md", synced.notebook("10_a")
    now = time.time()
    for path in (text, notebook):
        age = 0 if newer in ("neither", "text" if path == text else "notebook") else 3600
        os.utime(path, (now - age, now - age))
    before = outputs(read(synced))

    def change(content: NotebookNode) -> None:
        content.cells[2].source = "Written in JupyterLab."
        content.cells[2].metadata["editable"] = True
        content.cells.append(new_code_cell("z = 3", metadata={"tags": []}))

    save_in_jupyterlab(synced.book, "10_a.ipynb", change)
    assert "Written in JupyterLab." in text_of(synced) and "z = 3" in text_of(synced)
    assert "Written in JupyterLab." in {cell.source for cell in read(synced).cells}
    assert sync.main([]) == 0
    assert text_of(synced).startswith(HEADER)
    assert outputs(read(synced)) == before | {"z = 3": ""}
    assert "editable" not in text_of(synced) and "ipython3" not in text_of(synced)
    assert [p for p in check.problems() if "make execute" not in p and "cdlm/" not in p] == []
    assert sync.main([]) == 0


@pytest.mark.slow
def test_jupyterlab_opens_every_chapter(tmp_path: Path) -> None:
    """With notebooks newer than their texts, as `make execute` leaves them; jupytext refuses what it cannot reconcile."""
    (tmp_path / "src").mkdir()
    (tmp_path / "jupytext.toml").write_bytes((ROOT / "book/jupytext.toml").read_bytes())
    assert TEXTS
    for text in TEXTS:
        (tmp_path / "src" / text.name).write_bytes(text.read_bytes())
        os.utime(tmp_path / "src" / text.name, (1e9, 1e9))
        notebook = chapters.notebook_json(chapters.generate(text))
        (tmp_path / f"{text.stem}.ipynb").write_text(notebook, encoding="utf-8")
        save_in_jupyterlab(tmp_path, f"{text.stem}.ipynb", lambda content: None)


# Faults


KILLS = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from disk import write_atomically
target, size = Path(sys.argv[2]), 5_000_000
start = time.monotonic()
write_atomically(target, "a" * size)
once = time.monotonic() - start                            # a write, on this disk and now
for number in range(20):
    before = target.stat().st_mtime_ns
    child = os.fork()
    while child == 0:
        for letter in "bcd":
            write_atomically(target, letter * size)
    while target.stat().st_mtime_ns == before:             # until it has written once
        time.sleep(0.001)
    time.sleep(0.15 * once * number)
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    content = target.read_bytes()
    print(len(content) == size and len(set(content)) == 1, chr(content[0]) if content else "")
"""


@pytest.mark.quiet
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system with fork and SIGKILL")
def test_killed_while_writing_leaves_no_half_file(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLS, ROOT / "book/tools", tmp_path / "10_a.ipynb"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    whole = run.stdout.splitlines()
    assert len(whole) == 20 and all(line.startswith("True") for line in whole), whole
    assert len(set(whole)) > 1  # it was writing when it was killed


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    target = tmp_path / "10_a.md"
    target.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        disk.write_atomically(target, "new" * 100_000 + "\ud800")
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_one_line_and_leaves_the_old_files(synced: House) -> None:
    """Here by a limit on the size of files, at which the system says much the same."""
    before = snapshot(synced)
    edit(synced, "Some prose.", "Some prose.\n" + "word " * 40_000)
    whole = snapshot(synced)
    limited = "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); " \
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)); sys.argv[:] = sys.argv[1:]; " \
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    paths = os.pathsep.join([str(synced.book / "tools"), str(ROOT)])
    run = subprocess.run([sys.executable, "-c", limited, synced.book / "tools/sync.py"], cwd=synced.root, timeout=600,
                         capture_output=True, text=True, env=os.environ | {"PYTHONPATH": paths})
    assert run.returncode == 1 and run.stderr.startswith("error: ") and run.stderr.count("\n") == 1, run.stderr
    assert snapshot(synced) == whole != before and list(disk.leftovers(synced.root)) == []
    assert sync.main([]) == 0


def files_of(house: House) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in house.root.rglob("*") if path.is_file() and "__pycache__" not in path.parts}


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
@pytest.mark.parametrize("tool", ["sync", "export"])
def test_what_is_killed_at_any_moment_is_repaired_by_the_next(house: House, tool: str, capfd: pytest.CaptureFixture) -> None:
    """All texts have line ends of another system, notebooks and modules are missing; a signal comes while they are written."""
    for number in range(10, 40):
        house.write(f"{number}_x", f"Words {number}.", code(f"def f{number}():\n    return {number}", "export:room.middle"))
    assert sync.main([]) == 0 and export.main([]) == 0
    whole = files_of(house)
    texts = {path: content for path, content in whole.items() if path.parent.name == "src"}
    draw, half = random.Random(tool), 0
    for number in range(10):
        for path, content in texts.items():
            path.write_bytes(content.replace(b"\n", b"\r\n"))
        for path in set(whole) - set(texts):
            if path.suffix == ".ipynb" or house.package in path.parents:
                path.unlink()
        process = subprocess.Popen([sys.executable, house.book / f"tools/{tool}.py"], cwd=house.root, stderr=subprocess.PIPE)
        first, deadline = house.notebook("10_x") if tool == "sync" else house.package / "__init__.py", time.monotonic() + 120
        while number % 5 and not first.exists() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(draw.random() * (0.2 if tool == "sync" else 0.02))
        # While Python itself is loading, an interrupt is Python's affair.
        process.send_signal((signal.SIGKILL, signal.SIGTERM, signal.SIGINT)[number % 3 if number % 5 else 0])
        errors = process.communicate(timeout=120)[1].decode()
        assert "Traceback" not in errors and errors.count("\n") <= 1, errors
        half += files_of(house) != whole and first.exists()
        assert all(path.read_bytes().replace(b"\r\n", b"\n") == content for path, content in texts.items()), "no word is lost"
        for path in house.root.rglob(f".*{disk.LEFTOVER}"):
            os.utime(path, (1e9, 1e9))      # an hour later
        assert export.main([]) == 0 and sync.main([]) == 0
        assert files_of(house) == whole
    assert half, "it was killed amid its work"


NOT_NOTEBOOKS = {
    "empty": b"",
    "half": b'{"cells": [{"cell_type": "code"',
    "a merge conflict": b'{\n<<<<<<< HEAD\n "cells": []\n=======\n "cells": []}\n>>>>>>> other\n',
    "a list": b"[]",
    "an object": b"{}",
    "no cells": b'{"nbformat": 4}',
    "a broken cell": b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"cell_type": "code"}]}',
    "binary": b"\xff\xfe\x00\x00",
}


@pytest.mark.parametrize("content", NOT_NOTEBOOKS.values(), ids=NOT_NOTEBOOKS)
def test_corrupt_notebook_gives_one_clear_line(synced: House, content: bytes, capsys: pytest.CaptureFixture) -> None:
    synced.notebook("10_a").write_bytes(content)
    for tool, arguments in ((sync, []), (sync, ["--adopt", "10_a"]), (sync, ["--discard", "10_a"])):
        assert tool.main(arguments) == 1
        message = capsys.readouterr().err
        assert message.startswith("error: 10_a.ipynb is not a notebook") and message.count("\n") == 1
    assert check.main() == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert synced.notebook("10_a").read_bytes() == content
    synced.notebook("10_a").unlink()
    assert sync.main([]) == 0


NOT_TEXTS = {
    "broken front matter": b"---\na: [\n---\n\n# x\n",
    "broken cell options": HEADER.encode() + b"\n```{code-cell}\n:tags: [a\n\n1\n```\n",
    "tags that are no list": HEADER.encode() + b"\n```{code-cell}\n:tags: 'export:low'\n\nx = 1\n```\n",
    "binary": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("content", NOT_TEXTS.values(), ids=NOT_TEXTS)
def test_corrupt_text_gives_one_clear_line(synced: House, content: bytes, capsys: pytest.CaptureFixture) -> None:
    (synced.book / "src/10_a.md").write_bytes(content)
    before = snapshot(synced)
    assert sync.main([]) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: 10_a.md cannot be read") and message.count("\n") == 1
    assert snapshot(synced) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tool", "arguments", "words"),
    [
        ("sync", ("--adopt", "no such"), "no chapter matches 'no such'; there are: 10_a"),
        ("check", (), "10_a.ipynb is not a notebook"),
        ("execute", ("10_a",), "10_a.ipynb is not a notebook"),
    ],
)
def test_command_line_fails_without_a_traceback(synced: House, tool: str, arguments: tuple, words: str) -> None:
    synced.notebook("10_a").write_text("{")
    run = synced.tool(tool, *arguments)
    assert run.returncode == 1
    assert words in run.stderr and "Traceback" not in run.stderr and run.stderr.count("\n") == 1


def test_one_broken_chapter_does_not_stop_the_others(synced: House) -> None:
    synced.write("20_b", code("b = 1"))
    synced.notebook("10_a").write_text("{")
    assert sync.main([]) == 1
    assert synced.notebook("20_b").exists()


def test_notebook_without_a_text_is_reported(synced: House, capsys: pytest.CaptureFixture) -> None:
    (synced.book / "20_b.ipynb").write_bytes(synced.notebook("10_a").read_bytes())
    assert sync.main([]) == 1
    assert "20_b.ipynb has no text" in capsys.readouterr().err
    assert any("20_b.ipynb: a notebook without a text" in problem for problem in check.problems())
    assert (synced.book / "20_b.ipynb").exists()


# What check sees, byte by byte


def clean(house: House) -> House:
    """A house with nothing to complain of, so that a complaint comes from what a test does next."""
    notebook = read(house)
    notebook.metadata["cdlm"]["run"] = run_fingerprint(notebook)
    write(house, notebook)
    assert export.main([]) == 0
    assert check.problems() == []
    return house


DRIFT = {
    "a space in the text": ("src/10_a.md", b"Some prose.", b"Some prose. "),
    "line ends of the text": ("src/10_a.md", b"\n", b"\r\n"),
    "a letter in the text": ("src/10_a.md", b"Some", b"some"),
    "a letter in the notebook": ("10_a.ipynb", b"Some", b"some"),
    "an output": ("10_a.ipynb", b"output 2", b"output 7"),
    "an execution count": ("10_a.ipynb", b'"execution_count": 2', b'"execution_count": null'),
    "the notebook's layout": ("10_a.ipynb", b"\n  ", b"\n   "),
    "line ends of the notebook": ("10_a.ipynb", b"\n", b"\r\n"),
    "a cell id": ("10_a.ipynb", b'"id": "', b'"id": "f'),
    "the last byte": ("10_a.ipynb", b"}\n", b"}"),
}


@pytest.mark.parametrize(("name", "old", "new"), DRIFT.values(), ids=DRIFT)
def test_check_sees_drift(synced: House, name: str, old: bytes, new: bytes) -> None:
    path = clean(synced).book / name
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1) if old != b"}\n" else content[:-1])
    assert [problem for problem in check.problems() if problem.startswith("10_a")] != []


def test_check_sees_an_error_in_the_outputs(synced: House) -> None:
    notebook = read(synced)
    notebook.cells[1].outputs = [new_output("error", ename="E", evalue="v", traceback=[])]
    notebook.metadata["cdlm"]["run"] = run_fingerprint(notebook)
    write(synced, notebook)
    assert "10_a: a cell ended in an error" in check.problems()
