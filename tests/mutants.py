"""Plant errors in the functions that compute the paper's equations and in their derivations, and see whether tests notice.

    python tests/mutants.py            every planted error, for all equations
    python tests/mutants.py 7 10       those of equations 7 and 10
    python tests/mutants.py --written  only the errors that are written out below, for all equations
    python tests/mutants.py --functions  these, and those in functions: without derivations, which take hours

Each error is put into the running package and taken out again; no file is changed: a plus for a minus, times for divided by,
a dropped minus, a constant or an exponent that is not what it was, a result with a factor or another sign. In a derivation,
and in the functions that it is made of, also: equal for unequal, at most for at least, and a demand that is lifted. And errors
that no rule would find are written out one by one. The tests that the ledger lists for the equation run against each. Printed
is, for each error, the test that failed first; two changes that change nothing must survive; the last line is
``killed/total``. The exit status is 0 if every error was noticed and no control was.
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
import re
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
TURNED = {"Le": "Ge", "Ge": "Le"}                           # of SymPy

# Functions that belong to a derivation and are not called by it: what a chapter shows beside it, or a tool shared by all.
BESIDE = {
    3: ("cdlm.theory.symbols.expect",),
    7: ("cdlm.theory.symbols.normal_density", "cdlm.theory.symbols.expect"),
    12: ("cdlm.theory.partial.spread_chain", "cdlm.theory.partial.proved_nonnegative"),
    13: ("cdlm.theory.partial.printed_eq_13",),
    19: ("cdlm.theory.alignment.optimal_guess", "cdlm.theory.alignment.adversarial_optimum"),
    20: ("cdlm.theory.updates.eq_20_as_printed",),
    23: ("cdlm.theory.bound.eq_23_printed",),
    24: ("cdlm.theory.alignment.eq_24_with_reciprocals",),
}

# Errors that survived all tests once: equation, function, what stands there, what is put in its place.
WRITTEN = (
    (5, "cdlm.model.moments.simplified_mean_error", "gamma1 * (sigma_s * mu_h - mu_t)",
     "gamma1 * sigma_s * (mu_h - mu_t) + gamma1 * (sigma_s - 1) * mu_t"),
    (6, "cdlm.model.moments.simplified_sigma_error", "sigma_s * (by_feature + gamma2 * (gamma2 / total))",
     "sigma_s * (gamma1**2 * (sigma_h**2 - sigma_t**2) + gamma2**2) / total"),
    (7, "cdlm.model.moments.gaussian_kl", "sigma_s.log() - sigma_t.log()", "(sigma_s / sigma_t).log()"),
    (8, "cdlm.model.moments.equal_sigma_kl", "((mu_s - mu_t) / sigma) ** 2", "(mu_s - mu_t) ** 2 / sigma**2"),
    (9, "cdlm.model.moments.kl_after_modulation", "features or (mu_s, sigma_s, mu_t, sigma_t)",
     "features or (mu_s.detach(), sigma_s.detach(), mu_t.detach(), sigma_t.detach())"),
    (12, "cdlm.theory.partial.pm1_kl", "((mu_s - mu_t) / (sigma_s + sigma_t)).square()",
     "((mu_s - mu_t).square() / (sigma_s + sigma_t).square())"),
    (13, "cdlm.theory.partial.symmetric_kl", "(sigma_s - sigma_t) / sigma_t * (1 + sigma_t / sigma_s)",
     "sigma_s / sigma_t - sigma_t / sigma_s"),
    (14, "cdlm.theory.partial.pm1_reduction", "(sigma_s - sigma_t) / larger / smaller", "1 / sigma_t - 1 / sigma_s"),
    (16, "cdlm.theory.joint_bound.linear_log_evidence", "torch.logdet(precision)", "torch.det(precision).log()"),
    (16, "cdlm.theory.joint_bound.divergence_from", "torch.logdet(precision)", "torch.det(precision).log()"),
    (16, "cdlm.theory.joint_bound.linear_terms", "return evidence,", "return evidence + 5,"),
    (17, "cdlm.theory.joint_bound.linear_terms", "return evidence,", "return evidence + 5,"),
    (18, "cdlm.theory.joint_bound.linear_terms", "return evidence,", "return evidence + 5,"),
    (16, "cdlm.theory.joint_bound.linear_terms", "draw = sum(", "draw = 2 * sum("),
    (17, "cdlm.theory.joint_bound.linear_terms", "draw = sum(", "draw = 2 * sum("),
    (18, "cdlm.theory.joint_bound.linear_terms", "draw = sum(", "draw = 2 * sum("),
)


@dataclass(frozen=True)
class Mutant:
    """A function of the package with another body."""

    function: str               # dotted name, as the ledger gives it
    change: str                 # what was changed, for the reader
    file: Path
    path: tuple[str, ...]       # of the function in its module
    code: types.CodeType        # the changed body
    derived: bool = False       # a part of a derivation


def body_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """Nodes of a function's body that compute: without docstrings, annotations, defaults, and messages of errors."""
    todo = [node for node in function.body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))]
    while todo:
        node = todo.pop(0)
        if isinstance(node, (ast.Raise, ast.JoinedStr, ast.Subscript, ast.arguments)):
            continue
        yield node
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.where" and isinstance(node.args[-1], ast.Constant):
            node = ast.Call(node.func, node.args[:-1], [])  # what stands in for a divisor of 0 / 0: any number will do
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
        elif isinstance(node, ast.Return) and node.value is not None and not isinstance(node.value, (ast.Tuple, ast.Compare)):
            old = node.value
            for factor in (2, -1):
                node.value = ast.BinOp(copy.deepcopy(old), ast.Mult(), ast.Constant(factor))
                yield f"result times {factor}"
            node.value = old


def changes_of_a_derivation(function: ast.AST) -> Iterator[str]:
    """More errors, of the kinds that only a derivation can have; as ``changes``."""
    for node in list(body_nodes(function)):
        before = ast.unparse(node).partition("\n")[0]
        if isinstance(node, ast.Attribute) and node.attr in TURNED:
            old, node.attr = node.attr, TURNED[node.attr]
            yield f"{before} became {ast.unparse(node)}"
            node.attr = old
        elif isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.Eq, ast.NotEq)):
            old, node.ops = node.ops, [ast.NotEq() if isinstance(node.ops[0], ast.Eq) else ast.Eq()]
            yield f"{before} became {ast.unparse(node)}"
            node.ops = old
        elif isinstance(node, ast.If) and isinstance(node.body[0], ast.Raise):
            old, node.test = node.test, ast.Constant(False)
            yield f"nothing is demanded by {before}"
            node.test = old


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


def parts_of(derivation: str) -> list[str]:
    """Dotted names of a derivation and of the functions of its module that it calls, itself or through others.

    Derivations of other equations, which have their own rows, are left out.
    """
    file, (first,) = place(derivation)
    tree = ast.parse(file.read_text(encoding="utf-8"))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    todo, found = [first], []
    while todo:
        name = todo.pop()
        if name in functions and name not in found and (name == first or not re.fullmatch(r"eq_\d+", name)):
            found.append(name)
            todo += [node.id for node in ast.walk(functions[name]) if isinstance(node, ast.Name)]
    return [derivation.rpartition(".")[0] + "." + name for name in found]


def owned(rows: dict[str, dict]) -> dict[int, list[str]]:
    """For each equation, the functions of its derivation; what several derivations share belongs to the first of them."""
    found, taken = {}, set()
    for number in sorted(map(int, rows)):
        parts = [*parts_of(rows[str(number)]["derivation"]), *BESIDE.get(number, ())]
        found[number] = [name for name in dict.fromkeys(parts) if name not in taken]
        taken |= set(parts)
    return found


def mutants(row: dict, derived: list[str]) -> Iterator[Mutant]:
    """All errors that are planted by a rule, of one row of the ledger: in its functions, then in its derivation."""
    for name in [*row["api"], *derived]:
        file, path = place(name)
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for inner, function in function_nodes(tree, path):
            for change in changes(function):
                yield Mutant(name, change, file, tuple(inner), code_of(tree, file, inner), name in derived)
            for change in changes_of_a_derivation(function) if name in derived else ():
                yield Mutant(name, change, file, tuple(inner), code_of(tree, file, inner), True)


def written(number: int) -> Iterator[Mutant]:
    """The errors of one row that are written out in this file."""
    for equation, name, old, new in WRITTEN:
        if equation == number:
            file, path = place(name)
            text = file.read_text(encoding="utf-8")
            function = ast.get_source_segment(text, find(ast.parse(text), path))
            if function.count(old) != 1:
                raise SystemExit(f"error: {name} does not have {old!r} once; write the planted error anew")
            changed = ast.parse(text.replace(function, function.replace(old, new)))
            derived = name == "cdlm.theory.joint_bound.linear_terms"
            yield Mutant(name, f"{old} became {new}", file, tuple(path), code_of(changed, file, path), derived)


def controls() -> Iterator[Mutant]:
    """Two changes that change nothing: a function compiled anew, and the terms of its sum exchanged."""
    file, path = place("cdlm.model.modulation.modulate")
    tree = ast.parse(file.read_text(encoding="utf-8"))
    yield Mutant("control", "compiled anew", file, tuple(path), code_of(tree, file, path))
    total = next(n for n in body_nodes(find(tree, path)) if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Add))
    total.left, total.right = total.right, total.left
    yield Mutant("control", "terms of a sum exchanged", file, tuple(path), code_of(tree, file, path))


class First:
    """Pytest plugin: the first test that did not pass, or the file of tests that could not be read."""

    failed = ""

    def pytest_runtest_logreport(self, report) -> None:
        if report.outcome == "failed" and not self.failed:
            self.failed = report.nodeid

    pytest_collectreport = pytest_runtest_logreport


def target(mutant: Mutant) -> types.FunctionType:
    """The function in the running package whose body is exchanged."""
    module = import_module(".".join(mutant.file.relative_to(ROOT).with_suffix("").parts))
    found = functools.reduce(lambda value, name: inspect.getattr_static(value, name), mutant.path, module)
    found = getattr(found, "__func__", found)                       # static and class methods
    return inspect.unwrap(found)


def forget(changed: str) -> None:
    """Forget what derivations remember of a changed module, and what test files computed when they were loaded.

    So do the derivations of all modules that take something from it, directly or through others.
    """
    theory = {name: module for name, module in sys.modules.items() if name.startswith("cdlm.theory.")}
    taken = {name: {getattr(value, "__module__", None) for value in vars(module).values()} for name, module in theory.items()}
    stale = {changed}
    while more := {name for name in theory if taken[name] & stale} - stale:
        stale |= more
    for name in stale & set(theory):
        for value in vars(theory[name]).values():
            if hasattr(value, "cache_clear"):
                value.cache_clear()
    for name in [name for name in sys.modules if name.startswith("test_")]:
        del sys.modules[name]


def in_order(row: dict, derived: bool) -> list[str]:
    """The tests of a row, those first that are the likeliest to notice an error in a derivation, or in a function."""
    return sorted(row["tests"], key=lambda test: ("derivation" in row["tests"][test]["checks"]) != derived)


def try_all(planted: list[Mutant], tests: dict[bool, list[str]], results: multiprocessing.Queue) -> None:
    """In a process of its own: the first failing test for each mutant, or "" where none failed; put one by one."""
    import hypothesis
    import pytest

    os.chdir(ROOT)
    found_is_enough = (hypothesis.Phase.explicit, hypothesis.Phase.generate)         # no search for the simplest example
    hypothesis.settings.register_profile("planted", phases=found_is_enough, database=None, deadline=None)
    hypothesis.settings.load_profile("planted")

    def first_failure(derived: bool) -> str:
        first = First()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            status = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests[derived]], plugins=[first])
        return first.failed if status == 0 or first.failed else f"error: pytest ended with status {status}"

    if broken := first_failure(False):
        results.put(f"error: fails without any change: {broken}")
        return
    for mutant in planted:
        function = target(mutant)
        before, function.__code__ = function.__code__, mutant.code
        if mutant.derived:
            forget(function.__module__)
        results.put(first_failure(mutant.derived))
        function.__code__ = before
        if mutant.derived:
            forget(function.__module__)


def verdicts(tasks: Iterable[tuple[int, list[Mutant], dict[bool, list[str]]]]) -> Iterator[tuple[int, Mutant, str]]:
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
    only_written, only_functions = "--written" in arguments, "--functions" in arguments
    wanted = [word for word in arguments if word.isdigit()] or sorted(recorded, key=int)
    tasks, derived = [], owned(recorded)
    for number in wanted:
        planted = [] if only_written else list(mutants(recorded[number], [] if only_functions else derived[int(number)]))
        planted += written(int(number))
        if planted:
            tasks.append((int(number), planted, {kind: in_order(recorded[number], kind) for kind in (False, True)}))
    killed, total, broken = 0, sum(len(planted) for _, planted, _ in tasks), False
    for number, mutant, verdict in verdicts(tasks):
        killed += bool(verdict) and not verdict.startswith("error")
        broken |= verdict.startswith("error")
        print(f"Eq. {number:2} {mutant.function}: {mutant.change}: {verdict or 'SURVIVED'}", flush=True)
    for _, mutant, verdict in verdicts([(1, list(controls()), {False: list(recorded["1"]["tests"])})]):
        broken |= bool(verdict)
        print(f"control: {mutant.change}: {'survived' if not verdict else 'KILLED by ' + verdict}", flush=True)
    print(f"{killed}/{total}")
    return int(broken or killed < total)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
