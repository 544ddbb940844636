"""Plant errors in the functions that compute the paper's equations, and see whether the tests notice.

    python tests/mutants.py            every planted error, for all equations
    python tests/mutants.py 7 10       those of equations 7 and 10

Each error stands in a copy of the package: a plus for a minus, times for divided by, a dropped minus, a constant or an
exponent that is not what it was. The tests that the ledger lists for the equation run against the copy. Printed is, for each
error, the test that failed first; two changes that change nothing must survive; the last line is ``killed/total``. The exit
status is 0 if every error was noticed and no control was.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import io
import json
import multiprocessing
import os
import queue
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[1]
SWAPPED = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
LOADED_ONCE = """hypothesis matplotlib.pyplot mlxtend.data pytest scipy.stats seaborn skimage.data sklearn.svm sympy.stats
torch.distributions torchvision.utils""".split()
SIGNS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}


@dataclass(frozen=True)
class Mutant:
    """A changed module of the package, and the tests that should notice."""

    equation: int
    function: str           # dotted name
    change: str             # what was changed, for the reader
    module: str             # path of the module, relative to the package
    source: str             # the whole module with the change
    tests: tuple[str, ...]


def body_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """Nodes of a function's body that compute: without docstrings, annotations, defaults, and messages of errors."""
    todo = [node for node in function.body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))]
    while todo:
        node = todo.pop(0)
        if isinstance(node, (ast.Raise, ast.JoinedStr, ast.Subscript, ast.arguments)):
            continue
        yield node
        todo += [child for name, child in ast.iter_fields(node) if name != "annotation" and isinstance(child, ast.AST)]
        todo += [c for _, group in ast.iter_fields(node) if isinstance(group, list) for c in group if isinstance(c, ast.AST)]


def changes(function: ast.AST) -> Iterator[str]:
    """Change a function in place, one error at a time, undone before the next; gives a description of each."""
    for node in list(body_nodes(function)):
        if isinstance(node, ast.BinOp) and type(node.op) in SWAPPED:
            before, old = ast.unparse(node), node.op
            node.op = SWAPPED[type(old)]()
            yield f"{SIGNS[type(old)]} became {SIGNS[type(node.op)]} in {before}"
            node.op = old
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            before, old = ast.unparse(node), node.op
            node.op = ast.UAdd()
            yield f"minus dropped in {before}"
            node.op = old
        elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
            old = node.value
            node.value = 2 * old if old else 1
            yield f"{old} became {node.value}"
            node.value = old
        elif isinstance(node, ast.Return) and node.value is not None and not isinstance(node.value, ast.Tuple):
            old = node.value
            for factor in (2, -1):
                node.value = ast.BinOp(copy.deepcopy(old), ast.Mult(), ast.Constant(factor))
                yield f"result times {factor}"
            node.value = old


def find(tree: ast.Module, path: list[str]) -> ast.AST | None:
    """Definition of a function or method in a module."""
    node: ast.AST | None = tree
    for name in path:
        definitions = (ast.FunctionDef, ast.ClassDef)
        node = next((n for n in node.body if isinstance(n, definitions) and n.name == name), None)
        if node is None:
            return None
    return node


def place(name: str) -> tuple[Path, list[str]]:
    """Module file of a dotted name of the package, and the path of the name in it."""
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        file = ROOT.joinpath(*parts[:end]).with_suffix(".py")
        if file.is_file():
            return file, parts[end:]
    raise SystemExit(f"error: the ledger names {name}, which is not in the package")


def mutants(row: dict) -> Iterator[Mutant]:
    """All planted errors of one row of the ledger."""
    for name in row["api"]:
        file, path = place(name)
        tree = ast.parse(file.read_text(encoding="utf-8"))
        found = find(tree, path)
        functions = [found] if isinstance(found, ast.FunctionDef) else [n for n in found.body if isinstance(n, ast.FunctionDef)]
        for function in functions:
            for change in changes(function):
                yield Mutant(row["equation"], name, change, str(file.relative_to(ROOT)), ast.unparse(tree), tuple(row["tests"]))


def controls(row: dict) -> Iterator[Mutant]:
    """Two changes that change nothing: the module written anew, and the terms of a sum exchanged."""
    file, path = place("cdlm.modulation.modulate")
    tree = ast.parse(file.read_text(encoding="utf-8"))
    where = (str(file.relative_to(ROOT)),)
    yield Mutant(row["equation"], "no-op", "written anew", *where, ast.unparse(tree), tuple(row["tests"]))
    total = next(n for n in body_nodes(find(tree, path)) if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Add))
    total.left, total.right = total.right, total.left
    yield Mutant(row["equation"], "no-op", "terms of a sum exchanged", *where, ast.unparse(tree), tuple(row["tests"]))


def first_failure(mutant: Mutant, results: multiprocessing.Queue) -> None:
    """In a process of its own: run the tests against a copy of the package with the error in it."""
    folder = Path(tempfile.mkdtemp())
    try:
        shutil.copytree(ROOT / "cdlm", folder / "cdlm", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / mutant.module).write_text(mutant.source, encoding="utf-8")
        sys.path.insert(0, str(folder))
        os.chdir(ROOT)
        import pytest

        class First:
            failed = ""

            def pytest_runtest_logreport(self, report):
                if report.outcome == "failed" and not self.failed:
                    self.failed = report.nodeid

            def pytest_collectreport(self, report):
                if report.outcome == "failed" and not self.failed:
                    self.failed = f"{report.nodeid} (does not load)"

        first = First()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            status = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *mutant.tests], plugins=[first])
        import cdlm

        if not str(cdlm.__file__).startswith(str(folder)):
            results.put("error: the tests did not use the copy of the package")
        elif status not in (0, 1, 2):
            results.put(f"error: pytest ended with status {status}")
        else:
            results.put(first.failed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def verdicts(planted: Iterable[Mutant], context: multiprocessing.context.BaseContext) -> Iterator[tuple[Mutant, str]]:
    """Each mutant with the first test that noticed it, or "" if none did; as many at a time as there are cores."""
    running: deque = deque()

    def wait() -> tuple[Mutant, str]:
        mutant, process, results = running.popleft()
        try:
            return mutant, results.get(timeout=300)
        except queue.Empty:
            return mutant, "error: no answer in five minutes"
        finally:
            process.join(10)
            process.kill()

    for mutant in planted:
        if len(running) == (os.cpu_count() or 1):
            yield wait()
        results = context.Queue()
        process = context.Process(target=first_failure, args=(mutant, results))
        process.start()
        running.append((mutant, process, results))
    while running:
        yield wait()


def main(arguments: list[str]) -> int:
    # Inherited by every process, where processes can be forked; the package itself is loaded by each, from its own copy.
    for name in LOADED_ONCE:
        import_module(name)
    recorded = json.loads((ROOT / "cdlm/theory/ledger.json").read_text(encoding="utf-8"))["equations"]
    wanted = [int(number) for number in arguments] or sorted(map(int, recorded))
    ledger = [{"equation": number, **recorded[str(number)]} for number in wanted]
    context = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn")
    killed, total, broken = 0, 0, False
    for mutant, verdict in verdicts((mutant for row in ledger for mutant in mutants(row)), context):
        total += 1
        killed += bool(verdict)
        broken |= verdict.startswith("error")
        print(f"Eq. {mutant.equation:2} {mutant.function}: {mutant.change}: {verdict or 'SURVIVED'}", flush=True)
    for mutant, verdict in verdicts(controls(ledger[0]), context):
        broken |= bool(verdict)
        print(f"control: {mutant.change}: {'survived' if not verdict else 'KILLED by ' + verdict}", flush=True)
    print(f"{killed}/{total}")
    return int(broken or killed < total)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
