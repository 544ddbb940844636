"""The equation ledger: run the tests of the equations and record what came out, or check that the record is current.

    python book/tools/ledger.py            run the tests, write cdlm/theory/ledger.json
    python book/tools/ledger.py --check    run nothing; fail on a missing, failed or stale row
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from importlib.metadata import version

from program import finish

# isort: split
import pytest
import sympy as sp
from checksums import keep_checksum
from disk import write_atomically

from cdlm.theory.equations import Equation
from cdlm.theory.ledger import LEDGER, LedgerError, chapter_of, equations, fingerprints, read_ledger, rows
from chapters import ROOT


class Recorder:
    """Pytest plugin: what came out of every test that names an equation."""

    def __init__(self) -> None:
        self.found: dict[int, dict[str, dict]] = {}
        self.marks: dict[str, list[tuple[int, str]]] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            marks = [(number, mark.kwargs["check"]) for mark in item.iter_markers("equation") for number in mark.args]
            self.marks[item.nodeid] = marks

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            for number, check in self.marks.get(report.nodeid, []):
                # Parametrized cases are one test: it passed if all of them did.
                test = self.found.setdefault(number, {}).setdefault(
                    report.nodeid.partition("[")[0], {"outcome": "passed", "checks": []}
                )
                if report.outcome != "passed":
                    test["outcome"] = report.outcome
                if check not in test["checks"]:
                    test["checks"] = sorted([*test["checks"], check])


def facts(eq: Equation) -> dict:
    """What a row of the ledger says of an equation without a test or a computation."""
    shown = {"title": eq.title, "kind": eq.kind, "verdict": eq.verdict, "note": eq.note, "slip": eq.slip, "api": list(eq.api)}
    return shown | {"chapter": chapter_of(eq), "derivation": eq.derivation}


def changed_facts() -> list[str]:
    """A line for each row that says of its equation something else than the chapters do. Raises LedgerError."""
    recorded, found = read_ledger()["equations"], []
    for number, eq in equations().items():
        row = recorded.get(str(number), {})
        found += [f"equation {number}: its {name} is not the chapter's" for name, value in facts(eq).items()
                  if row.get(name) != value]
    return found


def record() -> dict:
    """Run the tests of the equations; the outcomes with fingerprints and versions."""
    recorder = Recorder()
    os.chdir(ROOT)
    pytest.main(["-q", "-p", "no:cacheprovider", "-m", "equation", "tests/equations"], plugins=[recorder])
    known = {}
    for number, eq in equations().items():
        tests = dict(sorted(recorder.found.get(number, {}).items()))
        row = facts(eq) | {"statement": sp.latex(eq.derive())}
        known[str(number)] = row | {"fingerprints": fingerprints(eq, list(tests)), "tests": tests}
    versions = {name: version(name) for name in ("torch", "sympy", "numpy")}
    return {"provenance": {"python": platform.python_version(), "packages": versions}, "equations": known}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="run nothing; fail on a row that is not verified")
    options = parser.parse_args(arguments)
    try:
        if not options.check:
            write_atomically(LEDGER, json.dumps(record(), indent=1) + "\n")
            keep_checksum(ROOT, LEDGER)
        found = [f"equation {row.equation}: {row.why}" for row in rows() if not row.verified] or changed_facts()
    except LedgerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for problem in found:
        print(f"error: {problem}; `make ledger`", file=sys.stderr)
    if not found:
        print("every equation of the ledger is verified")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(finish(main))
