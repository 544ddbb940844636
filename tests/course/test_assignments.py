"""Assignments: solutions have all marks, stubs none, wrong answers lose what they should, and nothing hidden leaks."""

from __future__ import annotations

import contextlib
import csv
import io
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import course
import nbformat
import pytest
from conftest import ROOT
from disk import ChapterError

from chapters import read_text

NAMES = [path.stem for path in course.texts()]
WRONG = tomllib.loads(Path(__file__).with_name("wrong_answers.toml").read_text(encoding="utf-8"))
MISTAKES = [(name, wrong) for name in WRONG for wrong in WRONG[name]]
CASES = {path.stem: course.cases(read_text(path)) for path in course.texts()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All assignments, made by otter."""
    pytest.importorskip("otter")
    folder = tmp_path_factory.mktemp("course")
    for path in course.texts():
        course.make(path, folder)
    return folder


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CDLM_PROFILE", "smoke")


def cells(path: Path) -> list[str]:
    """The code of a notebook, without what only otter's own cells do."""
    notebook = nbformat.read(path, as_version=4)
    return [cell.source for cell in notebook.cells if cell.cell_type == "code" and "grader" not in cell.source]


def passed(sources: list[str], grader: Path) -> dict[str, bool]:
    """Which tests pass for these cells, as otter judges: a cell that fails is passed over, and so is a test."""
    from otter.test_files import ExceptionTestFile

    env: dict = {"__name__": "__main__"}
    with contextlib.redirect_stdout(io.StringIO()):
        for source in sources:
            with contextlib.suppress(Exception):
                exec(source, env)
    found = {}
    for text in hidden_files(grader):
        file = ExceptionTestFile.from_string(text)
        file.run(dict(env))
        found |= {result.test_case.name: result.passed for result in file.test_case_results}
    return found


def hidden_files(grader: Path) -> list[str]:
    """The tests that the grader has, hidden and shown."""
    with zipfile.ZipFile(grader) as archive:
        return [archive.read(name).decode() for name in archive.namelist() if name.startswith("tests/") and name.endswith(".py")]


def grader_of(name: str, built: Path) -> Path:
    return built / "instructor" / f"{name}.zip"


def test_there_are_six_and_each_has_wrong_answers() -> None:
    assert set(NAMES) == set(WRONG) and len(NAMES) >= 6
    assert all(len(WRONG[name]) >= 5 for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_solutions_have_all_marks_and_stubs_none(name: str, built: Path) -> None:
    everything = {case.name for group in CASES[name].values() for case in group}
    solved = passed(cells(built / "instructor" / f"{name}.ipynb"), grader_of(name, built))
    assert set(solved) == everything and [case for case, right in solved.items() if not right] == []
    empty = passed(cells(built / "student" / f"{name}.ipynb"), grader_of(name, built))
    assert set(empty) == everything and [case for case, right in empty.items() if right] == []


@pytest.mark.slow
@pytest.mark.parametrize(("name", "wrong"), MISTAKES, ids=[f"{name}: {wrong['mistake']}" for name, wrong in MISTAKES])
def test_a_wrong_answer_loses_what_it_should(name: str, wrong: dict, built: Path) -> None:
    sources = cells(built / "instructor" / f"{name}.ipynb")
    assert sum(source.count(wrong["find"]) for source in sources) == 1, "`find` has to occur once"
    answered = passed([source.replace(wrong["find"], wrong["put"]) for source in sources], grader_of(name, built))
    assert sorted(case for case, right in answered.items() if not right) == sorted(wrong["fails"])
    page = course.feedback(name, CASES[name], answered)
    messages = {case.name: case.message for group in CASES[name].values() for case in group}
    assert all(messages[case] in page for case in wrong["fails"])
    assert wrong["find"] not in page


@pytest.mark.parametrize("name", NAMES)
def test_every_hidden_test_is_failed_by_a_wrong_answer(name: str) -> None:
    """A hidden test that no wrong answer fails may test nothing."""
    failed = {case for wrong in WRONG[name] for case in wrong["fails"]}
    unseen = {case.name for group in CASES[name].values() for case in group if case.hidden and case.name not in failed}
    assert unseen == set()


@pytest.mark.parametrize("name", NAMES)
def test_nothing_hidden_is_in_the_students_notebook(name: str, built: Path) -> None:
    text = (built / "student" / f"{name}.ipynb").read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert "SOLUTION" not in text and "CONFIG" not in text
    source = read_text(course.TEXTS / f"{name}.md")
    tests = [cell.source for cell in source.cells if (course.role(cell) or ("",))[0] == "test"]
    for test, case in zip(tests, [case for group in CASES[name].values() for case in group]):
        function = test.split("def ")[1].split("(")[0]
        assert (f"def {function}(" in text) is not case.hidden, f"{function} of {case.name}"
        assert not case.hidden or case.message not in text
    for cell in source.cells:
        for body in cell.source.split("# BEGIN SOLUTION\n")[1:]:
            lines = [line.strip() for line in body.split("# END SOLUTION")[0].splitlines() if len(line.strip()) > 25]
            assert [line for line in lines if line.replace('"', '\\"') in text] == []


@pytest.mark.parametrize("name", NAMES)
def test_feedback_quotes_no_test(name: str) -> None:
    page = course.feedback(name, CASES[name], {})
    source = read_text(course.TEXTS / f"{name}.md")
    for cell in source.cells:
        if (course.role(cell) or ("",))[0] == "test":
            body = cell.source.split("TEST CONFIG\n")[2]
            assert [line for line in body.splitlines() if len(line.strip()) > 10 and line.strip() in page] == []
    assert "assert" not in page and "Error" not in page
    assert set(course.marks(CASES[name], {}).values()) == {0}


@pytest.mark.parametrize("name", NAMES)
def test_a_message_does_not_tell_the_answer(name: str) -> None:
    """No message has a formula, a name of the package, or code in it."""
    for group in CASES[name].values():
        for case in group:
            assert not set(case.message) & set("=*_`[]{}"), case
            assert 40 < len(case.message) < 200, case


def test_points_in_headings_are_those_of_the_tests() -> None:
    for path in course.texts():
        points, current = {}, ""
        for cell in read_text(path).cells:
            if cell.cell_type == "markdown" and not course.role(cell):
                current = [current, *(line for line in cell.source.splitlines() if line.startswith("## "))][-1]
            elif course.role(cell):
                points.setdefault(course.role(cell)[1], current)
        for question, heading in points.items():
            total = sum(case.points for case in CASES[path.stem].get(question, [])) or 5
            assert f"({total} point" in heading, (path.stem, question, heading)


def test_scheme_lists_every_test_and_what_is_marked_by_hand(built: Path) -> None:
    for name in NAMES:
        text = (built / "instructor" / f"{name}-scheme.md").read_text(encoding="utf-8")
        assert all(case.name in text and case.message in text for group in CASES[name].values() for case in group)
    assert "By hand: words, 5 points" in (built / "instructor/ablation-scheme.md").read_text(encoding="utf-8")


def test_a_text_that_cannot_be_graded_is_refused() -> None:
    cell = nbformat.v4.new_code_cell('"""  # BEGIN TEST CONFIG\npoints: 1\n"""  # END TEST CONFIG\ndef test_a(f):\n    """a"""\n')
    cell.metadata.tags = ["test-a"]
    with pytest.raises(ChapterError, match="failure_message"):
        course.cases(nbformat.v4.new_notebook(cells=[cell]))
    with pytest.raises(ChapterError, match="there are: "):
        course.texts("nothing")


@pytest.mark.slow
def test_otter_grades_offline_in_a_kernel(built: Path, tmp_path: Path) -> None:
    """The whole way: two submissions, marks and feedback."""
    pytest.importorskip("otter")
    submissions = []
    for who, folder in (("solved", "instructor"), ("empty", "student")):
        submissions.append(tmp_path / f"{who}.ipynb")
        submissions[-1].write_bytes((built / folder / "modulation.ipynb").read_bytes())
    table = course.grade("modulation", submissions, built)
    rows = {row["notebook"]: row for row in csv.DictReader(table.open())}
    assert rows["solved"]["sum"] == "12" and rows["empty"]["sum"] == "0"
    assert "0 of 3" in (table.parent / "empty.md").read_text()
    assert ROOT not in table.parents
