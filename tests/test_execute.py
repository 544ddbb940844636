"""Running chapters: when it is needed, what happens when it fails, and that a second run changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import check
import execute
import export
import nbformat
import pytest
import sync
from conftest import ROOT, House, code
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_output

import chapters


def read(house: House, chapter: str = "10_a") -> NotebookNode:
    return nbformat.read(house.notebook(chapter), as_version=4)


# When outputs are out of date


@pytest.fixture
def current(house: House) -> House:
    """A chapter that imports ``high``, which imports ``room.middle``; its outputs are current, as if just executed."""
    house.write("05_low", code("def unused():\n    return 0", "export:low"), code("def f():\n    return 1", "export:room.middle"))
    house.write("06_high", code("def g():\n    return f()", "export:high"))
    house.write(
        "10_a",
        "Prose.",
        code("from cdlm.high import g"),
        code('record = read_record("run-1")'),
        code('log, runs = Path("results/run-3.json"), Path("results/runs")'),
        code("print(g(), record)"),
    )
    (house.book / "results/run-1.json").write_text('{"accuracy": 0.5}')
    (house.book / "results/run-2.json").write_text('{"accuracy": 0.6}')
    (house.book / "results/run-3.json").write_text('{"accuracy": 0.8}')
    (house.book / "results/runs").mkdir()
    (house.book / "results/runs/one.json").write_text('{"accuracy": 0.9}')
    assert sync.main([]) == 0 and export.main([]) == 0
    mark_as_run(house)
    assert not execute.stale(read(house))
    return house


def mark_as_run(house: House) -> None:
    notebook = read(house)
    for count, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), start=1):
        cell.execution_count = count
    notebook.cells[-1].outputs = [new_output("stream", name="stdout", text="1 0.5\n")]
    notebook.metadata["cdlm"]["run"] = chapters.run_fingerprint(notebook)
    house.notebook("10_a").write_text(chapters.notebook_json(notebook), encoding="utf-8")


def replace(house: House, name: str, old: str, new: str) -> None:
    path = house.root / name
    content = path.read_text(encoding="utf-8")
    assert content.count(old) == 1
    path.write_text(content.replace(old, new), encoding="utf-8")


CHANGES = {
    "the code": (True, "book/src/10_a.md", "print(g(), record)", "print(g(), record, 1)"),
    "a comment in the code": (True, "book/src/10_a.md", "print(g(), record)", "print(g(), record)  # see"),
    "an imported module": (True, "cdlm/high.py", "return f()", "return f() + 1"),
    "a module imported by a module": (True, "cdlm/room/middle.py", "return 1", "return 2"),
    "a comment in a module": (True, "cdlm/high.py", "return f()", "return f()  # see"),
    "the heading that a module names": (False, "cdlm/high.py", "# 06_high: Chapter 06_high\n", "# 06_high: Elsewhere\n\n"),
    "a record it reads": (True, "book/results/run-1.json", "0.5", "0.7"),
    "a file of results that it names": (True, "book/results/run-3.json", "0.8", "0.7"),
    "a run, where it reads them all": (True, "book/results/runs/one.json", "0.9", "0.7"),
    "an output": (True, "book/10_a.ipynb", "1 0.5", "1 0.9"),
    "prose": (False, "book/src/10_a.md", "Prose.", "Other prose."),
    "a module it does not import": (False, "cdlm/low.py", "return 0", "return 1"),
    "a record it does not read": (False, "book/results/run-2.json", "0.6", "0.7"),
}


@pytest.mark.parametrize(("stale", "name", "old", "new"), CHANGES.values(), ids=CHANGES)
def test_staleness_follows(current: House, stale: bool, name: str, old: str, new: str) -> None:
    replace(current, name, old, new)
    assert sync.main([]) == 0
    assert execute.stale(read(current)) is stale
    assert any(problem.startswith("10_a: outputs are not of a whole run") for problem in check.problems()) is stale


def test_cells_added_removed_or_moved_make_a_chapter_stale(current: House) -> None:
    for change in (
        lambda cells: cells.append(new_code_cell("1", execution_count=4)),
        lambda cells: cells.pop(1),
        lambda cells: cells.insert(1, cells.pop(2)),
    ):
        notebook = read(current)
        change(notebook.cells)
        assert execute.stale(notebook)


def test_half_a_run_is_stale(current: House) -> None:
    notebook = read(current)
    notebook.cells[2].execution_count = None
    assert execute.stale(notebook)


def test_a_chapter_that_was_never_run_is_stale(house: House) -> None:
    house.write("10_a", "Only prose.")
    assert sync.main([]) == 0
    assert execute.stale(read(house))


@pytest.mark.parametrize(
    "line",
    ["import cdlm.room.middle", "from cdlm.room import middle", "from cdlm.room.middle import f as h", "import cdlm.high as x"],
)
def test_every_way_of_importing_counts(current: House, line: str) -> None:
    nested = "%matplotlib inline\n!ls\ndef later():\n    " + line
    for source in (line, nested):
        assert current.package / "room/middle.py" in chapters.dependencies(source)
    assert current.package / "low.py" not in chapters.dependencies(line)


def test_what_is_current_is_not_run(current: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(execute, "run", lambda notebook: pytest.fail("was run"))
    assert execute.main(["10_a"]) == 0
    assert capsys.readouterr().out == "10_a: up to date\n"


# Real runs


def test_an_error_leaves_the_notebook_untouched(house: House, capsys: pytest.CaptureFixture) -> None:
    house.write("10_a", code("print('before')"), code("def fail():\n    return 1 / 0\n\nfail()"), code("print('after')"))
    house.write("20_b", code("print('well')"))
    assert sync.main([]) == 0
    before = house.notebook("10_a").read_bytes()
    assert execute.main([]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("error: 10_a: ") and "return 1 / 0" in printed.err and "\x1b" not in printed.err
    assert printed.err.rstrip().endswith("ZeroDivisionError: division by zero")
    assert "20_b: executed" in printed.out  # one chapter's error does not stop the others
    assert house.notebook("10_a").read_bytes() == before
    assert not execute.stale(read(house, "20_b")) and read(house, "20_b").cells[-1].outputs[0].text == "well\n"


@pytest.mark.parametrize(
    ("source", "words"),
    [("import os; os._exit(3)", "died"), ("while True:\n    pass", "timed out")],
    ids=["the kernel dies", "it takes too long"],
)
def test_a_run_that_does_not_end_well_is_reported(
    house: House, source: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(execute, "CELL_TIMEOUT_S", 2)
    house.write("10_a", code(source))
    assert sync.main([]) == 0
    before = house.notebook("10_a").read_bytes()
    assert execute.main([]) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: 10_a: ") and words in message
    assert house.notebook("10_a").read_bytes() == before


def test_a_path_of_this_machine_is_refused(house: House, capsys: pytest.CaptureFixture) -> None:
    house.write("10_a", code("import os\nprint('I live in', os.getcwd())"))
    assert sync.main([]) == 0
    before = house.notebook("10_a").read_bytes()
    assert execute.main([]) == 1
    assert "an output holds a path of this machine" in capsys.readouterr().err
    assert house.notebook("10_a").read_bytes() == before


PLACES = [ROOT / "cdlm", Path(sys.prefix) / "lib", Path.home() / "data", Path(tempfile.gettempdir()) / "ipykernel_7/1.py"]


@pytest.mark.parametrize("place", PLACES, ids=["repository", "environment", "home", "temporary"])
def test_machine_paths_are_seen_in_every_kind_of_text(place: Path) -> None:
    outputs = [
        new_output("stream", name="stderr", text=f"{place}: UserWarning"),
        new_output("execute_result", {"text/plain": f"PosixPath('{place}')"}),
        new_output("display_data", {"text/html": f"<b>{place}</b>"}),
        new_output("display_data", {"image/svg+xml": f"<svg><!-- {place} --></svg>"}),
    ]
    for output in outputs:
        assert execute.machine_path(new_code_cell("x", outputs=[output]))
    harmless = [new_output("stream", text="see https://example.org/home, /data/images"), new_output("display_data", {})]
    assert execute.machine_path(new_code_cell("x", outputs=harmless)) is None
    image = new_output("display_data", {"image/png": f"iVBOR{place}"})  # base64 may spell anything
    assert execute.machine_path(new_code_cell("x", outputs=[image])) is None


def test_a_second_run_changes_no_byte(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes, sets and warnings come out the same; the kernel gets the profile of the book, whatever the shell has."""
    monkeypatch.setenv("CDLM_PROFILE", "smoke")
    odds = "import os\nprint(os.environ['CDLM_PROFILE'], hash('a'), {'a', 'b', 'c'})\nos.path"
    house.write("10_a", code(odds), code("import sys\nprint('warned', file=sys.stderr)"))
    assert sync.main([]) == 0
    seen = []
    for _ in range(2):
        assert execute.main(["10_a", "--force"]) == 0
        seen.append(house.notebook("10_a").read_bytes())
    assert seen[0] == seen[1]
    assert json.loads(seen[0])["cells"][1]["outputs"][0]["text"][0].startswith("book ")
    assert not execute.stale(read(house))
    assert [problem for problem in check.problems() if "cdlm/" not in problem] == []
    assert sync.main([]) == 0 and house.notebook("10_a").read_bytes() == seen[0]


def test_sliders_leave_nothing_behind(house: House) -> None:
    """The ids of widgets are random: neither the view of one nor its state is kept; what else a cell says is."""
    slider = "from ipywidgets import IntSlider, interactive\nprint('kept')\ninteractive(lambda x: print(x), x=IntSlider(7))"
    house.write("10_a", code(slider), code("print('after')"))
    assert sync.main([]) == 0
    seen = []
    for _ in range(2):
        assert execute.main(["10_a", "--force"]) == 0
        seen.append(house.notebook("10_a").read_bytes())
    assert seen[0] == seen[1] and b"widget-view" not in seen[0]
    notebook = read(house)
    assert "widgets" not in notebook.metadata and not execute.stale(notebook)
    assert [[output.text for output in cell.outputs] for cell in notebook.cells[1:]] == [["kept\n"], ["after\n"]]


@pytest.mark.slow
def test_a_second_run_of_a_chapter_with_figures_changes_no_byte(house: House) -> None:
    shutil.copy(ROOT / "book/src/95_figures.md", house.book / "src")
    assert sync.main([]) == 0
    seen = []
    for _ in range(2):
        assert execute.main(["95_figures", "--force"]) == 0
        seen.append(house.notebook("95_figures").read_bytes())
    assert seen[0] == seen[1]
    assert seen[0].count(b"image/svg+xml") >= 3


def test_smoke_profile_is_handed_to_the_kernel() -> None:
    """And taken from nowhere else: what the process had is overwritten."""
    before = dict(os.environ)
    try:
        notebook = nbformat.v4.new_notebook(cells=[new_code_cell("import os\nprint(os.environ['CDLM_PROFILE'])")])
        assert execute.run(notebook, profile="smoke").cells[0].outputs[0].text == "smoke\n"
    finally:
        os.environ.clear()
        os.environ.update(before)
