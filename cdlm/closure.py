"""Which definitions a piece of code reaches, name by name, and their code without what changes no result.

Generated from book/src/50_equations.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import ast
import copy
import functools
import re
import symtable
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

__all__ = [
    "Library",
    "NOTED",
    "Place",
    "Room",
    "Statement",
    "altered",
    "apart",
    "closure",
    "entries",
    "find",
    "read_room",
    "registered",
]


# 50_equations: Code without what changes no result

READERS = {"equation", "command", "callback"}       # decorators that read a docstring
DOTTED = re.compile(r"cdlm(\.\w+)+")


def decorators(node: ast.AST) -> set[str]:
    """Last names of a definition's decorators: "command" of ``@app.command("train")``."""
    found = [getattr(d, "func", d) for d in getattr(node, "decorator_list", [])]
    return {d.attr if isinstance(d, ast.Attribute) else getattr(d, "id", "") for d in found}


def is_command(node: ast.AST) -> bool:
    """Whether the command line reads a function's signature, which its ``Annotated`` shows."""
    return any(getattr(part, "id", "") == "Annotated" for part in ast.walk(node.args))


def of_package(name: str | None) -> bool:
    """Whether a dotted name is one of the package's."""
    return name is not None and name.split(".")[0] == "cdlm"


DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def is_text(node: ast.stmt) -> bool:
    """Whether a statement is a string and nothing else, such as what is said of a constant."""
    value = getattr(node, "value", None) if isinstance(node, ast.Expr) else None
    return isinstance(getattr(value, "value", None), str)


def without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    """A block of statements without the string that it begins with, if it does."""
    return body[1:] if is_text(body[0]) else body


def without_annotations(function: ast.FunctionDef) -> None:
    """Take annotations from a function's signature and variables, not from classes in it."""
    function.returns = None
    inner = [part for node in ast.walk(function) if isinstance(node, ast.ClassDef)
             for part in ast.walk(node)]
    for part in set(ast.walk(function)) - set(inner):
        if isinstance(part, ast.arg):
            part.annotation = None
        elif isinstance(part, ast.AnnAssign):
            part.annotation = ast.Constant(None)


def without_package(body: list[ast.stmt]) -> list[ast.stmt]:
    """A block of statements without imports from the package."""
    def ours(node: ast.stmt) -> bool:
        if isinstance(node, ast.ImportFrom):
            return of_package(node.module)
        names = node.names if isinstance(node, ast.Import) else []
        return bool(names) and all(of_package(alias.name) for alias in names)
    return [node for node in body if not ours(node)]


def bare(node: ast.AST) -> ast.AST:
    """A copy without docstrings, annotations of functions, and imports from the package."""
    tree = copy.deepcopy(node)
    for part in ast.walk(tree):
        function = isinstance(part, DEFINITIONS[:2])
        command = function and is_command(part)
        if isinstance(part, DEFINITIONS) and not command and not READERS & decorators(part):
            part.body = without_docstring(part.body)
        if function and not command:
            without_annotations(part)
        for block in ("body", "orelse", "finalbody"):
            if isinstance(getattr(part, block, None), list):
                setattr(part, block, without_package(getattr(part, block)))
        if isinstance(getattr(part, "body", None), list):
            part.body = part.body or [ast.Pass()]
        if isinstance(part, ast.Constant) and DOTTED.fullmatch(str(part.value)):
            part.value = part.value.rpartition(".")[2]
    return ast.fix_missing_locations(tree)


# 50_equations: Names that a statement uses

def global_names(code: str) -> tuple[set[str], set[str]]:
    """Names that code uses from the top level of its module, and names that it binds there."""
    top = symtable.symtable(code, "code", "exec")
    used = {name.get_name() for name in top.get_symbols() if name.is_referenced()}
    todo = top.get_children()
    while todo:
        table = todo.pop()
        used |= {name.get_name() for name in table.get_symbols() if name.is_global()}
        todo += table.get_children()
    bound = (name for name in top.get_symbols() if name.is_assigned() or name.is_imported())
    return used, {name.get_name() for name in bound}


def chain(node: ast.AST) -> tuple[str, ...]:
    """The names in ``a.b.c``, or () for what does not begin with a name."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names, node = [node.attr, *names], node.value
    return (node.id, *names) if isinstance(node, ast.Name) else ()


def chains(tree: ast.AST) -> set[tuple[str, ...]]:
    """All dotted names in a tree, each as long as it stands there."""
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return {chain(node) for node in ast.walk(tree) if id(node) not in inner} - {()}


def imported(tree: ast.AST) -> dict[str, str]:
    """Names that import statements in a tree bind, each with the dotted name it stands for."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
        elif isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.split(".")[0]
                found[name] = alias.name if alias.asname else name
    return found


SEARCHES = {"import_module", "iter_modules", "walk_packages"}


def texts(tree: ast.AST) -> list[str]:
    """All strings in a tree."""
    constants = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return [value for value in constants if isinstance(value, str)]


def searched(tree: ast.AST) -> set[str]:
    """Where a statement looks for modules by made up names: "cdlm" for all of the package."""
    calls = (chain(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call))
    if not any(names and names[-1] in SEARCHES for names in calls):
        return set()
    dotted = re.compile(r"\w+\.|\w+(\.\w+)+\.?")
    named = [text.rstrip(".") for text in texts(tree) if dotted.fullmatch(text)]
    return {name for name in named if of_package(name)} if named else {"cdlm"}


def commands(tree: ast.AST) -> set[str]:
    """Commands of the package that a statement runs as processes; "" is any of them."""
    found = set()
    for node in (node for node in ast.walk(tree) if isinstance(node, (ast.List, ast.Tuple))):
        words = [getattr(element, "value", None) for element in node.elts] + [None]
        for first, second, word in zip(words, words[1:], words[2:]):
            if f"{first} {second}" == "-m cdlm":
                found.add(word if isinstance(word, str) else "")
    return found


# 50_equations: A module, statement by statement

@dataclass(frozen=True)
class Statement:
    """A statement on the top level: its bare code, and what it takes from elsewhere."""

    code: str
    binds: set[str]
    uses: set[tuple[str, ...]]      # dotted names, the first of them global
    imports: dict[str, str]         # by import statements within it
    registers: set[str]             # names that it hands its functions to
    searches: set[str]              # modules that it looks for
    commands: set[str]              # of the package, run as processes
    texts: list[str]                # its strings


@dataclass(frozen=True)
class Room:
    """A module as its names: what is bound where, and what was imported as what."""

    statements: list[Statement]             # without imports
    units: dict[str, list[Statement]]       # by the name that they bind or change
    loose: list[Statement]                  # those that belong to no name
    imports: dict[str, str]


def asks_for(node: ast.AST) -> set[tuple[str, ...]]:
    """Names that pytest passes to a test or a fixture: its parameters."""
    if not isinstance(node, ast.FunctionDef):
        return set()
    asks = node.name.startswith("test") or "fixture" in decorators(node)
    return {(arg.arg,) for arg in ast.walk(node.args) if asks and isinstance(arg, ast.arg)}


def read_statement(node: ast.stmt) -> Statement:
    """What a statement is to others."""
    tree = bare(node)
    code = ast.unparse(tree)
    used, bound = global_names(code)
    inside = imported(node)
    uses = {names for names in chains(tree) if names[0] in used | set(inside)} | asks_for(node)
    return Statement(code, bound, uses, inside, registered(node), searched(node),
                     commands(node), texts(node))


def registered(node: ast.stmt) -> set[str]:
    """Names with which functions are registered: by a decorator, or as app.command("x")(f)."""
    if isinstance(node, DEFINITIONS):
        marks = [chain(getattr(part, "func", part)) for part in node.decorator_list]
        return {names[0] for names in marks if len(names) > 1}
    calls = (part for part in ast.walk(node) if isinstance(part, ast.Call))
    made = [chain(call.func.func) for call in calls if isinstance(call.func, ast.Call)]
    return {names[0] for names in made if len(names) > 1}


def altered(node: ast.stmt) -> set[str]:
    """Names that a statement may change without binding them."""
    if isinstance(node, ast.Expr):
        return {names[0] for names in chains(node)}
    stored = [chain(part.value) for part in ast.walk(node) if hasattr(part, "value")
              and isinstance(getattr(part, "ctx", None), ast.Store)]
    return set() if isinstance(node, DEFINITIONS) else {names[0] for names in stored if names}


NOTED = "Noted"     # the class of tables that announce which of their entries are looked up


def entries(node: ast.stmt) -> dict[str, ast.expr]:
    """Entries of a table that notes what is looked up in it, by name; none for other code."""
    call = getattr(node, "value", None)
    if not isinstance(call, ast.Call) or chain(call.func)[-1:] != (NOTED,):
        return {}
    tables = [argument for argument in call.args if isinstance(argument, ast.Dict)]
    return {key.value: value for table in tables
            for key, value in zip(table.keys, table.values) if isinstance(key, ast.Constant)}


def apart(node: ast.stmt) -> tuple[ast.stmt, dict[str, Statement]]:
    """A statement without the entries of a table that notes them, and each of these as a
    statement."""
    found = {name: read_statement(ast.Expr(ast.Tuple([ast.Constant(name), value], ast.Load())))
             for name, value in entries(node).items()}
    if found:
        node = copy.deepcopy(node)
        node.value.args = [part for part in node.value.args if not isinstance(part, ast.Dict)]
    return node, found


@functools.cache
def read_room(source: str) -> Room:
    """A module, or a chapter's code. Raises SyntaxError for what is no Python."""
    body, imports, units, loose = ast.parse(source).body, {}, {}, []
    body = without_docstring(body) if body else []
    for node in body:
        if not isinstance(node, DEFINITIONS):
            imports |= imported(node)
    parts = [apart(node) for node in body
             if not isinstance(node, (ast.Import, ast.ImportFrom)) and not is_text(node)]
    statements = [read_statement(node) for node, _ in parts]
    bound = set().union(*(statement.binds for statement in statements))
    for (node, inner), statement in zip(parts, statements):
        for name in inner:
            units[f"{min(statement.binds)}[{name}]"] = [inner[name]]
        names = statement.binds | ((statement.registers | altered(node)) & bound)
        if not names or "pytestmark" in names:
            loose.append(statement)
        for name in names - {"__all__"}:
            units.setdefault(name, []).append(statement)
    statements += [statement for _, inner in parts for statement in inner.values()]
    return Room(statements, units, loose, imports)


# 50_equations: From name to name

@dataclass(frozen=True)
class Library:
    """The modules of the package in a folder, and those ``beside`` it, as they are now."""

    package: Path
    beside: tuple[Path, ...] = ()
    rooms: dict[str, Room | None] = field(default_factory=dict)     # those read already
    steps: dict[int, list] = field(default_factory=dict)            # from statements onward

    def file(self, module: str) -> Path | None:
        """File of a module by its dotted name; None where there is none."""
        top, *inner = module.split(".")
        places = [folder.joinpath(top, *inner) for folder in self.beside]
        if top == "cdlm":
            places = [self.package.joinpath(*inner)]
        files = [place.with_suffix(".py") for place in places]
        files += [place / "__init__.py" for place in places]
        return next((file for file in files if file.is_file()), None)

    def read(self, file: Path) -> Room:
        """The module in a file."""
        return read_room(file.read_text(encoding="utf-8"))

    def room(self, module: str) -> Room | None:
        """A module by its dotted name; None where there is none."""
        if module not in self.rooms:
            file = self.file(module)
            self.rooms[module] = self.read(file) if file else None
        return self.rooms[module]

    def below(self, prefix: str) -> list[Room]:
        """A module, or all modules of a package."""
        folder = self.package.joinpath(*prefix.split(".")[1:])
        files = {self.file(prefix), *folder.rglob("*.py")} - {None}
        return [self.read(file) for file in sorted(files)]


Place = tuple[Room, str]


def find(library: Library, dotted: str) -> Place | None:
    """Module and name of what a dotted name stands for: "*" for a module, None if not ours."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        if (room := library.room(".".join(parts[:end]))) is None:
            continue
        if end == len(parts):
            return room, "*"
        name, *rest = parts[end:]
        if name not in room.units and name in room.imports:     # handed on from elsewhere
            return find(library, ".".join([room.imports[name], *rest]))
        known = name in room.units or name.startswith("__")     # every module has a __file__
        return room, name if known else "__getattr__"
    return None


def command_places(library: Library, word: str) -> list[Place]:
    """Definitions behind a command: the function or the group of a table, or for "" all there
    is."""
    room = library.room("cdlm.cli.app")
    if room is None:
        return []
    if word and (group := f"{word.upper()}_COMMANDS") in room.units:
        return [(room, group)]
    code = "\n".join(statement.code for statement in room.units.get("COMMANDS", []))
    tables = (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Dict))
    named = [value.id for table in tables for key, value in zip(table.keys, table.values)
             if word and key.value == word]
    found = [find(library, f"cdlm.cli.app.{name}") for name in named]
    return [place for place in found if place] or [(room, "main"), (room, "REGISTERED")]


def followed(library: Library, room: Room, names: tuple[str, ...],
             imports: dict[str, str]) -> list[Place | str]:
    """Where a name leads: to definitions, or to what is not the package's, a dotted name."""
    head, *rest = names
    places: list[Place | str] = [(room, head)] if head in room.units else []
    if head in imports:
        places.append(find(library, ".".join([imports[head], *rest])) or imports[head])
    elif not places and library.beside:                         # a fixture that tests share
        shared = library.room("conftest")
        places += [(shared, head)] if shared and head in shared.units else []
    return places


def next_places(library: Library, room: Room,
                statement: Statement) -> list[tuple[str, Place | str]]:
    """Where a statement leads, each place with the name by which it is known there."""
    if id(statement) in library.steps:
        return library.steps[id(statement)]
    imports, found = room.imports | statement.imports, []
    for names in statement.uses:
        places = followed(library, room, names, imports)
        if names[0] in statement.registers and names[1:]:       # app uses it, not it app
            places = [p for p in places if isinstance(p, str) or p[1] != names[0]]
        found += [(names[0] if isinstance(p, str) else p[1], p) for p in places]
    for prefix in statement.searches:
        found += [("*", (far, "*")) for far in library.below(prefix)]
    found += [(place[1], place) for word in statement.commands
              for place in command_places(library, word)]
    return library.steps.setdefault(id(statement), found)


def closure(library: Library, start: Iterable[Place],
            own: Room | None = None) -> dict[str, str]:
    """Bare code of each definition that is reached from ``start``, by name.

    Of the room ``own`` only what it leads to. Of names that are not the package's, it is where
    they come from. Definitions of one name in two modules are put together.
    """
    todo, done, found = list(start), set(), {}
    while todo:
        room, name = todo.pop()
        if (id(room), name) in done:
            continue
        done.add((id(room), name))
        todo += [(room, each) for each in room.units if name == "*"]
        for statement in room.units.get(name, []) + room.loose:
            if room is not own:
                key = name if statement not in room.loose else "at the top level"
                found.setdefault(key, set()).add(statement.code)
            for known, place in next_places(library, room, statement):
                if isinstance(place, str):
                    found.setdefault(known, set()).add(place)
                else:
                    todo.append(place)
    return {name: "\n".join(sorted(codes)) for name, codes in sorted(found.items())}
