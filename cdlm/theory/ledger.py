"""The equation ledger: what was checked, how, and whether that is still so.

Generated from book/src/50_equations.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import hashlib
import json
import pkgutil
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module, resources
from pathlib import Path

from cdlm.closure import Library, Place, closure, find
from cdlm.files import RunError, read_json
from cdlm.shapes import LedgerFile
from cdlm.theory.equations import Equation

__all__ = [
    "CHECKS",
    "LEDGER",
    "LedgerError",
    "NUMBERS",
    "PACKAGE",
    "Row",
    "TESTS",
    "chapter_of",
    "equations",
    "fingerprint",
    "fingerprints",
    "home",
    "judge",
    "library",
    "place_of",
    "read_ledger",
    "required_checks",
    "rows",
]


# 50_equations: What a row has to pass

CHECKS = ("derivation", "formula", "gradient", "simulation", "error", "extremes", "library")


def required_checks(kind: str) -> set[str]:
    """The checks without which a row of this kind is not verified."""
    if kind == "cited theorem":
        return {"derivation", "formula", "simulation"}
    return {"derivation", "formula", "gradient"} | ({"error"}
                                                    if kind == "approximation" else set())


# 50_equations: Fingerprints of a row

PACKAGE = Path(str(resources.files("cdlm")))
TESTS = PACKAGE.parent / "tests"                    # where there is a checkout


def library() -> Library:
    """The package as it is now, and its tests."""
    return Library(PACKAGE, (TESTS / "equations", TESTS))


class LedgerError(RuntimeError):
    """The ledger cannot be read; the message says what to do."""


def place_of(name: str, shelf: Library | None = None) -> Place:
    """Module and name of the dotted ``name`` of a function or class. Raises LedgerError."""
    found = find(shelf or library(), name)
    if found is None or found[1] not in found[0].units or found[1].startswith("__"):
        raise LedgerError(f"there is no {name!r} in the package")
    return found


def home(name: str) -> Path:
    """File that defines the dotted ``name``. Raises LedgerError."""
    place_of(name, shelf := library())
    modules = [name.rsplit(".", count)[0] for count in range(1, name.count(".") + 1)]
    return next(file for module in modules if (file := shelf.file(module)))


def fingerprint(shelf: Library, places: Iterable[Place]) -> str:
    """SHA-256 over the code reached from definitions, shortened; the same on every machine."""
    code = json.dumps(closure(shelf, places))
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def fingerprints(eq: Equation, tests: list[str],
                 shelf: Library | None = None) -> dict[str, str]:
    """Of the derivation, of the functions, and, where there is a checkout, of the tests.

    Tests are named as pytest does it, "tests/equations/test_x.py::test_y".
    """
    shelf = shelf or library()
    found = {"cell": fingerprint(shelf, [place_of(eq.derivation, shelf)]),
             "function": fingerprint(shelf, [place_of(name, shelf) for name in eq.api])}
    words = (test.split("::") for test in tests)
    places = [find(shelf, f"{Path(file).stem}.{name}") for file, name, *_ in words]
    if any(places):
        found["tests"] = fingerprint(shelf, [place for place in places if place])
    return found


# 50_equations: The rows

NUMBERS = range(1, 25)      # of the paper's equations


def equations() -> dict[int, Equation]:
    """The derivations of all theory modules by number.

    Raises LedgerError where a number is marked twice.
    """
    found: dict[int, Equation] = {}
    for info in pkgutil.iter_modules([str(PACKAGE / "theory")]):
        module = import_module(f"cdlm.theory.{info.name}")
        marks = {mark for value in vars(module).values()
                 if isinstance(mark := getattr(value, "equation", None), Equation)}
        for eq in marks:
            if eq.derivation.rpartition(".")[0] == module.__name__:
                if eq.number in found:
                    raise LedgerError(f"equation {eq.number} is marked by "
                                      f"{found[eq.number].derivation} and {eq.derivation}")
                found[eq.number] = eq
    return dict(sorted(found.items()))


def chapter_of(eq: Equation) -> str:
    """Chapter and anchor where the equation is derived, such as "52_divergence#eq-7"."""
    text = home(eq.derivation).read_text(encoding="utf-8")
    before = text[: text.index(f"def {eq.derivation.rpartition('.')[2]}(")]
    chapter = re.findall(r"^# (\d\d_\w+): ", before, flags=re.M)[-1]
    return f"{chapter}#eq-{eq.number}"


@dataclass(frozen=True)
class Row:
    """A row of the ledger.

    ``statement`` is LaTeX; ``why`` says what is missing where ``verified`` is false.
    """

    equation: int
    title: str
    statement: str
    kind: str
    verdict: str
    note: str
    slip: str
    verified: bool
    why: str
    chapter: str
    api: list[str]
    tests: list[str]


def judge(eq: Equation, recorded: dict, shelf: Library | None = None) -> str:
    """Why the recorded outcomes do not verify an equation, or "" if they do."""
    outcomes = recorded.get("tests", {})
    if not outcomes:
        return "no recorded tests"
    failed = [test for test, outcome in outcomes.items() if outcome["outcome"] != "passed"]
    if failed:
        return f"not passed: {failed[0]}"
    missing = required_checks(eq.kind) - {check for outcome in outcomes.values()
                                          for check in outcome["checks"]}
    if missing:
        return f"no check by {', '.join(sorted(missing))}"
    now = fingerprints(eq, list(outcomes), shelf)
    changed = [part
               for part, value in now.items() if recorded["fingerprints"].get(part) != value]
    return f"stale: {', '.join(changed)} changed since the tests were run" if changed else ""


LEDGER = PACKAGE / "theory" / "ledger.json"


def read_ledger(path: Path = LEDGER) -> dict:
    """The recorded outcomes: "provenance", and "equations" by number. Raises LedgerError."""
    if not path.exists():
        raise LedgerError(f"{path.name} is missing; `make ledger` in a checkout runs the "
                          "tests and writes it")
    try:
        return read_json(path, LedgerFile)
    except RunError as error:
        raise LedgerError(f"{str(error).replace(str(path), path.name)}: "
                          "`make ledger` writes it") from None


def rows(recorded: dict | None = None) -> list[Row]:
    """The ledger as of now, a row for each number, also for one that no chapter derives.

    Raises LedgerError.
    """
    recorded, known, found = recorded or read_ledger(), equations(), []
    shelf = library()
    for number in NUMBERS:
        outcome, eq = recorded["equations"].get(str(number), {}), known.get(number)
        if eq is None:
            found.append(Row(number, *[""] * 6, False, "no chapter derives it", "", [], []))
            continue
        why = judge(eq, outcome, shelf)
        shown = eq.title, outcome.get("statement", ""), eq.kind, eq.verdict, eq.note, eq.slip
        found.append(Row(number, *shown, not why, why, chapter_of(eq), list(eq.api),
                         list(outcome.get("tests", {}))))
    return found
