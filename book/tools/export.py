"""The package, extracted from the chapters: every cell tagged ``export:module`` goes to ``cdlm/module.py``.

The extraction reads, it never runs. Imports are resolved by name: what a module uses and does not define comes from
another exported module, or from an import that stands in the chapter. Anything else is refused. Cells tagged
``inner:module`` go to the same file, but their names stay inside: no other module may use them, and ``__all__`` does
not list them. A module holds its cells in reading order, but for those that another one needs while it is loaded.

    python book/tools/export.py            write cdlm/
    python book/tools/export.py --check    fail on one byte of drift
"""

from __future__ import annotations

import argparse
import ast
import builtins
import re
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from keyword import iskeyword
from pathlib import Path
from textwrap import fill, indent

from program import finish

# isort: split
from disk import ChapterError, leftovers, visible, write_atomically
from pyflakes.checker import Checker
from pyflakes.messages import UndefinedName

from chapters import PACKAGE, ROOT, chapters, read_text, without_magics

TAGS = re.compile(r"(export|inner):(.+)")
MODULE = re.compile(r"([a-z]\w*\.)?[a-z]\w*", flags=re.ASCII)      # in one room or in none, so that it stays in the package
WIDTH = 95  # as lines of the chapters
BANNER = "Generated from {sources} by `make sync`: edit there, not here."


@dataclass
class Block:
    """One exported cell."""

    chapter: str
    heading: str
    source: str
    inner: bool = False

    @property
    def names(self) -> list[str]:
        return defined_names(ast.parse(self.source))


@dataclass
class Module:
    name: str
    sentence: str
    blocks: list[Block] = field(default_factory=list)
    imports: set[str] = field(default_factory=set)

    @property
    def path(self) -> Path:
        return PACKAGE.joinpath(*self.name.split(".")).with_suffix(".py")

    @property
    def body(self) -> str:
        """All cells, with a comment that says where each run of them under one heading comes from."""
        parts, place = [], None
        for block in self.blocks:
            here = (block.chapter, block.heading)
            parts.append(block.source if here == place else f"# {block.chapter}: {block.heading}\n\n{block.source}")
            place = here
        return "\n\n\n".join(parts)


def statement_lines(node: ast.stmt) -> tuple[int, int]:
    """First (0-based) and past-the-last line of a statement, decorators included."""
    first = min([node.lineno] + [d.lineno for d in getattr(node, "decorator_list", [])])
    return first - 1, node.end_lineno


def imported_names(node: ast.stmt) -> dict[str, str]:
    """Names an import statement binds, each with a statement that binds just it; other statements bind none."""
    if not isinstance(node, (ast.Import, ast.ImportFrom)):
        return {}
    source = f"from {node.module} " if isinstance(node, ast.ImportFrom) else ""
    if source and (node.level or any(alias.name == "*" for alias in node.names)):
        raise ChapterError(f"line {node.lineno}: relative and star imports cannot be exported")
    return {
        alias.asname or (alias.name if source else alias.name.split(".")[0]): f"{source}import {ast.unparse(alias)}"
        for alias in node.names
    }


def defined_names(tree: ast.Module) -> list[str]:
    """Names that the top level of a module binds, imports left out."""
    names = []
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.append(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            stored = [n for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]
            names += [n.id for n in stored if isinstance(n.ctx, ast.Store)]
        elif isinstance(node, ast.TypeAlias if hasattr(ast, "TypeAlias") else ()):
            names.append(node.name.id)
    return names


def defines(node: ast.stmt) -> bool:
    """Whether a statement belongs on the top level of a module: a definition, an assignment or a docstring."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign, ast.AugAssign)
    return isinstance(node, kinds) or type(node).__name__ == "TypeAlias"


def undefined_names(source: str, filename: str) -> set[str]:
    checker = Checker(ast.parse(f"from __future__ import annotations\n\n{source}"), filename=filename)
    return {message.message_args[0] for message in checker.messages if isinstance(message, UndefinedName)}


def read_cells(text: Path) -> tuple[list[tuple[str, Block]], dict[str, set[str]]]:
    """Exported cells of a chapter as (module, block), and the imports, by name, that stand anywhere in it."""
    found, imports, heading = [], {}, text.stem
    for cell in read_text(text).cells:
        if cell.cell_type == "markdown":
            for line in re.findall(r"^#{1,4} +(.+)$", re.sub(r"```.*?```", "", cell.source, flags=re.S), flags=re.M):
                heading = re.sub(r"[`$*]|\{[^}]*\}", "", line).strip()
            continue
        if cell.cell_type != "code":
            continue
        tags = [tag for tag in map(TAGS.fullmatch, cell.metadata.get("tags", [])) if tag]
        modules = [tag[2] for tag in tags]
        where = f"{text.stem}, section «{heading}»"
        if len(modules) > 1:
            raise ChapterError(f"{where}: a cell can be exported to one module, not to {len(modules)}")
        magic = next((line for line in cell.source.splitlines() if line.lstrip().startswith(("%", "!"))), None)
        if modules and magic is not None:
            raise ChapterError(f"{where}: an exported cell cannot hold the magic {magic.strip()!r}")
        try:
            tree = ast.parse(without_magics(cell.source))
        except SyntaxError as error:
            raise ChapterError(f"{where}: a cell does not parse: {error.msg}: {(error.text or '').strip()!r}") from None
        lines = cell.source.splitlines()
        spans = [statement_lines(node) for node in tree.body]
        for node, (first, last) in zip(tree.body, spans):
            try:
                for name, statement in imported_names(node).items():
                    imports.setdefault(name, set()).add(statement)
            except ChapterError as error:
                if modules:
                    raise ChapterError(f"{where}: {error}") from None
            shown = ast.unparse(node).splitlines()[0][:60]
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                if modules and sum(start < last and first < end for start, end in spans) > 1:
                    raise ChapterError(f"{where}: give the import a line of its own ({shown!r})")
                lines[first:last] = [""] * (last - first)
            elif modules and not defines(node):
                raise ChapterError(f"{where}: an exported cell defines; it must not run anything ({shown!r})")
        if modules:
            source = "\n".join(lines).strip("\n")
            if not source.strip():
                raise ChapterError(f"{where}: the exported cell holds nothing but imports")
            found.append((modules[0], Block(text.stem, heading, source, inner=tags[0][1] == "inner")))
    return found, imports


def used_when_loaded(node: ast.stmt) -> set[str]:
    """Names that a statement reads while its module is loaded: not those in bodies of functions and in annotations."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        parts = [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]
    elif isinstance(node, ast.ClassDef):
        parts = [*node.decorator_list, *node.bases, *node.keywords]
        return names_read(parts).union(*map(used_when_loaded, node.body))
    elif isinstance(node, ast.AnnAssign):
        parts = [node.value] if node.value else []
    else:
        parts = [node]
    return names_read(parts)


def names_read(nodes: Iterable[ast.AST]) -> set[str]:
    return {n.id for node in nodes for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def needed_when_loaded(blocks: list[Block]) -> list[set[int]]:
    """For each cell of a module, the cells that have to stand before it.

    What a function reads counts as soon as it is named in something that is computed while the module is loaded.
    """
    home, bodies, direct = {}, {}, []
    for number, block in enumerate(blocks):
        tree = ast.parse(block.source)
        home |= dict.fromkeys(block.names, number)
        bodies |= {node.name: names_read([node]) for node in tree.body if isinstance(node, ast.FunctionDef)}
        direct.append(set().union(*map(used_when_loaded, tree.body)))
    found = []
    for number, names in enumerate(direct):
        todo, seen = [name for name in names if name in home], set()
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo += [other for other in bodies.get(name, ()) if other in home]
        found.append({home[name] for name in seen} - {number})
    return found


def in_loading_order(module: Module) -> list[Block]:
    """Cells of a module in reading order, but for those that an earlier one needs while the module is loaded."""
    needed, order = needed_when_loaded(module.blocks), []

    def place(number: int, above: tuple[int, ...]) -> None:
        if number in above:
            names = ", ".join(repr(module.blocks[n].names[0]) for n in above[above.index(number) :])
            raise ChapterError(f"{module.name} cannot be loaded: {names} need each other while it is")
        if number not in order:
            for other in sorted(needed[number]):
                place(other, (*above, number))
            order.append(number)

    for number in range(len(module.blocks)):
        place(number, ())
    return [module.blocks[number] for number in order]


def listed_modules() -> dict[str, dict[str, str]]:
    """The tables of modules.toml: sentences of ``modules`` and of ``rooms``, and the homes of ``public`` names.

    Raises ChapterError for a name that is none of a module, for instance one that leads out of the package.
    """
    try:
        tables = tomllib.loads((ROOT / "book/tools/modules.toml").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ChapterError(f"book/tools/modules.toml cannot be read: {error}") from None
    for name in tables.get("modules", {}):
        if not MODULE.fullmatch(name) or any(map(iskeyword, name.split("."))):
            raise ChapterError(f"book/tools/modules.toml: {name!r} is no name of a module; 'room.module' or 'module' is")
    return {name: tables.get(name, {}) for name in ("modules", "rooms", "public")}


def collect(texts: list[Path]) -> list[Module]:
    """All modules, in the order of their layers, with every name resolved."""
    modules = {name: Module(name, sentence) for name, sentence in listed_modules()["modules"].items()}
    chapter_imports, home = {}, {}
    for text in texts:
        cells, chapter_imports[text.stem] = read_cells(text)
        for name, block in cells:
            if name not in modules:
                raise ChapterError(f"{block.chapter}: module {name!r} is not listed in book/tools/modules.toml")
            modules[name].blocks.append(block)
            for defined in block.names:
                if defined in home:
                    first, chapter = home[defined]
                    raise ChapterError(f"{block.chapter}: {defined!r} is already exported to {first!r} by {chapter}")
                if hasattr(builtins, defined):
                    raise ChapterError(f"{block.chapter}: {defined!r} hides a built-in of Python; choose another name")
                home[defined] = (name, block.chapter)
    homes = {name: module for name, (module, _) in home.items()}
    used = [module for module in modules.values() if module.blocks]
    inner = {name for module in used for block in module.blocks if block.inner for name in block.names}
    for module in used:
        module.blocks = in_loading_order(module)
        sources = sorted({block.chapter for block in module.blocks})
        for name in sorted(undefined_names(module.body, module.name)):
            statements = set().union(*(chapter_imports[chapter].get(name, set()) for chapter in sources))
            if homes.get(name, module.name) != module.name:
                statements.add(f"from cdlm.{homes[name]} import {name}")
            if len(statements) > 1 and not all(re.fullmatch(r"import [\w.]+", statement) for statement in statements):
                ways = "; ".join(sorted(statements))
                raise ChapterError(f"{module.name} uses {name!r}, which means several things: {ways}")
            if not statements and name != "__file__" and not hasattr(builtins, name):
                where = ", ".join(sources)
                raise ChapterError(f"{module.name} uses {name!r}, which {where} neither defines, exports nor imports")
            module.imports |= statements
        check_layers(module, list(modules), homes, inner)
    return used


def check_layers(module: Module, order: list[str], homes: dict[str, str], inner: set[str]) -> None:
    """Refuse imports of the package, wherever in the module they stand, that point up, at nothing, or at an inner name."""

    def check(target: str, name: str | None = None) -> None:
        if target not in order or (name is not None and homes.get(name) != target):
            missing = f"{name!r} from cdlm.{target}" if name else f"cdlm.{target}"
            raise ChapterError(f"{module.name} imports {missing}, which no chapter exports")
        if order.index(target) >= order.index(module.name):
            shown = f"{name!r} of {target}" if name else target
            raise ChapterError(f"{module.name} uses {shown}, which stands above it in modules.toml")
        if name in inner:
            raise ChapterError(f"{module.name} uses {name!r}, an inner name of {target}; tag its cell export:{target}")

    for node in ast.walk(ast.parse("\n".join([*sorted(module.imports), module.body]))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("cdlm."):
                    check(alias.name.removeprefix("cdlm."))
        elif isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith("cdlm."):
            for alias in node.names:
                path = f"{node.module}.{alias.name}".removeprefix("cdlm.")
                if path in order:
                    check(path)
                elif path != "__version__":
                    check(path.rpartition(".")[0], alias.name)


def import_section(statements: set[str]) -> str:
    """Import statements merged by module and grouped: standard library, others, the package itself."""
    def kind(name: str) -> tuple[int, str, str]:
        """Constants, then classes, then the rest, each by letters whatever their case, as ruff wants them."""
        return 0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2, name.lower(), name

    plain, members = set(), {}
    for statement in statements:
        if match := re.fullmatch(r"from (\S+) import (.+)", statement):
            renamed = match[2] if " as " in match[2] else ""        # on a line of its own
            members.setdefault((match[1], renamed), set()).add(match[2])
        else:
            plain.add(statement)
    merged = []
    for (module, _), names in members.items():
        listed = sorted(names, key=kind)
        line = f"from {module} import {', '.join(listed)}"
        if len(line) > WIDTH:
            line = f"from {module} import (\n" + "".join(f"    {name},\n" for name in listed) + ")"
        merged.append(line)

    def group(statement: str) -> int:
        top = statement.split()[1].split(".")[0]
        return 2 if top == "cdlm" else 0 if top in sys.stdlib_module_names else 1

    ordered = sorted(plain | set(merged), key=lambda s: (group(s), s.startswith("from"), s.lower()))
    groups = ["\n".join(s for s in ordered if group(s) == number) for number in range(3)]
    return "\n\n".join(g for g in groups if g)


def render(module: Module) -> str:
    sources = list(dict.fromkeys(f"book/src/{block.chapter}.md" for block in module.blocks))
    public = sorted(n for b in module.blocks if not b.inner for n in b.names if not n.startswith("_"))
    listed = f"__all__ = {public!r}".replace("'", '"')
    if len(listed) > WIDTH:
        listed = "__all__ = [\n" + "".join(f'    "{name}",\n' for name in public) + "]"
    banner = fill(BANNER.format(sources=", ".join(sources)), WIDTH)
    head = f'"""{module.sentence}\n\n{banner}\n"""\n\nfrom __future__ import annotations'
    statements = import_section({s for s in module.imports if not s.startswith("from __future__")})
    return "\n\n".join(part for part in (head, statements, listed) if part) + "\n\n\n" + module.body + "\n"


def _listing(sentences: Iterable[tuple[str, str]]) -> str:
    items = (f"- ``cdlm.{name}``: {sentence}" for name, sentence in sentences)
    return "\n".join(fill(item, WIDTH, subsequent_indent="  ") for item in items)


def public_face(modules: list[Module], homes: dict[str, str]) -> str:
    """What ``cdlm`` itself offers, loaded when it is asked for. Raises ChapterError for a name that no chapter exports."""
    there = {f"{module.name}.{name}" for module in modules for block in module.blocks if not block.inner for name in block.names}
    for name, place in homes.items():
        if place not in there:
            raise ChapterError(f"modules.toml offers {name!r} from {place}, which no chapter exports")
    if not homes:
        return ""
    split = {name: place.rpartition(".")[::2] for name, place in sorted(homes.items())}
    imports = import_section({
        f"from cdlm.{module} import {original}" + (f" as {name}" if name != original else "")
        for name, (module, original) in split.items()
    })  # fmt: skip
    listed = "".join(f'    "{name}",\n' for name in split)
    places = "".join(f'    "{name}": ("cdlm.{module}", "{original}"),\n' for name, (module, original) in split.items())
    return (
        f"\n__all__ = [\n{listed}]\n\nif TYPE_CHECKING:\n" + indent(imports, "    ") + f"\n\n_PLACES = {{\n{places}}}\n"
        + '\n\ndef __getattr__(name: str) -> object:\n    """A name of ``__all__``, from the module that defines it."""\n'
        + "    if name not in _PLACES:\n"
        + '        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")\n'
        + "    module, original = _PLACES[name]\n    return getattr(import_module(module), original)\n"
        + '\n\ndef __dir__() -> list[str]:\n    return [*__all__, "__version__"]\n'
    )


def package_files(texts: list[Path]) -> dict[Path, str]:
    """Every file of the package with its content."""
    modules, tables = collect(texts), listed_modules()
    for module in modules:
        ast.parse(render(module))
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    banner = BANNER.format(sources="the chapters in book/src")
    face = public_face(modules, tables["public"])
    loaders = "from importlib import import_module\nfrom typing import TYPE_CHECKING\n\n" if face else ""
    rooms = {module.name.partition(".")[0]: module.sentence for module in modules} | {
        room: tables["rooms"].get(room, f"{room.capitalize()}:")
        for room in dict.fromkeys(module.path.parent.name for module in modules if module.path.parent != PACKAGE)
    }
    files = {
        PACKAGE / "__init__.py": '"""Cross-domain latent modulation, as taught in the book.\n\n'
        f'{_listing(rooms.items())}\n\n{banner}\n"""\n\n{loaders}__version__ = "{version}"\n{face}',
        PACKAGE / "py.typed": "",
    }
    for module in modules:
        if module.path.parent != PACKAGE:
            room = module.path.parent.name
            listing = _listing((m.name, m.sentence) for m in modules if m.name.startswith(f"{room}."))
            files[module.path.parent / "__init__.py"] = f'"""{rooms[room]}\n\n{listing}\n\n{banner}\n"""\n'
        files[module.path] = render(module)
        if module.name in ("cli", "cli.app"):
            files[PACKAGE / "__main__.py"] = PROGRAM.format(banner=banner, module=module.name)
    return files


PROGRAM = '''"""The command ``cdlm``, and ``python -m cdlm``.

{banner}
"""

import signal


def main() -> None:
    """Enter the program. Until it is imported, which takes seconds, an interrupt ends it without a word."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from cdlm.{module} import main as program

    program()


if __name__ == "__main__":
    main()
'''


def present_files() -> set[Path]:
    """Files of the package on disk, without the ledger's record, which `make ledger` writes."""
    files = {path for path in visible(PACKAGE, "**/*") if path.is_file()}
    return files - {PACKAGE / "theory" / "ledger.json"}


def drift(files: dict[Path, str]) -> list[str]:
    """What differs between the package on disk and the one the chapters give."""
    problems = [f"{path.relative_to(ROOT)} belongs to no chapter" for path in sorted(present_files() - set(files))]
    for path, content in files.items():
        if not path.exists():
            problems.append(f"{path.relative_to(ROOT)} is missing")
        elif path.read_bytes() != content.encode():
            problems.append(f"{path.relative_to(ROOT)} differs from the chapters")
    return problems


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail on any difference")
    options = parser.parse_args(arguments)
    try:
        files = package_files(chapters())
    except ChapterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.check:
        problems = drift(files)
        for problem in problems:
            print(f"error: {problem}; edit the chapter, then `make sync`", file=sys.stderr)
        return int(bool(problems))
    strays = sorted(present_files() - set(files))
    for path in strays:
        if not re.search(rb"Generated\s+from\s.+\sby\s+`make\s+sync`", path.read_bytes()[:2000], flags=re.S):
            print(f"error: {path.relative_to(ROOT)} was not generated; move it into a chapter or away", file=sys.stderr)
            return 1
    for path in [*strays, *leftovers(PACKAGE)]:
        path.unlink()
    for path, content in files.items():
        if not path.exists() or path.read_bytes() != content.encode():
            write_atomically(path, content)
            print(f"{path.relative_to(ROOT)}: written")
    return 0


if __name__ == "__main__":
    sys.exit(finish(main))
