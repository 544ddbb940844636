"""The assignments of the course: student and instructor notebooks from one text each, and marks for what comes back.

    python book/tools/course.py make             # all, into _build/course
    python book/tools/course.py grade vae anna.ipynb ben.ipynb

A text in ``book/course/assignments`` is a MyST notebook. Cells tagged ``question-NAME`` hold the solution between
``# BEGIN SOLUTION`` and ``# END SOLUTION``, cells tagged ``test-NAME`` one test each in the form of otter-grader, which
makes the notebooks and grades them. A page of feedback has, for each test that failed, the message that its author wrote
for this case, and never its source or what an assertion said.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import csv
import io
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import nbformat
import yaml
from program import finish

# isort: split
from disk import ChapterError, write_atomically
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_raw_cell

from chapters import ROOT, read_text

TEXTS = ROOT / "book/course/assignments"
BUILT = ROOT / "_build/course"
TAG = re.compile(r"(question|test)-([a-z]+)")
WRITTEN = re.compile(r"points-(\d+)")
CONFIG = re.compile(r'"""  # BEGIN TEST CONFIG\n(.*?)"""  # END TEST CONFIG\n', flags=re.S)
# Otter's own settings: no PDF, no log, tests of exceptions; hidden tests stay out of what students are shown.
SETTINGS = {"init_cell": True, "check_all_cell": False, "export_cell": False, "run_tests": False,
            "tests": {"ok_format": False}, "generate": {"show_hidden": False, "show_stdout": False}}
# What students have to know of the tool, below the first text of each notebook.
CHECKS = """*Checks.* A cell with `grader.check` runs the tests that you can see; a question without one has hidden tests alone. \
Checks need otter-grader: if the first cell of this notebook fails, say `%pip install otter-grader` and run it again. They look \
for this notebook under the name that it came with, so rename it when you hand it in, not before."""


class Case(NamedTuple):
    """One test of a question: what it looks at, for whom it is to be seen, and what it says where it fails."""

    name: str
    points: int
    hidden: bool
    what: str
    message: str


def texts(name: str = "") -> list[Path]:
    """Texts of all assignments, or the one called ``name``. Raises ChapterError if there is none."""
    found = sorted(path for path in TEXTS.glob("*.md") if name in ("", path.stem))
    if not found:
        known = ", ".join(sorted(path.stem for path in TEXTS.glob("*.md")))
        raise ChapterError(f"no assignment is called {name!r}; there are: {known}")
    return found


def role(cell: NotebookNode) -> tuple[str, str] | None:
    """What a cell is tagged as: ("question", name), ("test", name), or nothing."""
    found = [match.groups() for tag in cell.metadata.get("tags", []) if (match := TAG.fullmatch(tag))]
    if len(found) > 1:
        raise ChapterError(f"a cell has two roles, {found}: leave it one\n{cell.source[:80]}")
    return found[0] if found else None


def cases(notebook: NotebookNode) -> dict[str, list[Case]]:
    """The tests of each question, in their order. Raises ChapterError for one without points, message or docstring."""
    found: dict[str, list[Case]] = {}
    for cell in notebook.cells:
        if (role(cell) or ("", ""))[0] != "test":
            continue
        name = role(cell)[1]
        config = CONFIG.match(cell.source)
        if not config:
            raise ChapterError(f"a test of {name!r} has no TEST CONFIG: give it points and a failure_message")
        settings = yaml.safe_load(config[1])
        function = ast.parse(cell.source[config.end():]).body[0]
        what, message = ast.get_docstring(function), settings.get("failure_message")
        if not (what and message and settings.get("points")) or '"' in message:
            raise ChapterError(f"{function.name} of {name!r} needs points, a docstring, and a failure_message without quotes")
        number = len(found.setdefault(name, [])) + 1
        found[name].append(Case(f"{name} - {number}", settings["points"], settings.get("hidden", False), what, message))
    return found


def grouped(notebook: NotebookNode) -> Iterator[tuple[str, list[NotebookNode]]]:
    """Cells in their order, those of one question together under its name, those of none under ""."""
    name, group = "", []
    for cell in notebook.cells:
        here = role(cell)
        if group and (here is None or here[1] != name):
            yield name, group
            group = []
        name = here[1] if here else ""
        group.append(cell)
        if here is None:
            yield "", group
            group = []
    if group:
        yield name, group


def master(notebook: NotebookNode, name: str) -> NotebookNode:
    """The notebook as otter wants it: raw cells around each question, its solution and its tests."""
    head = new_raw_cell("# ASSIGNMENT CONFIG\n" + yaml.safe_dump(SETTINGS | {"name": name}, sort_keys=False))
    cells = [head]
    for question, group in grouped(notebook):
        if not question:
            cells += group
            continue
        parts = {kind: [cell for cell in group if role(cell)[0] == kind] for kind in ("question", "test")}
        written = [match[1] for cell in parts["question"] for tag in cell.metadata.get("tags", [])
                   if (match := WRITTEN.fullmatch(tag))]
        more = f"\nmanual: true\npoints: {written[0]}" if written else ""
        cells += [new_raw_cell(f"# BEGIN QUESTION\nname: {question}{more}"),
                  new_raw_cell("# BEGIN SOLUTION"), *parts["question"], new_raw_cell("# END SOLUTION")]
        if parts["test"]:
            cells += [new_raw_cell("# BEGIN TESTS"), *parts["test"], new_raw_cell("# END TESTS")]
        cells.append(new_raw_cell("# END QUESTION"))
    cells.insert(2, new_markdown_cell(CHECKS))      # below the title
    copied = [nbformat.from_dict({**cell, "metadata": {}}) for cell in cells]
    for number, cell in enumerate(copied):
        cell.id = f"cell-{number}"
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    made = nbformat.v4.new_notebook(cells=copied, metadata={"kernelspec": notebook.metadata.kernelspec})
    nbformat.validate(made)
    return made


def scheme(notebook: NotebookNode, title: str) -> str:
    """The marking scheme, a page of Markdown for instructors: each test, its points, and what it says where it fails."""
    tests = cases(notebook)
    total = sum(case.points for group in tests.values() for case in group)
    lines = [f"# Marking scheme: {title}", "", f"Points by machine: {total}.", "",
             "| test | points | shown | looks at | says where it fails |", "|---|---|---|---|---|"]
    lines += [f"| {case.name} | {case.points} | {'no' if case.hidden else 'yes'} | {case.what} | {case.message} |"
              for group in tests.values() for case in group]
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and role(cell):
            points = next(match[1] for tag in cell.metadata.tags if (match := WRITTEN.fullmatch(tag)))
            lines += ["", f"## By hand: {role(cell)[1]}, {points} points", "", cell.source]
    return "\n".join(lines) + "\n"


def make(path: Path, built: Path) -> None:
    """Write ``student/NAME.ipynb`` and, for instructors, the notebook with solutions, the grader and the scheme."""
    from otter.assign import main as assign

    notebook, name = read_text(path), path.stem
    title = notebook.cells[0].source.partition("\n")[0].lstrip("# ")
    text = scheme(notebook, title)
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder, f"{name}.ipynb"), Path(folder, "made")
        nbformat.write(master(notebook, name), source)
        with contextlib.redirect_stdout(io.StringIO()):
            assign(str(source), str(result), no_pdfs=True, no_run_tests=True)
        for kind, there in (("student", "student"), ("instructor", "autograder")):
            (built / kind).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(result / there / f"{name}.ipynb", built / kind / f"{name}.ipynb")
        grader, = (result / "autograder").glob("*.zip")
        shutil.copyfile(grader, built / "instructor" / f"{name}.zip")
    write_atomically(built / "instructor" / f"{name}-scheme.md", text)


def feedback(name: str, tests: dict[str, list[Case]], passed: dict[str, bool]) -> str:
    """A page for the student: marks by question, and for each test that failed its author's message."""
    lines = [f"# {name}", ""]
    for question, group in tests.items():
        gained = sum(case.points for case in group if passed.get(case.name))
        lines.append(f"- **{question}**: {gained} of {sum(case.points for case in group)}")
        lines += [f"  - {case.message}" for case in group if not passed.get(case.name)]
    return "\n".join(lines) + "\n"


def marks(tests: dict[str, list[Case]], passed: dict[str, bool]) -> dict[str, int]:
    """Points by question."""
    return {question: sum(case.points for case in group if passed.get(case.name)) for question, group in tests.items()}


def outcomes(submission: Path, grader: Path) -> dict[str, bool]:
    """Run a submission in a kernel, by otter, offline: which test passed. A notebook that cannot be run passes none."""
    from otter.api import grade_submission

    try:
        results = grade_submission(str(submission), str(grader), quiet=True)
    except Exception as error:  # a notebook of somebody else can fail in any way
        print(f"{submission.name} could not be graded: {' '.join(str(error).split())[:200]}")
        return {}
    return {result.test_case.name: result.passed for file in results.results.values() for result in file.test_case_results}


def grade(name: str, submissions: list[Path], built: Path) -> Path:
    """Grade notebooks; write a page of feedback for each and ``marks.csv``, which is returned."""
    path, = texts(name)
    grader = built / "instructor" / f"{name}.zip"
    if not grader.exists():
        raise ChapterError(f"{grader.name} is not made yet: say `make assignments` first")
    if missing := [str(file) for file in submissions if not file.is_file()]:
        raise ChapterError(f"there is no file {', '.join(missing)}")
    os.environ.setdefault("CDLM_PROFILE", "smoke")      # trainings are not graded, and are as short as can be
    tests, rows, folder = cases(read_text(path)), [], built / "graded" / name
    folder.mkdir(parents=True, exist_ok=True)
    for submission in submissions:
        passed = outcomes(submission, grader)
        write_atomically(folder / f"{submission.stem}.md", feedback(name, tests, passed))
        gained = marks(tests, passed)
        rows.append({"notebook": submission.stem, **gained, "sum": sum(gained.values())})
        print(json.dumps(rows[-1]))
    table = io.StringIO()
    writer = csv.DictWriter(table, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(folder / "marks.csv", table.getvalue())
    return folder / "marks.csv"


def run(words: argparse.Namespace) -> None:
    """Do what the command line asks for."""
    if words.command == "grade":
        print(grade(words.name, words.submissions, BUILT))
        return
    for path in texts():
        make(path, BUILT)
        print(f"{path.stem}: student/{path.stem}.ipynb, instructor/{path.stem}.ipynb")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("make", help="student and instructor notebooks of all assignments")
    graded = commands.add_parser("grade", help="marks and feedback for notebooks of students")
    graded.add_argument("name")
    graded.add_argument("submissions", type=Path, nargs="+")
    run(parser.parse_args())
    return 0


if __name__ == "__main__":
    sys.exit(finish(main))
