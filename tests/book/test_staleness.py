"""Which chapters an edit makes stale, on this very book: what each edit must reach is written down here by hand.

Edits of code are made in a copy, in a chapter's text and in the package made of it. Edits of records are judged by what the
notebooks say they read.
"""

from __future__ import annotations

import functools
import re
import shutil
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import fingerprint
import pytest
from conftest import ROOT
from nbformat.v4 import new_code_cell, new_notebook, new_output
from reads import contents

import chapters
from cdlm.closure import Library, closure

BOOK = ROOT / "book"
Edit = Callable[[str], str]


@functools.cache
def code_of(text: Path) -> str:
    return "\n".join(cell.source for cell in chapters.read_text(text).cells if cell.cell_type == "code")


def number(text: Path) -> str:
    """What a chapter's name begins with: "78" or "78b"."""
    return text.stem.partition("_")[0]


def dependences(package: Path, edit: Edit) -> dict[str, object]:
    """What the code of each chapter is and reaches, by the chapter's number; ``edit`` is applied to chapters.

    Entries of tables count where the notebook says that they were looked up when it ran.
    """
    library, found = Library(package), {}
    for text in chapters.chapters():
        room = fingerprint.read_room(chapters.without_magics(edit(code_of(text))))
        code = [statement.code for statement in room.statements]
        entries = (fingerprint.entry_place(pattern, library) for pattern in noted()[number(text)])
        found[number(text)] = (code, closure(library, [(room, "*"), *filter(None, entries)], own=room))
    return found


@pytest.fixture(scope="module")
def before() -> dict[str, object]:
    return dependences(ROOT / "cdlm", lambda code: code)


def replacing(old: str, new: str) -> Edit:
    return lambda code: code.replace(old, new)


def stale(package: Path, edit: Edit, before: dict[str, object]) -> set[str]:
    """Numbers of the chapters that depend on something else after an edit of all chapters and of the package."""
    changed = 0
    for file in sorted(package.rglob("*.py")):
        code = file.read_text(encoding="utf-8")
        if (edited := edit(code)) != code:
            file.write_text(edited, encoding="utf-8")
            changed += 1
    assert changed, "the edit changes something"
    now = dependences(package, edit)
    return {chapter for chapter in now if now[chapter] != before[chapter]}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / "cdlm", tmp_path / "cdlm", ignore=shutil.ignore_patterns("__pycache__")))


NO_RESULT: dict[str, Edit] = {
    "a docstring of a class": replacing('"""Encoder (phi), decoder (theta), task classifier', '"""The networks, task classifier'),
    "a docstring of a method": replacing('"""Take the losses of a step, scalars. Waits for nothing."""', '"""Take them."""'),
    "a comment": replacing("reach = student.ppf(", "# Student's\n    reach = student.ppf("),
    "what is said of a constant": replacing("Accuracies that the paper's Tables 2, 3, 5, 6 and 7 report", "What the paper reports"),
    "headings": lambda code: re.sub(r"^# \d\d[a-z]?_\w+: .*$", "# 20_vae: Elsewhere\n", code, flags=re.M),
    "a line broken elsewhere": replacing("return mu + sigma * (gamma1", "return mu + sigma * (\n        gamma1"),
    "annotations of a function": replacing("values: Tensor, level: float = 0.95) -> Interval:", "values, level=0.95):"),
    "a room with another name": lambda code: re.sub(r"\bcdlm\.model\.losses\b", "cdlm.model.costs", code),
}


@pytest.mark.slow
@pytest.mark.parametrize("edit", NO_RESULT.values(), ids=NO_RESULT)
def test_what_changes_no_result_makes_no_chapter_stale(edit: Edit, package: Path, before: dict[str, object]) -> None:
    if edit("cdlm.model.losses") == "cdlm.model.costs":
        (package / "model/losses.py").rename(package / "model/costs.py")
    assert stale(package, edit, before) == set()


@pytest.mark.slow
def test_a_function_that_moves_makes_no_chapter_stale(package: Path, before: dict[str, object]) -> None:
    """``t_interval`` with the class of its value, to a room of their own; whoever imports it does so from there."""
    file = package / "evaluation/statistics.py"
    code = file.read_text(encoding="utf-8")
    starts = ("class Interval", "def t_interval")
    blocks = [re.search(rf"^{start}.*?(?:\n\n\n|\Z)", code, flags=re.S | re.M)[0] for start in starts]
    for block in blocks:
        code = code.replace(block, "")
    future = "from __future__ import annotations\n"
    file.write_text(code.replace(future, f"{future}from cdlm.intervals import Interval, t_interval\n"))
    imports = "import math\nfrom typing import NamedTuple\n\nfrom scipy.stats import t as student\nfrom torch import Tensor\n\n\n"
    (package / "intervals.py").write_text(imports + "".join(blocks))
    moved = replacing("from cdlm.evaluation.statistics import t_interval\n", "from cdlm.intervals import t_interval\n")
    assert stale(package, moved, before) == set()


COMMANDS = "90"             # the chapter that defines the command line, and so uses all that any command does
FINDINGS = "00 79"          # the preface and the page of results quote what the experiments find
EXPERIMENTS = f"{FINDINGS} 81 82 82b 83 84 85"
REACHED: dict[str, tuple[str, str, str]] = {        # who becomes stale, as one sees from the imports; the edit
    "a local variable: means over seeds, printed in 35, 40, 75, 76; made in 02": (
        "02 35 40 75 76", 'run.get(metric) for run in record.get("runs", ())',
        'each.get(metric) for each in record.get("runs", ())'),
    "the body of a function: intervals in the tables of the experiments; made in 76": (
        f"76 84c {EXPERIMENTS}", "(1 + level) / 2", "(1 + level) / 2.0"),
    "a default: the same function": (
        f"76 84c {EXPERIMENTS}", "values: Tensor, level: float = 0.95", "values: Tensor, level: float = 0.9"),
    "another default: a map of features, drawn in 84; made in 76": (
        f"76 84 {COMMANDS}", "perplexity: float = 30.0", "perplexity: float = 20.0"),
    "a decorator: a batch in parts, in 12, in 84, in the queue of 80 and 82b, and in all who use a run; made in 76": (
        f"12 76 80 82b 84 84b 84c 86 87 88 89 {COMMANDS}",
        "@torch.no_grad()\ndef in_batches", "@torch.inference_mode()\ndef in_batches"),
    "a default of a dataclass: random changes, of which a Loop may have some, in all who train; made in 60": (
        f"35 40 55 60 71 73 74 76 77 78 78b 78c 80 82b 84b 84c 86 87 88 89 {COMMANDS}",
        "degrees: Annotated[float, Span(0, 360)] = 0.0", "degrees: Annotated[float, Span(0, 360)] = 1.0"),
    "a function whose name others have for a variable: records joined in 51 and 84; made in 74": (
        f"51 74 84 84c {COMMANDS}", "two of these runs have the same seed", "a seed twice"),
    "a constant: the paper's numbers, in the experiments; made in 80": (
        f"80 84c {EXPERIMENTS} {COMMANDS}", "(0.634, 0.625,", "(0.635, 0.625,"),
    "a derivation: started from in 53 and 54, looked for by 50; made in 52": (
        f"50 52 53 54 {COMMANDS}", "sp.logcombine(spread) + sp.factor(gap)", "spread + sp.factor(gap)"),
    "a function found by a search for modules: by 50; made in 56": (
        f"50 56 {COMMANDS}", "def h_divergence(", "def h_divergence_("),
    "a command that no other chapter runs": (
        COMMANDS, "NOT VERIFIED: {row.why}", "NOT VERIFIED ({row.why})"),
    "the help of a command, which 73 runs": (
        f"73 {COMMANDS}", "new folder for config, metrics and weights", "new folder"),
    "a method of a class: the log of a training, of all who train; made in 73": (
        f"35 40 55 71 73 74 76 77 78 78b 78c 80 82b 84b 84c 86 87 88 89 {COMMANDS}",
        "if self.table is None:\n            self.names", "if not self.names:\n            self.names"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("expected", "old", "new"), REACHED.values(), ids=REACHED)
def test_a_change_of_code_makes_those_chapters_stale_that_use_it(
    expected: str, old: str, new: str, package: Path, before: dict[str, object]
) -> None:
    assert stale(package, replacing(old, new), before) == set(expected.split())


# Entries of tables, looked up by name


def looked_up(method: str) -> set[str]:
    """Numbers of the chapters that looked a method up when they ran, as their notebooks say."""
    entry = f"cdlm.methods.registry.METHODS[{method}]"
    return {chapter for chapter, reads in noted().items() if entry in reads}


def test_a_method_more_makes_no_chapter_stale_but_the_one_with_the_table(package: Path, before: dict[str, object]) -> None:
    """74 has the table, 90 prints nothing of it; who prints all names would be told by ``listed_tables``."""
    first = '    "cdlm": (CDLM, CDLMConfig),\n'
    more = replacing(first, f'{first}    "other": (CDLM, CDLMConfig),\n')
    assert stale(package, more, before) == {"74"}


def test_a_change_of_a_method_reaches_those_who_look_it_up(package: Path, before: dict[str, object]) -> None:
    """SHOT is used by name in 78, where it is made, and in the table of 74; others look it up."""
    changed = stale(package, replacing("share: Momentum = 0.5", "share: Momentum = 0.4"), before)
    assert looked_up("shot") <= changed <= looked_up("shot") | {"74", "78"}
    assert len(changed) < len(looked_up("cdlm") | {"74", "78"}), "fewer than those who look CDLM up"


def test_who_prints_all_names_of_a_table_depends_on_them() -> None:
    table = "cdlm.methods.registry.METHODS"
    names, reads = fingerprint.names_in(table), {f"{table}[cdlm]": ""}
    assert {"cdlm", "dann", "shot"} <= set(names)
    for printed, expected in ((", ".join(names), {table}), (", ".join(names[1:]), set()), ("", set())):
        cell = new_code_cell("1", outputs=[new_output("stream", name="stdout", text=printed)])
        assert fingerprint.listed_tables(new_notebook(cells=[cell]), reads) == expected
    assert fingerprint.listed_tables(new_notebook(cells=[cell]), {}) == set(), "where nothing was looked up"
    assert fingerprint.content_of(f"{table}[cdlm]") == "" and fingerprint.content_of(f"{table}[gone]") == "gone"
    assert fingerprint.content_of(table) not in ("", "gone")


# Records


@functools.cache
def noted() -> dict[str, dict[str, str]]:
    """What each chapter read, by its number, as its notebook says."""
    found, silent = {}, []
    for text in chapters.chapters():
        facts = chapters.read_notebook(chapters.notebook_path(text)).metadata.get("cdlm", {})
        if "reads" in facts:
            found[number(text)] = dict(facts["reads"])
        else:
            silent.append(text.stem)
    assert not silent, f"these notebooks do not say what they read; run `make execute`: {', '.join(silent)}"
    return found


RUNS_OF_TABLES = {"00", "79", "80", "81", "82", "82b", "83", "84", "85"}     # findings compare tasks
RECORDS = {
    "mnist-optdigits_cdlm.json": {"40", "75", "76"},
    "mnist-optdigits_cdlm-detached.json": {"40"},
    "optdigits-mnist_dann-off.json": {"35"},
    "mnist-optdigits_dann.json": {"35", "40", "76"},
    "mnist-optdigits_cdlm-bfloat16.json": {"75"},
    "looks.json": {"77", "81", "82"},
    "measurements/moments_mnist-optdigits.json": {"51"},
    "measurements/domain_shift.json": {"62"},
    "measurements/maps_usps-mnist.json": {"84"},
    "runs/mnist-usps_improved_s1.json": RUNS_OF_TABLES,
    "runs/fashion-fashionm_improved_s1.json": RUNS_OF_TABLES,
}


@pytest.mark.parametrize(("record", "expected"), RECORDS.items(), ids=RECORDS)
def test_one_byte_of_a_record_makes_those_chapters_stale_that_read_it(record: str, expected: set[str], tmp_path: Path) -> None:
    path = f"book/results/{record}"
    readers = {chapter: [p for p in reads if fnmatch(path, p)] for chapter, reads in noted().items()}
    place = tmp_path / path
    shutil.copytree((ROOT / path).parent, place.parent)
    place.write_bytes(place.read_bytes() + b"\n")
    for chapter, patterns in readers.items():
        for pattern in patterns:
            assert contents(tmp_path, pattern) != contents(ROOT, pattern) == noted()[chapter][pattern]
    assert {chapter for chapter, patterns in readers.items() if patterns} == expected


@pytest.mark.parametrize(
    ("record", "expected"),
    [("runs/mnist-usps_improved_s99.json", RUNS_OF_TABLES), ("runs/mnist-usps_another_s1.json", {"79", "80", "83"}),
     ("another.json", set()), ("measurements/maps_another.json", set())],
)  # fmt: skip
def test_a_new_record_makes_those_chapters_stale_that_look_for_it(record: str, expected: set[str]) -> None:
    """Two chapters on costs (80, 83) and the page of results (79) count all runs; others say which they show."""
    path = f"book/results/{record}"
    assert not (ROOT / path).exists()
    assert {chapter for chapter, reads in noted().items() if any(fnmatch(path, pattern) for pattern in reads)} == expected


def test_a_new_version_of_a_package_makes_no_chapter_stale() -> None:
    """None prints one: versions that are shown stand in records."""
    for text in chapters.chapters():
        assert chapters.read_notebook(chapters.notebook_path(text)).metadata.get("cdlm", {}).get("versions", {}) == {}, text.stem
