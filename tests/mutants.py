"""Plant errors in the functions that compute the paper's equations, and see whether the tests notice.

    python tests/mutants.py            every planted error, for all equations
    python tests/mutants.py 7 10       those of equations 7 and 10

Each error is put into the running package and taken out again; no file is changed: a plus for a minus, times for divided by,
a dropped minus, a constant or an exponent that is not what it was, a result with a factor or another sign. The tests that the
ledger lists for the equation run against it. Printed is, for each error, the test that failed first; two changes that change
nothing must survive; the last line is ``killed/total``. The exit status is 0 if every error was noticed and no control was.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import functools
import inspect
import io
import json
import multiprocessing
import os
import queue
import sys
import types
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
    """A function of the package with another body."""

    function: str               # dotted name, as the ledger gives it
    change: str                 # what was changed, for the reader
    file: Path
    path: tuple[str, ...]       # of the function in its module
    code: types.CodeType        # the changed body


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


def function_nodes(tree: ast.Module, path: list[str]) -> Iterator[tuple[list[str], ast.FunctionDef]]:
    """The function of that path with its path, or every method where it is a class."""
    found = find(tree, path)
    if isinstance(found, ast.FunctionDef):
        yield path, found
    else:
        yield from (([*path, node.name], node) for node in found.body if isinstance(node, ast.FunctionDef))


def code_of(tree: ast.Module, file: Path, path: list[str]) -> types.CodeType:
    """The compiled body of a function, found by its path in a compiled module."""
    code = compile(ast.fix_missing_locations(copy.deepcopy(tree)), str(file), "exec", dont_inherit=True)
    for name in path:
        code = next(c for c in code.co_consts if isinstance(c, types.CodeType) and c.co_name == name)
    return code


def mutants(row: dict) -> Iterator[Mutant]:
    """All planted errors of one row of the ledger."""
    for name in row["api"]:
        file, path = place(name)
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for inner, function in function_nodes(tree, path):
            for change in changes(function):
                yield Mutant(name, change, file, tuple(inner), code_of(tree, file, inner))


def controls() -> Iterator[Mutant]:
    """Two changes that change nothing: a function compiled anew, and the terms of its sum exchanged."""
    file, path = place("cdlm.modulation.modulate")
    tree = ast.parse(file.read_text(encoding="utf-8"))
    yield Mutant("control", "compiled anew", file, tuple(path), code_of(tree, file, path))
    total = next(n for n in body_nodes(find(tree, path)) if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Add))
    total.left, total.right = total.right, total.left
    yield Mutant("control", "terms of a sum exchanged", file, tuple(path), code_of(tree, file, path))


class First:
    """Pytest plugin: the first test that did not pass."""

    failed = ""

    def pytest_runtest_logreport(self, report) -> None:
        if report.outcome == "failed" and not self.failed:
            self.failed = report.nodeid


def target(mutant: Mutant) -> types.FunctionType:
    """The function in the running package whose body is exchanged."""
    module = import_module(".".join(mutant.file.relative_to(ROOT).with_suffix("").parts))
    found = functools.reduce(lambda value, name: inspect.getattr_static(value, name), mutant.path, module)
    found = getattr(found, "__func__", found)                       # static and class methods
    return inspect.unwrap(found)


def try_all(planted: list[Mutant], tests: list[str], results: multiprocessing.Queue) -> None:
    """In a process of its own: the first failing test for each mutant, or "" where none failed; put one by one."""
    import hypothesis
    import pytest

    os.chdir(ROOT)
    found_is_enough = (hypothesis.Phase.explicit, hypothesis.Phase.generate)         # no search for the simplest example
    hypothesis.settings.register_profile("planted", phases=found_is_enough, database=None, deadline=None)
    hypothesis.settings.load_profile("planted")

    def first_failure() -> str:
        first = First()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            status = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests], plugins=[first])
        return first.failed if status in (0, 1) else f"error: pytest ended with status {status}"

    if broken := first_failure():
        results.put(f"error: fails without any change: {broken}")
        return
    for mutant in planted:
        function = target(mutant)
        before, function.__code__ = function.__code__, mutant.code
        results.put(first_failure())
        function.__code__ = before


def verdicts(tasks: Iterable[tuple[int, list[Mutant], list[str]]]) -> Iterator[tuple[int, Mutant, str]]:
    """Each mutant with the first test that noticed it, or ""; a process for each equation, one for each core at a time."""
    context = multiprocessing.get_context("fork")
    running: deque = deque()

    def wait() -> Iterator[tuple[int, Mutant, str]]:
        number, planted, process, results = running.popleft()
        for mutant in planted:
            try:
                verdict = results.get(timeout=1800)
            except queue.Empty:
                verdict = "error: no answer in half an hour"
            yield number, mutant, verdict
            if verdict.startswith("error"):
                break
        process.kill()

    for number, planted, tests in tasks:
        if len(running) == (os.cpu_count() or 1):
            yield from wait()
        results = context.Queue()
        process = context.Process(target=try_all, args=(planted, tests, results))
        process.start()
        running.append((number, planted, process, results))
    while running:
        yield from wait()


def main(arguments: list[str]) -> int:
    if "fork" not in multiprocessing.get_all_start_methods():
        raise SystemExit("error: this needs a system that can fork processes (Linux, macOS)")
    for name in LOADED_ONCE:        # inherited by every process; the package itself is loaded by each
        import_module(name)
    recorded = json.loads((ROOT / "cdlm/theory/ledger.json").read_text(encoding="utf-8"))["equations"]
    wanted = arguments or sorted(recorded, key=int)
    tasks = [(int(number), list(mutants(recorded[number])), list(recorded[number]["tests"])) for number in wanted]
    killed, total, broken = 0, sum(len(planted) for _, planted, _ in tasks), False
    for number, mutant, verdict in verdicts(tasks):
        killed += bool(verdict) and not verdict.startswith("error")
        broken |= verdict.startswith("error")
        print(f"Eq. {number:2} {mutant.function}: {mutant.change}: {verdict or 'SURVIVED'}", flush=True)
    for _, mutant, verdict in verdicts([(1, list(controls()), list(recorded["1"]["tests"]))]):
        broken |= bool(verdict)
        print(f"control: {mutant.change}: {'survived' if not verdict else 'KILLED by ' + verdict}", flush=True)
    print(f"{killed}/{total}")
    return int(broken or killed < total)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
