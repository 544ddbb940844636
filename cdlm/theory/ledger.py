"""The equation ledger: what was checked, how, and whether that is still so.

Generated from book/src/92_ledger.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import pkgutil
import re
from dataclasses import dataclass
from importlib import import_module, resources
from pathlib import Path

from cdlm.theory.equations import Equation

__all__ = [
    "CHECKS",
    "LEDGER",
    "LedgerError",
    "NUMBERS",
    "PACKAGE",
    "Row",
    "chapter_of",
    "equations",
    "fingerprint",
    "fingerprints",
    "home",
    "imported_modules",
    "judge",
    "module_file",
    "read_ledger",
    "required_checks",
    "rows",
]


# 92_ledger: What a row has to pass

CHECKS = ("derivation", "formula", "gradient", "simulation", "error", "extremes", "library")


def required_checks(kind: str) -> set[str]:
    """The checks without which a row of this kind is not verified."""
    if kind == "cited theorem":
        return {"derivation", "formula", "simulation"}
    return {"derivation", "formula", "gradient"} | ({"error"} if kind == "approximation" else set())


# 92_ledger: What makes a row stale

PACKAGE = Path(str(resources.files("cdlm")))


class LedgerError(RuntimeError):
    """The ledger cannot be read; the message says what to do."""


def module_file(name: str) -> Path | None:
    """File of the module or package ``name`` of cdlm, or None where there is none."""
    top, *inner = name.split(".")
    path = PACKAGE.joinpath(*inner) if top == "cdlm" else PACKAGE / "nowhere"
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def imported_modules(file: Path) -> set[Path]:
    """Files of the modules of cdlm that a Python file imports, itself included, directly or through others."""
    todo, found = [file], set()
    while todo:
        file = todo.pop()
        if file in found:
            continue
        found.add(file)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith("cdlm."):
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                todo += [path for path in map(module_file, names) if path is not None]
    return found


# 92_ledger: What makes a row stale

def fingerprint(files: set[Path]) -> str:
    """SHA-256 over the texts of these files and of all they import from cdlm, shortened; the same on every machine."""
    digest = hashlib.sha256()
    for file in sorted(set().union(*map(imported_modules, files)), key=lambda path: (path.name, str(path))):
        digest.update(file.read_text(encoding="utf-8").encode())
    return digest.hexdigest()[:16]


def home(name: str) -> Path:
    """File that defines the dotted ``name``, which may be a function, a class or a method. Raises LedgerError."""
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        if (file := module_file(".".join(parts[:end]))) is not None:
            found = functools.reduce(lambda value, part: getattr(value, part, None), parts[end:],
                                     import_module(".".join(parts[:end])))
            if found is not None:
                return file
    raise LedgerError(f"there is no {name!r} in the package")


def fingerprints(eq: Equation, tests: list[str]) -> dict[str, str]:
    """Of the derivation, of the functions, and, where there is a checkout, of the files with the tests."""
    files = {PACKAGE.parent / test.partition("::")[0] for test in tests}
    found = {"cell": fingerprint({home(eq.derivation)}), "function": fingerprint(set(map(home, eq.api)))}
    return found | ({"tests": fingerprint(files)} if files and all(file.is_file() for file in files) else {})


# 92_ledger: The rows

NUMBERS = range(1, 25)      # of the paper's equations


def equations() -> dict[int, Equation]:
    """The derivations of all theory modules by number. Raises LedgerError where a number is marked twice."""
    found: dict[int, Equation] = {}
    for info in pkgutil.iter_modules([str(PACKAGE / "theory")]):
        module = import_module(f"cdlm.theory.{info.name}")
        marks = {mark for value in vars(module).values() if isinstance(mark := getattr(value, "equation", None), Equation)}
        for eq in marks:
            if eq.derivation.rpartition(".")[0] == module.__name__:
                if eq.number in found:
                    raise LedgerError(f"equation {eq.number} is marked by {found[eq.number].derivation} and {eq.derivation}")
                found[eq.number] = eq
    return dict(sorted(found.items()))


def chapter_of(eq: Equation) -> str:
    """Chapter and anchor where the equation is derived, such as "51_divergence#eq-7"."""
    text = home(eq.derivation).read_text(encoding="utf-8")
    before = text[: text.index(f"def {eq.derivation.rpartition('.')[2]}(")]
    chapter = re.findall(r"^# (\w+): ", before, flags=re.M)[-1]
    return f"{chapter}#eq-{eq.number}"


# 92_ledger: The rows

@dataclass(frozen=True)
class Row:
    """A row of the ledger. ``statement`` is LaTeX; ``why`` says what is missing where ``verified`` is false."""

    equation: int
    title: str
    statement: str
    kind: str
    verdict: str
    note: str
    verified: bool
    why: str
    chapter: str
    api: list[str]
    tests: list[str]


def judge(eq: Equation, recorded: dict) -> str:
    """Why the recorded outcomes do not verify an equation, or "" if they do."""
    outcomes = recorded.get("tests", {})
    if not outcomes:
        return "no recorded tests"
    failed = [test for test, outcome in outcomes.items() if outcome["outcome"] != "passed"]
    if failed:
        return f"not passed: {failed[0]}"
    missing = required_checks(eq.kind) - {check for outcome in outcomes.values() for check in outcome["checks"]}
    if missing:
        return f"no check by {', '.join(sorted(missing))}"
    now = fingerprints(eq, list(outcomes))
    changed = [part for part, value in now.items() if recorded["fingerprints"].get(part) != value]
    return f"stale: {', '.join(changed)} changed since the tests were run" if changed else ""


# 92_ledger: The rows

LEDGER = PACKAGE / "theory" / "ledger.json"


def read_ledger(path: Path = LEDGER) -> dict:
    """The recorded outcomes: "provenance", and "equations" by number. Raises LedgerError."""
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))
        return {"provenance": recorded["provenance"], "equations": dict(recorded["equations"])}
    except FileNotFoundError:
        raise LedgerError(f"{path.name} is missing; `make ledger` in a checkout runs the tests and writes it") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LedgerError(f"{path.name} cannot be read ({type(error).__name__}); `make ledger` writes it anew") from None


def rows(recorded: dict | None = None) -> list[Row]:
    """The ledger as of now, a row for each number, also for one that no chapter derives. Raises LedgerError."""
    recorded, known, found = recorded or read_ledger(), equations(), []
    for number in NUMBERS:
        outcome, eq = recorded["equations"].get(str(number), {}), known.get(number)
        if eq is None:
            found.append(Row(number, "", "", "", "", "", False, "no chapter derives it", "", [], []))
            continue
        why = judge(eq, outcome)
        found.append(Row(number, eq.title, outcome.get("statement", ""), eq.kind, eq.verdict, eq.note, not why, why,
                         chapter_of(eq), list(eq.api), list(outcome.get("tests", {}))))
    return found
