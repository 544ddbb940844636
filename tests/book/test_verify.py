"""Chapters verified in the size of the book: what is recorded, when a record is current, and what the tests do with it."""

from __future__ import annotations

import json

import disk
import export
import pytest
import sync
import verified
import verify
from conftest import House, code
from nbformat.v4 import new_output

import chapters

CHECKED = "nbval-check-output"


def as_if_executed(house: House, chapter: str, printed: str = "") -> None:
    """Give a notebook the outputs of a whole run, of which its last cell printed something."""
    notebook = chapters.read_notebook(house.notebook(chapter))
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(cells, start=1):
        cell.execution_count, cell.outputs = number, []
    if printed:
        cells[-1].outputs = [new_output("stream", name="stdout", text=printed)]
    notebook.metadata["cdlm"]["run"] = verified.run_fingerprint(notebook)
    disk.write_atomically(house.notebook(chapter), chapters.notebook_json(notebook))


@pytest.fixture
def written(house: House) -> House:
    """Two chapters, executed, and one without code; 10_a imports from the package."""
    house.write("00_preface")
    house.write("05_low", code("def f():\n    return 1", "export:low"))
    house.write("10_a", code("import sys; sys.path.insert(0, '..')\nfrom cdlm.low import f"), code("print(f())", CHECKED))
    assert sync.main([]) == 0 and export.main([]) == 0
    as_if_executed(house, "05_low")
    as_if_executed(house, "10_a", "1\n")
    return house


@pytest.fixture
def recorded(written: House) -> House:
    """The same, with a record for both, as if just verified."""
    for text in chapters.chapters()[1:]:
        fingerprint = verified.run_fingerprint(chapters.read_notebook(chapters.notebook_path(text)))
        verified.keep(text.stem, {"fingerprint": fingerprint, "compared": verified.what_is_compared(text.stem), "seconds": 30})
    assert pending() == []
    return written


def pending(everything: bool = False) -> list[str]:
    return [text.stem for text in verify.unverified("", everything)]


def test_a_chapter_is_spared_where_it_ran_as_it_is_with_the_same_versions(
    written: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    low, chapter = chapters.chapters()[1:]
    verified.keep("10_a", verified.row_of("10_a", chapters.read_notebook(written.notebook("10_a")), 30))
    records = verified.read_records()
    assert [verified.ran_here(text, records) for text in (low, chapter)] == [False, True]
    with monkeypatch.context() as patch:
        patch.setattr(verified, "version", lambda name: "0.1")
        assert not verified.ran_here(chapter, records)
    written.write("10_a", code("print(2)", CHECKED))
    assert sync.main([]) == 0
    assert not verified.ran_here(chapter, records)


@pytest.mark.slow
def test_verified_once_a_chapter_is_not_run_again(written: House) -> None:
    assert pending() == ["05_low", "10_a"]
    done = written.tool("verify")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sorted(line.partition(": verified in ")[0] for line in lines[:-1]) == ["05_low", "10_a"]
    assert lines[-1] == "every chapter is verified in the size of the book"
    row = verified.read_records()["10_a"]
    assert row["fingerprint"] == verified.run_fingerprint(chapters.read_notebook(written.notebook("10_a")))
    assert (row["profile"], row["compared"]) == ("book", "outputs of tagged cells")
    assert set(row["versions"]) == {"python", "torch", "numpy", "scikit-learn"}
    before = verified.record_path().read_bytes()
    assert written.tool("verify").stdout == lines[-1] + "\n"
    assert verified.record_path().read_bytes() == before
    assert written.tool("verify", "--check").returncode == 0


@pytest.mark.slow
def test_an_execution_with_the_outputs_of_before_verifies(written: House) -> None:
    assert written.tool("execute", "--force").returncode == 0
    assert verified.read_records() == {}, "nobody had run them before"
    done = written.tool("execute", "--force")
    assert done.stdout.count(", with the outputs of before") == 2, done.stdout
    assert set(verified.read_records()) == {"05_low", "10_a"} and pending() == []
    assert verified.read_records()["10_a"]["fingerprint"] == verified.run_fingerprint(
        chapters.read_notebook(written.notebook("10_a")))


CLOCK = "import time\nprint(time.time_ns())"


@pytest.mark.slow
@pytest.mark.parametrize("before, now, holds", [
    ((CLOCK, CHECKED), (CLOCK, CHECKED), False),        # another output
    ((CLOCK,), (CLOCK,), True),                         # another one, and nobody compares it
    (("print(1)", CHECKED), ("print(1 + 0)", CHECKED), False),      # what is compared is another cell
], ids=["another output", "one that is not compared", "other code"])  # fmt: skip
def test_what_counts_as_the_outputs_of_before(house: House, before: tuple, now: tuple, holds: bool) -> None:
    for cell, again in ((before, False), (now, holds)):
        house.write("10_a", code(*cell))
        assert sync.main([]) == 0
        assert house.tool("execute", "--force").returncode == 0
        assert ("10_a" in verified.read_records()) == again


@pytest.mark.slow
def test_a_cell_that_fails_and_an_output_that_differs_are_not_recorded(recorded: House) -> None:
    recorded.write("05_low", code("import os\nassert os.environ['CDLM_PROFILE'] == 'smoke'"))
    recorded.write("20_b", code("print(1)", CHECKED))
    assert sync.main([]) == 0
    as_if_executed(recorded, "05_low")
    as_if_executed(recorded, "20_b", "2\n")
    done = recorded.tool("verify")
    assert done.returncode == 1 and "every chapter is verified" not in done.stdout
    assert "error: 05_low does not pass:" in done.stderr and "error: 20_b does not pass:" in done.stderr
    assert "mismatch" in done.stderr and "AssertionError" in done.stderr
    assert set(verified.read_records()) == {"10_a"}, "a record of before is taken out"


@pytest.mark.slow
def test_a_chapter_that_was_not_executed_as_it_is_gets_no_record(recorded: House) -> None:
    recorded.write("10_a", code("print(3)", CHECKED))
    assert sync.main([]) == 0
    done = recorded.tool("verify", "10_a")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: 10_a: its outputs are not of a whole run of this code; `make execute` first\n"
    assert set(verified.read_records()) == {"05_low"}


CHANGES = {
    "a cell of its own": (("10_a", code("print(3)", CHECKED)), {"10_a"}),
    "a function that it uses": (("05_low", code("def f():\n    return 1 + 0", "export:low")), {"05_low", "10_a"}),
    "another chapter": (("20_b", code("print(1)")), {"20_b"}),
    "prose": (("05_low", "Other words.", code("def f():\n    return 1", "export:low")), set()),
}


@pytest.mark.parametrize("change, stale", CHANGES.values(), ids=CHANGES)
def test_what_makes_a_record_stale(recorded: House, change: tuple, stale: set[str], capsys: pytest.CaptureFixture) -> None:
    recorded.write(*change)
    assert sync.main([]) == 0 and export.main([]) == 0
    assert set(pending()) == stale
    capsys.readouterr()
    assert verify.main(["--check"]) == int(bool(stale))
    told = capsys.readouterr().err.splitlines()
    assert told == [f"error: {name} is not verified in the size of the book; `make verify`" for name in sorted(stale)]


def test_an_output_that_changes_makes_a_record_stale(recorded: House) -> None:
    notebook = chapters.read_notebook(recorded.notebook("10_a"))
    notebook.cells[-1].outputs[0].text = "2\n"
    disk.write_atomically(recorded.notebook("10_a"), chapters.notebook_json(notebook))
    assert pending() == ["10_a"]


def test_a_stricter_comparison_makes_a_record_stale(recorded: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verified, "is_strict", lambda chapter: chapter == "10_a")
    assert pending() == ["10_a"]


def test_everything_takes_no_notice_of_records(recorded: House) -> None:
    assert pending(everything=True) == ["05_low", "10_a"]


def test_the_estimate_is_of_current_records(recorded: House, capsys: pytest.CaptureFixture) -> None:
    assert verify.main(["--seconds", "--jobs", "3"]) == 0 and capsys.readouterr().out == "40\n"
    recorded.write("10_a", code("print(3)", CHECKED))
    assert sync.main([]) == 0
    capsys.readouterr()
    assert verify.main(["--seconds", "--jobs", "3"]) == 0 and capsys.readouterr().out == "20\n"


def test_chapters_that_are_no_more_leave_the_record(recorded: House) -> None:
    verified.keep("05_low", None)
    assert set(verified.read_records()) == {"10_a"}
    (recorded.book / "src/10_a.md").unlink()
    verified.keep("05_low", {"fingerprint": "new"})
    assert set(verified.read_records()) == {"05_low"}


@pytest.mark.parametrize("content", ["", "[1]", '{"10_a": 3}', "{"], ids=repr)
def test_a_damaged_record_gets_one_line(recorded: House, content: str, capsys: pytest.CaptureFixture) -> None:
    verified.record_path().write_text(content, encoding="utf-8")
    assert verify.main([]) == 1
    assert capsys.readouterr().err == "error: verified.json is damaged; delete it and run `make verify`\n"


def test_a_chapter_without_a_notebook_gets_one_line(recorded: House, capsys: pytest.CaptureFixture) -> None:
    recorded.notebook("10_a").unlink()
    assert verify.main(["--check"]) == 1
    assert capsys.readouterr().err == "error: 10_a: there is no notebook; `make sync` generates it\n"


def test_the_record_of_the_book_names_chapters_that_there_are() -> None:
    assert set(verified.read_records()) <= {text.stem for text in chapters.chapters()}
    for row in verified.read_records().values():
        assert {"fingerprint", "compared", "profile", "seconds", "versions"} == set(row)


def test_records_are_written_as_json_that_people_can_read(recorded: House) -> None:
    content = verified.record_path().read_text(encoding="utf-8")
    assert list(json.loads(content)) == ["05_low", "10_a"] and content.count("\n") > 8 and content.endswith("}\n")
