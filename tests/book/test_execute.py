"""Running chapters: when it is needed, what happens when it fails, and that a second run changes nothing."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import check
import execute
import export
import fingerprint
import nbformat
import program
import psutil
import pytest
import sync
from conftest import ROOT, House, code
from fingerprint import why_stale
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook, new_output
from reads import contents

import chapters


def read(house: House, chapter: str = "10_a") -> NotebookNode:
    return nbformat.read(house.notebook(chapter), as_version=4)


# When outputs are out of date


READS = ["book/results/run-1.json", "book/results/runs/a_*_s*.json"]


@pytest.fixture
def current(house: House) -> House:
    """A chapter that uses ``g``, which uses ``f`` of another room; its outputs are current, as if just executed."""
    house.write("05_low", code("def unused():\n    return 0", "export:low"),
                code("LIMIT = 1\n\ndef f(x=LIMIT):\n    \"\"\"One.\"\"\"\n    return x", "export:room.middle"),
                code("def beside():\n    return 5", "export:room.middle"))  # fmt: skip
    house.write("06_high", code("import math\n\ndef g() -> int:\n    beside = math.floor(f())\n    return beside", "export:high"))
    house.write(
        "10_a",
        "Prose.",
        code("from cdlm.high import g"),
        code("name = 'run-1'\nrecord = read_record(name)\n\ndef show(x):\n    print(x)"),
        code("show(g())"),
    )
    for name, value in {"run-1": 0.5, "run-2": 0.6, "runs/a_x_s1": 0.9, "runs/b_x_s1": 0.3}.items():
        path = house.book / f"results/{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"accuracy": value}))
    assert sync.main([]) == 0 and export.main([]) == 0
    mark_as_run(house)
    assert why_stale(read(house)) == ""
    return house


def mark_as_run(house: House) -> None:
    notebook = read(house)
    for count, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), start=1):
        cell.execution_count = count
    notebook.cells[-1].outputs = [new_output("stream", name="stdout", text="1 0.5\n")]
    parts = fingerprint.state(notebook, {pattern: contents(house.root, pattern) for pattern in READS})
    notebook.metadata["cdlm"] |= parts | {"run": fingerprint.run_hash(parts)}
    house.notebook("10_a").write_text(chapters.notebook_json(notebook), encoding="utf-8")


def replace(house: House, name: str, old: str, new: str) -> None:
    path = house.root / name
    content = path.read_text(encoding="utf-8") if path.exists() else ""
    assert content.count(old) == 1 or not content
    path.write_text(content.replace(old, new) if content else new, encoding="utf-8")


A, HIGH, MIDDLE = "book/src/10_a.md", "cdlm/high.py", "cdlm/room/middle.py"
NOT_STALE = {
    "prose": (A, "Prose.", "Other prose."),
    "a comment in the code": (A, "show(g())", "show(g())  # see"),
    "a line broken elsewhere": (A, "show(g())", "show(\n    g()\n)"),
    "an import that is not used": (A, "from cdlm.high import g", "import os\n\nfrom cdlm.high import g"),
    "a docstring in the code": (A, "    print(x)", "    'Shows.'\n    print(x)"),
    "a cell split in two": (A, "\n\ndef show(x)", "\n```\n\n```{code-cell}\ndef show(x)"),
    "a comment in a module": (HIGH, "return beside", "return beside  # see"),
    "a docstring in a module": (MIDDLE, "One.", "Another one."),
    "an annotation": (HIGH, "-> int", "-> float"),
    "the heading that a module names": (HIGH, "# 06_high: Chapter 06_high\n", "# 06_high: Elsewhere\n\n"),
    "a function it does not use": ("cdlm/low.py", "return 0", "return 1"),
    "a function of the same room that it does not use, with the name of a local variable": (MIDDLE, "return 5", "return 6"),
    "a record it does not read": ("book/results/run-2.json", "0.6", "0.7"),
    "a record that does not match": ("book/results/runs/b_x_s1.json", "0.3", "0.7"),
    "a new record that does not match": ("book/results/runs/b_x_s2.json", "", "{}"),
}
STALE = {
    "the code": ("the code of the chapter changed", A, "    print(x)", "    print(x, 1)"),
    "a function": ("`g` (cdlm.high) changed", HIGH, "return beside", "return beside + 1"),
    "a function of a function": ("`f` (cdlm.room.middle) changed", MIDDLE, "    return x", "    return x + 1"),
    "a default": ("`f` (cdlm.room.middle) changed", MIDDLE, "x=LIMIT", "x=2"),
    "a constant": ("`LIMIT` (cdlm.room.middle) changed", MIDDLE, "LIMIT = 1", "LIMIT = 2"),
    "a name from elsewhere": ("`math` changed", HIGH, "import math", "import numpy as math"),
    "a record it reads": ("results/run-1.json changed", READS[0], "0.5", "0.7"),
    "a record that matches": ("results/runs/a_*_s*.json changed", "book/results/runs/a_x_s1.json", "0.9", "0.7"),
    "a new record that matches": ("results/runs/a_*_s*.json changed", "book/results/runs/a_y_s1.json", "", "{}"),
    "an output": ("its outputs were edited", "book/10_a.ipynb", "1 0.5", "1 0.9"),
}


@pytest.mark.parametrize(("name", "old", "new"), NOT_STALE.values(), ids=NOT_STALE)
def test_what_changes_no_result_makes_nothing_stale(current: House, name: str, old: str, new: str) -> None:
    replace(current, name, old, new)
    assert sync.main([]) == 0
    assert why_stale(read(current)) == ""
    assert not any(problem.startswith("10_a: stale") for problem in check.problems())


@pytest.mark.parametrize(("why", "name", "old", "new"), STALE.values(), ids=STALE)
def test_staleness_has_a_cause(current: House, why: str, name: str, old: str, new: str) -> None:
    replace(current, name, old, new)
    assert sync.main([]) == 0
    found = [problem for problem in check.problems() if problem.startswith("10_a: stale")]
    if why == "the code of the chapter changed":        # and with it its cell's outputs
        why = "not all of its cells were run"
    assert found == [f"10_a: stale, because {why}; `make execute`"]


def test_a_definition_may_move_and_a_room_may_change_its_name(current: House) -> None:
    """Here by hand: the function goes to another module, and the chapter's import with it."""
    (current.package / "attic.py").write_text("import math\nfrom cdlm.low import f\n\ndef g():\n"
                                              "    beside = math.floor(f())\n    return beside\n")
    (current.package / "room/middle.py").rename(current.package / "low.py")
    replace(current, A, "cdlm.high", "cdlm.attic")
    assert sync.main([]) == 0
    assert why_stale(read(current)) == ""


def test_outputs_stay_where_a_cell_without_any_is_split(current: House) -> None:
    replace(current, A, "\n\ndef show(x)", "\n```\n\n```{code-cell}\ndef show(x)")
    assert sync.main([]) == 0
    cells = [cell for cell in read(current).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == [1, 2, 3, 4] and cells[-1].outputs[0].text == "1 0.5\n"


def test_a_printed_version_counts_and_no_other(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.write("10_a", code("import numpy\nfrom importlib.metadata import version\nprint(version('numpy'), len('torch'))"))
    assert sync.main([]) == 0 and execute.main(["--jobs", "1"]) == 0
    notebook = read(house)
    assert list(notebook.metadata["cdlm"]["versions"]) == ["numpy"] and why_stale(notebook) == ""
    monkeypatch.setattr(fingerprint, "version", lambda name: {"numpy": "9.0"}.get(name, "1.0"))
    assert why_stale(notebook).endswith("and 9.0 is installed")


def test_cells_added_removed_or_moved_make_a_chapter_stale(current: House) -> None:
    for change in (
        lambda cells: cells.append(new_code_cell("1", execution_count=4)),
        lambda cells: cells.pop(2),
        lambda cells: cells.insert(3, cells.pop(2)),
    ):
        notebook = read(current)
        change(notebook.cells)
        assert why_stale(notebook)


def test_half_a_run_is_stale(current: House) -> None:
    notebook = read(current)
    notebook.cells[2].execution_count = None
    assert why_stale(notebook) == "not all of its cells were run"


def test_a_chapter_that_was_never_run_is_stale(house: House) -> None:
    house.write("10_a", "Only prose.")
    assert sync.main([]) == 0
    assert why_stale(read(house)) == "it was never run by `make execute`"


@pytest.mark.parametrize(
    "line",
    ["import cdlm.high\ncdlm.high.g()", "from cdlm import high\nhigh.g()", "from cdlm.high import g as h\nh()",
     "import cdlm.high as x\nx.g()", "from cdlm import high\nf(high)",
     "from importlib import import_module\nimport_module('cdlm.high')",
     "def later():\n    from cdlm.high import g\n    return g()", "%matplotlib inline\n!ls\nfrom cdlm.high import g\ng()"],
)  # fmt: skip
def test_every_way_of_using_counts(current: House, line: str) -> None:
    used = fingerprint.state(new_notebook(cells=[new_code_cell(line)]))["uses"]
    assert {"f", "g", "LIMIT", "math"} <= set(used) and not {"unused", "beside"} & set(used)


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
    assert not why_stale(read(house, "20_b")) and read(house, "20_b").cells[-1].outputs[0].text == "well\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "words"),
    [("import os; os._exit(3)", "died"), ("while True:\n    pass", "timed out"),
     ("import faulthandler, sys\nfaulthandler.enable(sys.__stderr__)\nfaulthandler._sigsegv()", "Segmentation fault")],
    ids=["the kernel dies", "it takes too long", "it says why it dies"],
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


def test_what_a_kernel_says_as_it_ends_is_not_told(house: House, capfd: pytest.CaptureFixture) -> None:
    house.write("10_a", code("import atexit, os\n_ = atexit.register(os.write, 2, b'a socket is gone')\nprint('well')"))
    assert sync.main([]) == 0
    capfd.readouterr()
    assert execute.main([]) == 0
    printed = capfd.readouterr()
    assert printed.out.startswith("10_a: executed in ") and printed.err == ""
    assert [output.text for cell in read(house, "10_a").cells for output in cell.get("outputs", [])] == ["well\n"]


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
    assert not why_stale(read(house))
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
    assert "widgets" not in notebook.metadata and not why_stale(notebook)
    assert [[output.text for output in cell.outputs] for cell in notebook.cells[1:]] == [["kept\n"], ["after\n"]]


@pytest.mark.slow
def test_a_second_run_of_a_chapter_with_figures_changes_no_byte(house: House) -> None:
    shutil.copy(ROOT / "book/src/01_toolbox.md", house.book / "src")
    assert sync.main([]) == 0
    seen = []
    for _ in range(2):
        assert execute.main(["01_toolbox", "--force"]) == 0
        seen.append(house.notebook("01_toolbox").read_bytes())
    assert seen[0] == seen[1]
    assert seen[0].count(b"image/svg+xml") >= 3


def test_smoke_profile_is_handed_to_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """And taken from nowhere else: what the process had is overwritten."""
    monkeypatch.setenv("CDLM_PROFILE", "full")
    notebook = new_notebook(cells=[new_code_cell("import os\nprint(os.environ['CDLM_PROFILE'])")])
    assert execute.run(notebook, profile="smoke").cells[0].outputs[0].text == "smoke\n"


# What is noted, several kernels, and interrupts


READING = """
import subprocess, sys
from pathlib import Path
name = "run"
text = Path(f"results/{name}-1.json").read_text()
sys.audit("cdlm.read_records", "results/runs", "a_*.json")
runs = [path.read_text() for path in sorted(Path("results/runs").glob("a_*.json"))]
child = "open('results/run-3.json').read(); open('results/written.txt', 'w').write('x')"
subprocess.run([sys.executable, "-c", child], check=True)
print(text, len(runs))
"""


def test_files_that_a_chapter_and_its_processes_read_are_noted(house: House) -> None:
    (house.book / "results/runs").mkdir()
    for name in ("run-1", "run-2", "run-3", "runs/a_1", "runs/a_2", "runs/b_1"):
        (house.book / f"results/{name}.json").write_text("{}")
    house.write("10_a", code(READING))
    assert sync.main([]) == 0 and execute.main([]) == 0
    noted = read(house).metadata["cdlm"]["reads"]
    assert list(noted) == ["book/results/run-1.json", "book/results/run-3.json", "book/results/runs/a_*.json"]
    assert all(noted[pattern] == contents(house.root, pattern) for pattern in noted) and not why_stale(read(house))
    (house.book / "results/run-3.json").write_text("{ }")
    assert why_stale(read(house)) == "results/run-3.json changed"


TABLE = """
import sys
class Noted(dict):
    def __init__(self, place, entries):
        super().__init__(entries)
        self.place = place
    def __getitem__(self, name):
        sys.audit("cdlm.lookup", self.place, name)
        return super().__getitem__(name)
def one():
    return 1
def two():
    return 2
THINGS = Noted("cdlm.low.THINGS", {"one": (one, 1), "two": (two, 2)})
"""


ASKING = """
import os, sys
sys.path.insert(0, os.path.dirname(os.getcwd()))
from cdlm.low import THINGS
name = "o" + "ne"
print(THINGS[name][0]())
"""


def test_of_a_table_that_notes_it_only_entries_that_are_looked_up_count(house: House) -> None:
    house.write("10_a", code(TABLE, "export:low"))
    house.write("20_b", code(ASKING))
    export.main([])
    assert sync.main([]) == 0 and execute.main([]) == 0
    assert list(read(house, "20_b").metadata["cdlm"]["reads"]) == ["cdlm.low.THINGS[one]"]

    def why(old: str, new: str) -> str:
        house.write("10_a", code(TABLE.replace(old, new), "export:low"))
        assert export.main([]) == 0
        return why_stale(read(house, "20_b"))

    assert why("return 2", "return 3") == "" == why(', "two": (two, 2)', ', "two": (two, 2), "three": (two, 3)')
    assert why("return 1", "return 4") == "`one` (cdlm.low) changed"
    assert why('"one": (one, 1)', '"one": (one, 5)') == "`THINGS[one]` (cdlm.low) changed"
    assert why('"one": (one, 1), ', "") == "`THINGS[one]`, `one` (cdlm.low) changed"


def test_a_listing_of_records_around_the_door_is_noted(house: House) -> None:
    (house.book / "results/run-1.json").write_text("{}")
    house.write("10_a", code("from pathlib import Path\nprint(len(list(Path('results').glob('*.json'))))"))
    assert sync.main([]) == 0 and execute.main([]) == 0
    assert list(read(house).metadata["cdlm"]["reads"]) == ["book/results/"]
    (house.book / "results/run-2.json").write_text("{}")
    assert why_stale(read(house)) == "results/ changed"


def test_an_edit_saved_while_the_chapter_runs_is_not_overwritten(house: House, capsys: pytest.CaptureFixture) -> None:
    saving = "import json\nfrom pathlib import Path\npath = Path('10_a.ipynb')\nnotebook = json.loads(path.read_text())\n" \
        "notebook['cells'][-1]['source'] = ['1 + 1']\npath.write_text(json.dumps(notebook))"
    house.write("10_a", code(saving), code("1"))
    assert sync.main([]) == 0
    assert execute.main([]) == 1
    assert "error: 10_a: 10_a.ipynb was edited meanwhile, and stays as it was saved" in capsys.readouterr().err
    assert read(house).cells[-1].source == "1 + 1" and sync.edited_side(house.book / "src/10_a.md") == "notebook"


def test_chapters_run_at_the_same_time_the_longest_first(house: House, capsys: pytest.CaptureFixture) -> None:
    """Each of two waits for a file that the other one writes: one after the other, neither would end."""
    meet = "import time\nfrom pathlib import Path\nPath('{own}').touch()\nwhile not Path('{other}').exists():\n    time.sleep(0.05)"
    house.write("10_a", code(meet.format(own="results/a", other="results/b")))
    house.write("20_b", code(meet.format(own="results/b", other="results/a")))
    assert sync.main([]) == 0 and execute.main(["--jobs", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4       # two written, two executed
    assert set(execute.durations()) == {"10_a", "20_b"}
    execute.duration_file().write_text(json.dumps({"10_a": 1, "20_b": 9}))
    assert execute.main(["--jobs", "1", "--force"]) == 0
    assert [line[:4] for line in capsys.readouterr().out.splitlines()] == ["20_b", "10_a"]


@pytest.mark.parametrize("what", ["metadata", "output", "a blank"])
def test_no_save_is_overwritten_whatever_it_changes(house: House, what: str, capsys: pytest.CaptureFixture) -> None:
    """A slide, an output of somebody's own run, a blank at a line's end: what says nothing to the text stays as well."""
    change = {"metadata": "last['metadata']['slideshow'] = {}", "a blank": "last['source'] = ['1 ']",
              "output": "last['execution_count'] = 7"}[what]
    house.write("10_a", code(f"import json\nfrom pathlib import Path\npath = Path('10_a.ipynb')\n"
                             f"notebook = json.loads(path.read_text())\nlast = notebook['cells'][-1]\n{change}\n"
                             "path.write_text(json.dumps(notebook))"), code("1"))
    assert sync.main([]) == 0
    assert execute.main([]) == 1
    assert "error: 10_a: 10_a.ipynb was edited meanwhile, and stays as it was saved" in capsys.readouterr().err
    last = read(house).cells[-1]
    assert "slideshow" in last.metadata or last.source == "1 " or last.execution_count == 7


def kernels_of(house: House) -> list[int]:
    """Processes with the environment that chapters of this house are run in."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("CDLM_READS_ROOT") == str(house.root) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def answers(process: int) -> bool:
    """Whether a process has a handler of its own for the signal that asks to end, by now."""
    status = Path(f"/proc/{process}/status")
    if not status.exists():
        return True
    caught = int(status.read_text().partition("SigCgt:")[2].split()[0], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_at_any_moment_is_one_line(house: House, number: int) -> None:
    """While libraries load, while kernels start, while cells run; an interrupt goes to the whole group, as Ctrl-C does.

    Not before the first line of the tool: until then nobody can answer.
    """
    for chapter in ("10_a", "20_b", "30_c"):
        house.write(chapter, *[code(f"import time\ntime.sleep(0.3)\nx = {count}") for count in range(3)])
    assert sync.main([]) == 0
    before = {path: path.read_bytes() for path in house.book.glob("*.ipynb")}
    command = [sys.executable, house.book / "tools/execute.py", "--jobs", "2", "--force"]
    said = []
    for moment in (0, 0.4, 0.8, 1.3, 1.8, 2.4, 3, 3.8, 5, 6.5, 8):
        process = subprocess.Popen(command, cwd=house.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   start_new_session=True)
        while process.poll() is None and not answers(process.pid):
            time.sleep(0.01)
        time.sleep(moment)
        if process.poll() is None:
            os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
        _, errors = process.communicate(timeout=120)
        said.append((process.returncode, errors))
        assert kernels_of(house) == []
        for path, content in before.items():
            assert path.read_bytes() == content or not why_stale(nbformat.read(path, as_version=4))
    assert set(said) <= {(130, f"{program.STOPPED}\n"), (0, "")}, said
    assert (130, f"{program.STOPPED}\n") in said


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_signal_ends_kernels_with_one_line(house: House) -> None:
    waiting = "Path('results/pid').write_text(str(os.getpid()))\ntime.sleep(600)"
    house.write("10_a", code(f"import os, time\nfrom pathlib import Path\n{waiting}"))
    house.write("20_b", code("print('was never begun')"))
    assert sync.main([]) == 0
    before = house.notebook("10_a").read_bytes()
    tool = house.book / "tools/execute.py"
    patient = re.sub(r"PATIENCE_S = \d+", "PATIENCE_S = 600", tool.read_text(encoding="utf-8"))
    tool.write_text(patient, encoding="utf-8")      # nothing keeps it waiting, the chapter that was never begun included
    (house.root / "_build").mkdir()
    (house.root / "_build/durations.json").write_text('{"10_a": 600, "20_b": 1}')
    process = subprocess.Popen([sys.executable, tool, "--jobs", "1"], cwd=house.root, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    started, deadline = house.book / "results/pid", time.monotonic() + 120
    while not (started.exists() and started.read_text()):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    out, errors = process.communicate(timeout=60)
    kernel = int(started.read_text())
    assert process.returncode == 130 and out == "" and "Traceback" not in errors
    assert errors.splitlines()[-1] == "stopped; what was not finished is as it was"
    with pytest.raises(ProcessLookupError):
        os.kill(kernel, 0)
    assert house.notebook("10_a").read_bytes() == before
