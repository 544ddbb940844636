"""One byte of anything that is generated or recorded, and which tool of `make check` sees it."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import check
import checksums
import export
import ledger
import pytest
from conftest import ROOT, copy_of_repository
from disk import ChapterError

import chapters

# The list


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A repository of two records, both noted."""
    for name in ("a", "b"):
        path = tmp_path / f"book/results/runs/{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{{"name": "{name}"}}\n')
    assert checksums.seal(tmp_path) == ["book/results/runs/a.json", "book/results/runs/b.json"]
    assert checksums.problems(tmp_path) == []
    return tmp_path


def test_the_list_has_the_form_of_a_common_tool(small: Path) -> None:
    lines = checksums.list_path(small).read_text().splitlines()
    assert [line[64:] for line in lines] == ["  book/results/runs/a.json", "  book/results/runs/b.json"]
    run = subprocess.run(["sha256sum", "-c", "book/checksums.txt"], cwd=small, capture_output=True, text=True)
    assert run.returncode == 0 and run.stdout.count(": OK") == 2


def test_a_new_record_is_noted_without_a_hand(small: Path) -> None:
    (small / "book/results/runs/aa.json").write_text("{}")
    assert checksums.problems(small) == ["book/results/runs/aa.json is not listed in book/checksums.txt; `make seal`"]
    before = checksums.list_path(small).read_text().splitlines()
    assert checksums.seal(small) == ["book/results/runs/aa.json"] and checksums.problems(small) == []
    after = checksums.list_path(small).read_text().splitlines()
    assert [after[0], after[2]] == before and after == sorted(after, key=lambda line: line[66:])


def test_what_was_changed_or_removed_is_noted_only_where_it_is_named(small: Path) -> None:
    (small / "book/results/runs/a.json").write_text("{}")
    (small / "book/results/runs/b.json").unlink()
    found = ["book/results/runs/a.json is not what was recorded; restore it, or if that is meant, `make seal AGAIN=a`",
             "book/results/runs/b.json was recorded and is gone; restore it, or if that is meant, `make seal AGAIN=b`"]
    assert checksums.problems(small) == found
    assert checksums.seal(small) == [] and checksums.problems(small) == found
    assert checksums.seal(small, "runs/a") == ["book/results/runs/a.json"] and checksums.problems(small) == found[1:]
    assert checksums.seal(small, "b.json") == ["book/results/runs/b.json"] and checksums.problems(small) == []
    with pytest.raises(ChapterError, match="no recorded file with 'c.' in its path"):
        checksums.seal(small, "c.")


def test_two_branches_are_joined_line_by_line(small: Path) -> None:
    """One adds a record, the other measures one anew; `union` leaves lines of both, in any order."""
    old = checksums.list_path(small).read_text()
    (small / "book/results/runs/a.json").write_text('{"measured": "again"}')
    (small / "book/results/runs/c.json").write_text("{}")
    checksums.seal(small, "a.json")
    joined = "".join(reversed(checksums.list_path(small).read_text().splitlines(True))) + old
    checksums.list_path(small).write_text(joined)
    assert checksums.problems(small) == ["book/checksums.txt is not sorted, or lists a file twice; `make seal`"]
    assert checksums.seal(small) == [] and checksums.problems(small) == []
    assert len(checksums.read_list(small)) == 3
    assert "book/checksums.txt merge=union" in (ROOT / ".gitattributes").read_text().splitlines()


def test_a_damaged_list_is_one_line(small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    checksums.list_path(small).write_text("<<<<<<< HEAD\n")
    monkeypatch.setattr(checksums, "ROOT", small)
    for words in (["--check"], [], ["--again", "a"]):
        assert checksums.main(words) == 1
        assert capsys.readouterr().err == ("error: book/checksums.txt is damaged: '<<<<<<< HEAD'; "
                                           "restore it from version control\n")


def test_the_tool_that_makes_a_file_notes_it(small: Path) -> None:
    path = small / "book/results/runs/a.json"
    path.write_text("{}")
    checksums.keep_checksum(small, path)
    assert checksums.problems(small) == []


def test_the_list_of_this_book_is_whole() -> None:
    assert checksums.problems(ROOT) == []
    assert len(checksums.read_list(ROOT)) > 250


# Flips


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of_repository(tmp_path_factory.mktemp("flips") / "a book")


def made_files() -> list[str]:
    """Sixty files that commands make, of every kind, drawn by a fixed seed, and those of which there is one."""
    draw = random.Random(7)
    kinds = {"book/results/runs/*.json": 12, "book/results/*.json": 4, "book/results/measurements/*.json": 9, "book/*.ipynb": 9,
             "cdlm/*/*.py": 12, "figures/*.svg": 7}
    found = [path for pattern, count in kinds.items() for path in draw.sample(sorted(ROOT.glob(pattern)), count)]
    single = ["cdlm/__init__.py", "cdlm/files.py", "cdlm/py.typed", "cdlm/theory/ledger.json", "book/_static/logo.svg",
              "book/_static/favicon.svg", "README.md", "requirements.lock", "book/checksums.txt",
              "book/draw/model.js"]
    return [*(path.relative_to(ROOT).as_posix() for path in found), *single]


def flipped(file: str, content: bytes) -> bytes:
    """The content with one bit of one byte changed; of README, in its table; an empty file gets a byte."""
    if not content:
        return b"\n"
    draw, first, last = random.Random(file), 0, len(content)
    if file == "README.md":
        first, last = content.index(b"<!-- results"), content.index(b"<!-- end of results")
    place = draw.randrange(first, last)
    return content[:place] + bytes([content[place] ^ 1 << draw.randrange(7)]) + content[place + 1 :]


@pytest.fixture(scope="module")
def see(copy: Path) -> Callable[[str], list[str]]:
    """What the tool of `make check` that looks at a file of the copy has to say of it."""
    sys.path.insert(0, str(ROOT / "figures"))
    import from_notebooks
    import logo
    import results_table

    sys.path.remove(str(ROOT / "figures"))
    patch = pytest.MonkeyPatch()
    places = {"ROOT": copy, "BOOK": copy / "book", "SOURCE": copy / "book/src", "PACKAGE": copy / "cdlm",
              "FIGURES": copy / "figures", "BOOK_STATIC": copy / "book/_static"}
    for tool in (chapters, check, checksums, export, from_notebooks, logo, results_table):
        for name, place in places.items():
            if isinstance(getattr(tool, name, None), Path):       # and not a color of that name
                patch.setattr(tool, name, place)
    patch.setattr(sys, "argv", ["tool", "--check"])
    package = export.package_files(chapters.chapters())

    def look(file: str) -> list[str]:
        path = copy / file
        if path.suffix == ".ipynb":
            try:
                return check.chapter_problems(copy / f"book/src/{path.stem}.md")
            except ChapterError as error:
                return [str(error)]
        if file.startswith("cdlm/") and path.suffix != ".json":
            return export.drift(package)
        if file.startswith("book/_static") or file == "README.md":
            return ["seen"] * (logo.main() if path.suffix == ".svg" else results_table.main())
        return checksums.problems(copy)

    yield look
    patch.undo()


@pytest.mark.slow
@pytest.mark.parametrize("file", made_files())
def test_one_flipped_byte_is_seen(file: str, copy: Path, see: Callable[[str], list[str]]) -> None:
    path = copy / file
    content = path.read_bytes()
    assert see(file) == []
    path.write_bytes(flipped(file, content))
    try:
        assert see(file) != [] or path.read_bytes() == content
    except (ChapterError, UnicodeDecodeError) as error:
        assert error        # the tool's main prints it
    finally:
        path.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["book/results/measurements/confusion-faithful_mnist-usps.json", "figures/seam.svg"])
def test_one_flipped_byte_fails_make_check(file: str, copy: Path) -> None:
    path, environment = copy / file, os.environ | {"PYTHONPATH": str(copy)}
    content = path.read_bytes()
    path.write_bytes(flipped(file, content))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = makefile.partition("\ncheck: ")[2].partition("\n\n")[0].splitlines()[1:]
    assert len(recipe) >= 6
    try:
        for line in recipe:                         # as make does: up to the first that fails
            done = subprocess.run([sys.executable, *line.split()[1:]], cwd=copy, env=environment, capture_output=True, text=True)
            assert "Traceback" not in done.stderr
            if done.returncode:
                break
    finally:
        path.write_bytes(content)
    assert done.returncode and Path(file).name in done.stderr


def test_ledger_rows_say_what_the_chapters_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the checksum was noted again."""
    assert ledger.changed_facts() == []
    recorded = ledger.read_ledger()
    for name in ("title", "kind", "verdict", "note", "slip", "chapter", "api", "derivation"):
        changed = json.loads(json.dumps(recorded))
        row = changed["equations"]["9"]
        row[name] = row[name] + ("x" if isinstance(row[name], str) else ["x"])
        monkeypatch.setattr(ledger, "read_ledger", lambda changed=changed: changed)
        assert ledger.changed_facts() == [f"equation 9: its {name} is not the chapter's"]
