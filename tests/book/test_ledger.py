"""The equation ledger: complete, current, honest about what is stale, and its tests able to fail."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import sympy as sp
from conftest import ROOT, copy_of_repository
from mutants import WRITTEN

from cdlm.theory import ledger as theory_ledger
from cdlm.theory.equations import KINDS, VERDICTS, equation
from cdlm.theory.ledger import CHECKS, NUMBERS, LedgerError, equations, home, judge, read_ledger, required_checks, rows

ROWS = {row.equation: row for row in rows()} if (ROOT / "cdlm/theory/ledger.json").exists() else {}
each_equation = pytest.mark.parametrize("number", NUMBERS)


def command(*words: str, root: Path = ROOT) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(root)}
    return subprocess.run([sys.executable, "-m", "cdlm", "ledger", *words], cwd=root, env=environment,
                          capture_output=True, text=True, timeout=600)  # fmt: skip


# The rows


@each_equation
def test_every_equation_is_verified(number: int) -> None:
    assert ROWS[number].verified, ROWS[number].why


def test_numbers_are_the_papers() -> None:
    assert list(NUMBERS) == list(range(1, 25)) == list(equations())


@each_equation
def test_a_row_says_all_it_has_to(number: int) -> None:
    row = ROWS[number]
    assert row.title and row.statement and row.kind in KINDS and row.verdict in VERDICTS
    assert (row.verdict == "exact") == (not row.note)
    assert row.api and row.tests
    chapter, _, anchor = row.chapter.partition("#")
    text = (ROOT / f"book/src/{chapter}.md").read_text(encoding="utf-8")
    assert re.search(rf"^\({anchor}\)=\n+#+ ", text, flags=re.M), "the anchor stands before a heading"
    assert re.search(rf"^ *eq_{number}\(\)$", text, flags=re.M), "the chapter shows the derivation's value"


@each_equation
def test_the_statement_is_what_the_derivation_gives(number: int) -> None:
    eq = equations()[number]
    assert isinstance(eq.derive(), sp.Basic)
    assert sp.latex(eq.derive()) == ROWS[number].statement


@each_equation
def test_functions_and_tests_of_a_row_exist(number: int) -> None:
    for name in ROWS[number].api:
        assert home(name).is_file()
    for test in ROWS[number].tests:
        file, _, name = test.rpartition("::")
        assert re.search(rf"^ *def {name}\(", (ROOT / file.partition("::")[0]).read_text(encoding="utf-8"), flags=re.M), test


@pytest.mark.slow
def test_the_command_agrees() -> None:
    done = command("--json")
    listed = json.loads(done.stdout)
    assert done.returncode == 0 and done.stderr == ""
    assert [row["equation"] for row in listed] == list(NUMBERS) and all(row["verified"] for row in listed)
    assert {"equation", "statement", "verdict", "verified", "chapter", "api", "tests"} <= set(listed[0])
    printed = command().stdout.splitlines()
    assert len(printed) == len(NUMBERS) and all(row["title"] in line for row, line in zip(listed, printed))


@each_equation
def test_the_page_shows_verdict_note_and_slip(number: int) -> None:
    sys.path.insert(0, str(ROOT / "book/_ext"))
    try:
        from cdlm_book import LedgerDirective
    finally:
        sys.path.pop(0)
    eq = equations()[number]
    facts = {"title": eq.title, "kind": eq.kind, "verdict": eq.verdict, "note": eq.note, "slip": eq.slip, "api": eq.api,
             "statement": "1", "chapter": ROWS[number].chapter, "tests": {}}
    lines = LedgerDirective.entry(str(number), facts)
    assert f":Verdict: {eq.kind}, {eq.verdict}." in lines
    assert sum(line.startswith(":Note: ") for line in lines) == bool(eq.note)
    assert sum(line.startswith(":In print: ") for line in lines) == bool(eq.slip)


def test_verdicts_are_told_from_slips_of_print() -> None:
    """A lost sum or factor is noted in every row that has one, and decides no verdict."""
    known = equations()
    assert {number for number, eq in known.items() if eq.slip} == {3, 9, 13}
    assert {number for number, eq in known.items() if eq.verdict == "misprint, corrected"} == {18, 20}
    assert known[9].verdict == "exact under what the paper has assumed" and known[23].verdict == "faithful quotation"
    assert known[11].verdict == known[13].verdict == "exact"
    assert {eq.verdict for eq in known.values()} == set(VERDICTS)


def test_the_drawing_shows_every_derivation_and_what_it_starts_from() -> None:
    sys.path.insert(0, str(ROOT / "figures"))
    try:
        import equations as drawing
    finally:
        sys.path.pop(0)
    edges = drawing.graph()
    assert list(edges) == list(NUMBERS)
    assert edges[9] == {5, 6, 7} and edges[14] == {7, 12} and not edges[1] and not edges[7]
    shown = drawing.reduced(edges)
    alt = re.search(r":name: fig-equations\n:alt: (.+)", (ROOT / "book/ledger.md").read_text(encoding="utf-8"))[1]
    for number in (number for number in NUMBERS if not edges[number] and number not in set().union(*edges.values())):
        assert re.search(rf"\b{number}\b.* stand alone", alt)
    assert shown[4] == {3} and shown[14] == {12} and set(drawing.COLORS) == set(VERDICTS)


# What makes a row stale


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of_repository(tmp_path_factory.mktemp("ledger") / "copy")


@pytest.fixture
def copied(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose files this process judges in the place of our own."""
    for name, place in {"PACKAGE": checkout / "cdlm", "TESTS": checkout / "tests"}.items():
        monkeypatch.setattr(theory_ledger, name, place)
    return checkout


def stale(copied: Path, file: str, old: str, new: str) -> dict[int, str]:
    """Equations that are not verified while something is exchanged in a file, with the reasons."""
    path = copied / file
    before = path.read_text(encoding="utf-8")
    assert old in before
    path.write_text(before.replace(old, new), encoding="utf-8")
    try:
        return {row.equation: row.why for row in rows() if not row.verified}
    finally:
        path.write_text(before, encoding="utf-8")


def why(*parts: str) -> str:
    return f"stale: {', '.join(parts)} changed since the tests were run"


def test_a_changed_function_makes_its_equations_stale_and_no_others(copied: Path) -> None:
    """PM1's divergence is what computes Eq. 12; the tests of 13 to 15 use it."""
    found = stale(copied, "cdlm/theory/partial.py", "return 2 * ((mu_s - mu_t)", "return 3 * ((mu_s - mu_t)")
    assert found == {12: why("function", "tests"), **dict.fromkeys((13, 14, 15), why("tests"))}


def test_a_changed_dependency_makes_equations_stale(copied: Path) -> None:
    """The derivations of these take an expectation by integration; of 11, only a test does."""
    found = stale(copied, "cdlm/theory/symbols.py", "return sp.expand(sp.simplify(integral))", "return sp.simplify(integral)")
    cells = [number for number in (*range(3, 19), 20) if number != 11]
    assert found == {11: why("tests"), **dict.fromkeys(cells, why("cell", "tests"))}


def test_changed_tests_make_their_equations_stale(copied: Path) -> None:
    """One number in one test, which marks one equation."""
    found = stale(copied, "tests/equations/test_divergence.py", "sigma_s: 0.7, mu_t: -1.1", "sigma_s: 0.8, mu_t: -1.1")
    assert found == {7: why("tests")}


def test_what_changes_no_result_makes_nothing_stale(copied: Path) -> None:
    """A line of a docstring, a heading, an annotation, and a comment in the tests."""
    partial, symbols = "cdlm/theory/partial.py", "cdlm/theory/symbols.py"
    assert stale(copied, partial, "    All are (batch, latent) or broadcast to it, both deviations > 0.\n", "") == {}
    assert stale(copied, partial, "# 53_partial: Equation 12: under PM1", "# 53_partial: Other\n\n# and, under PM1") == {}
    assert stale(copied, symbols, "deviation: sp.Expr) -> sp.Expr:\n    \"\"\"Density", "deviation):\n    \"\"\"Density") == {}
    assert stale(copied, "tests/equations/test_divergence.py", "    numbers = {mu_s", "    # some\n    numbers = {mu_s") == {}


@pytest.mark.slow
@pytest.mark.parametrize("content", [None, "", "{}", '{"provenance": {}, "equations": []}', "[1]"], ids=repr)
def test_a_missing_or_broken_record_gets_one_line(checkout: Path, content: str | None) -> None:
    path = checkout / "cdlm/theory/ledger.json"
    before = path.read_text(encoding="utf-8")
    path.unlink() if content is None else path.write_text(content, encoding="utf-8")
    try:
        done = command(root=checkout)
    finally:
        path.write_text(before, encoding="utf-8")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"error: ledger\.json .*make ledger.*\n", done.stderr)


# What the verdict is made of


def outcome(*checks: str, result: str = "passed") -> dict:
    return {"tests": {"tests/equations/none.py::test": {"outcome": result, "checks": list(checks)}}, "fingerprints": {}}


def test_a_verdict_needs_every_required_check() -> None:
    eq = equations()[3]
    assert judge(eq, {}) == "no recorded tests"
    assert judge(eq, outcome(*CHECKS, result="failed")).startswith("not passed: ")
    assert judge(eq, outcome(*CHECKS, result="skipped")).startswith("not passed: ")
    assert judge(eq, outcome("formula", "gradient")) == "no check by derivation"
    assert judge(eq, outcome(*CHECKS)) == "stale: cell, function changed since the tests were run"


def test_required_checks() -> None:
    assert required_checks("approximation") - required_checks("identity") == {"error"}
    assert "simulation" in required_checks("cited theorem") and "gradient" not in required_checks("cited theorem")
    assert set().union(*map(required_checks, KINDS)) <= set(CHECKS)


@pytest.mark.parametrize("kind, verdict, note", [
    ("guess", "exact", ""), ("identity", "probably", ""), ("identity", "misprint, corrected", ""), ("identity", "exact", "no"),
])
def test_a_derivation_must_say_what_it_is(kind: str, verdict: str, note: str) -> None:
    with pytest.raises(ValueError, match="equation 30"):
        equation(30, kind, verdict, "cdlm.model.modulation.modulate", note)


def test_a_name_that_does_not_exist_is_refused() -> None:
    for name in ("cdlm.model.modulation.demodulate", "cdlm.nothing.at_all", "torch.nn"):
        with pytest.raises(LedgerError, match=name):
            home(name)


def test_a_missing_record_is_an_error_with_advice(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="make ledger"):
        read_ledger(tmp_path / "ledger.json")


@pytest.mark.slow
def test_the_recorder_counts_a_parametrized_test_as_failed_if_one_case_fails(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import pytest\n\n"
        "@pytest.mark.equation(1, 2, check='formula')\n@pytest.mark.parametrize('n', [1, 2, 3])\n"
        "def test_a(n):\n    assert n != 2\n\n"
        "@pytest.mark.equation(1, check='gradient')\n@pytest.mark.equation(2, check='limits')\ndef test_b():\n    pass\n\n"
        "@pytest.mark.equation(1, check='error')\ndef test_c():\n    pytest.skip('not here')\n\ndef test_d():\n    assert False\n"
    )
    script = f"import sys, json; sys.path[:0] = [{str(ROOT / 'book/tools')!r}]; import pytest, ledger; r = ledger.Recorder(); " \
        "pytest.main(['-q', '-p', 'no:cacheprovider', '.'], plugins=[r]); print('FOUND', json.dumps(r.found))"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    found = json.loads(done.stdout.rpartition("FOUND ")[2])
    assert {test.rpartition("::")[2]: part for test, part in found["1"].items()} == {
        "test_a": {"outcome": "failed", "checks": ["formula"]},
        "test_b": {"outcome": "passed", "checks": ["gradient"]},
        "test_c": {"outcome": "skipped", "checks": ["error"]},
    }
    assert set(found) == {"1", "2"} and len(found["2"]) == 2


# The tests can fail


@pytest.mark.slow
@pytest.mark.parametrize("errors", ["--written", pytest.param("--functions", marks=pytest.mark.everything)])
def test_every_planted_error_is_noticed(errors: str) -> None:
    """Those written out, and all in functions; derivations take hours: `python tests/mutants.py` on a free machine."""
    done = subprocess.run([sys.executable, ROOT / "tests/mutants.py", errors], capture_output=True, text=True, timeout=5400)
    lines = done.stdout.splitlines()
    assert not [line for line in lines if line.endswith("SURVIVED") or "KILLED by" in line], done.stdout[-3000:]
    assert done.returncode == 0, done.stderr[-2000:]
    killed, total = map(int, lines[-1].split("/"))
    if errors == "--written":
        assert killed == total == len(WRITTEN)
        return
    assert killed == total >= 2 * len(NUMBERS)
    assert {int(number) for number in re.findall(r"^Eq\. +(\d+) ", done.stdout, flags=re.M)} == set(NUMBERS)
