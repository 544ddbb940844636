"""The exporter: what it refuses, what it resolves, what it writes, and the package as it stands."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import export
import pytest
from conftest import MODULES, ROOT, House, code

import chapters

LAYERS = list(tomllib.loads((ROOT / "book/tools/modules.toml").read_text(encoding="utf-8"))["modules"])


def files(house: House) -> dict[str, str]:
    """Every file the exporter would write, by its name in the package."""
    made = export.package_files(chapters.chapters())
    return {path.relative_to(house.package).as_posix(): content for path, content in made.items()}


def refusal(house: House) -> str:
    with pytest.raises(chapters.ChapterError) as error:
        files(house)
    assert "\n" not in str(error.value)
    return str(error.value)


# What it refuses

REFUSED = {
    "a magic": ("%time x = 1", "magic '%time x = 1'"),
    "a shell command": ("!ls", "magic '!ls'"),
    "a cell magic": ("%%capture\nx = 1", "magic '%%capture'"),
    "a cell that does not parse": ("def f(:\n    pass", "does not parse"),
    "a name from nowhere": ("def f():\n    return nowhere", "'nowhere', which 10_a neither defines, exports nor imports"),
    "a name from nowhere in an annotation": ("def f(x: Nowhere):\n    return x", "'Nowhere'"),
    "a call": ("x = 1\nprint(x)", "must not run anything"),
    "a loop": ("for x in range(3):\n    y = x", "must not run anything"),
    "a condition": ("if True:\n    x = 1", "must not run anything"),
    "an assertion": ("assert 1 == 1", "must not run anything"),
    "a deletion": ("x = 1\ndel x", "must not run anything"),
    "a star import": ("from math import *\ndef f():\n    return pi", "star imports"),
    "a relative import": ("from . import low\nx = low", "relative"),
    "an import beside other code": ("import os; x = 1", "a line of its own"),
    "nothing but imports": ("import os", "nothing but imports"),
    "a built-in hidden": ("def filter(x):\n    return x", "hides a built-in"),
    "a name twice in one cell": ("x = 1\nx = 2", "'x' is already exported"),
}


@pytest.mark.parametrize(("source", "words"), REFUSED.values(), ids=REFUSED)
def test_refused_in_an_exported_cell(house: House, source: str, words: str) -> None:
    house.write("10_a", "## A section", code(source, "export:low"))
    message = refusal(house)
    assert words in message and ("10_a" in message)


def test_refusals_concern_exported_cells_only(house: House) -> None:
    house.write("10_a", code("%time x = 1\nprint(x)\nassert x\nfrom math import *"), code("y = 1", "export:low"))
    assert files(house)["low.py"].endswith("y = 1\n")


def test_cell_of_a_reader_that_does_not_parse_is_refused(house: House) -> None:
    house.write("10_a", "## Broken", code("def f(:"))
    assert "10_a, section «Broken»" in refusal(house)


def test_two_export_tags_are_refused(house: House) -> None:
    house.write("10_a", code("x = 1", "export:low", "export:high"))
    assert "one module, not to 2" in refusal(house)


def test_unknown_module_is_refused(house: House) -> None:
    house.write("10_a", code("x = 1", "export:cellar"))
    assert "'cellar' is not listed" in refusal(house)


@pytest.mark.parametrize("other", ["low", "high"])
def test_duplicate_names_are_refused_over_the_whole_book(house: House, other: str) -> None:
    house.write("10_a", code("def f():\n    return 1", "export:low"))
    house.write("20_b", code("f, g = 1, 2", f"export:{other}"))
    assert refusal(house) == "20_b: 'f' is already exported to 'low' by 10_a"


UPWARD = {
    "by name": ("def f():\n    return top", ""),
    "by an import of the chapter": ("def f():\n    return top", "from cdlm.high import top"),
    "under another name": ("def f():\n    return t", "from cdlm.high import top as t"),
    "as a module": ("def f():\n    return cdlm.high.top", "import cdlm.high"),
    "as a module from the package": ("def f():\n    return high.top", "from cdlm import high"),
    "inside a function": ("def f():\n    from cdlm.high import top\n    return top", ""),
}


@pytest.mark.parametrize(("source", "imports"), UPWARD.values(), ids=UPWARD)
def test_imports_against_the_layers_are_refused(house: House, source: str, imports: str) -> None:
    house.write("10_a", code(imports or "pass"), code(source, "export:low"))
    house.write("20_b", code("top = 1", "export:high"))
    message = refusal(house)
    assert message.startswith("low uses") and "which stands above it" in message


def test_same_import_with_the_layers_is_written(house: House) -> None:
    house.write("10_a", code("ground = 1", "export:low"))
    house.write("20_b", code("from cdlm.low import ground as g\nimport cdlm.low"), code("x = (g, cdlm.low)", "export:high"))
    assert "import cdlm.low\nfrom cdlm.low import ground as g\n" in files(house)["high.py"]


GONE = ["from cdlm.low import gone", "import cdlm.gone as gone", "from cdlm.cellar import gone", "from cdlm import gone"]


@pytest.mark.parametrize("line", GONE)
def test_import_of_what_no_chapter_exports_is_refused(house: House, line: str) -> None:
    house.write("10_a", code("ground = 1", "export:low"))
    house.write("20_b", code(line), code("x = gone", "export:high"))
    assert "which no chapter exports" in refusal(house)


def test_name_with_two_meanings_is_refused(house: House) -> None:
    """Neither two imports nor an import and another module's definition are chosen between silently."""
    house.write("10_a", code("from math import log"), code("x = log(2)", "export:low"))
    house.write("20_b", code("from cmath import log"), code("y = log(2)", "export:low"))
    assert "'log', which means several things: from cmath import log; from math import log" in refusal(house)
    house.write("20_b", code("def log(x):\n    return x", "export:low"))
    house.write("10_a", code("from math import log"), code("x = log(2)", "export:high"))
    assert "'log', which means several things: from cdlm.low import log; from math import log" in refusal(house)


def test_parts_of_one_library_are_no_conflict(house: House) -> None:
    house.write("10_a", code("import os\nimport os.path"), code("x = os.path.sep", "export:low"))
    assert "import os\nimport os.path\n" in files(house)["low.py"]


# What it resolves and writes


def test_names_come_from_imports_and_from_other_modules(house: House) -> None:
    house.write(
        "10_a",
        code("import math as m\nfrom collections.abc import Sequence, Mapping"),
        "## First",
        code("def f(x: Sequence):\n    return m.pi * _g(x)", "export:room.middle"),
        code("from functools import cache\n\n\n@cache\ndef _g(x):\n    return x", "export:low"),
        "## `Second` $x$",
        code("@cache\ndef h(x):\n    return x", "export:room.middle"),
    )
    made = files(house)
    assert made["room/middle.py"] == (
        '"""A floor in a room.\n\nGenerated from book/src/10_a.md by `make sync`: edit there, not here.\n"""\n\n'
        "from __future__ import annotations\n\n"
        "import math as m\nfrom collections.abc import Sequence\nfrom functools import cache\n\n"
        "from cdlm.low import _g\n\n"
        '__all__ = ["f", "h"]\n\n\n'
        "# 10_a: First\n\ndef f(x: Sequence):\n    return m.pi * _g(x)\n\n\n"
        "# 10_a: Second x\n\n@cache\ndef h(x):\n    return x\n"
    )
    assert "__all__ = []" in made["low.py"] and "@cache\ndef _g" in made["low.py"]
    assert set(made) == {"__init__.py", "py.typed", "low.py", "room/__init__.py", "room/middle.py"}


def test_blocks_of_two_chapters_stand_in_reading_order(house: House) -> None:
    house.write("20_b", code("second = 2", "export:low"))
    house.write("10_a", code("first = 1", "export:low"))
    content = files(house)["low.py"]
    assert "book/src/10_a.md, book/src/20_b.md" in content
    assert content.index("first = 1") < content.index("second = 2")


def test_future_imports_stand_first_and_once(house: House) -> None:
    house.write("10_a", code("from __future__ import annotations\n\nx = 1", "export:low"))
    content = files(house)["low.py"]
    assert content.count("__future__") == 1
    compile(content, "low.py", "exec")


def test_docstrings_and_comments_survive_as_written(house: House) -> None:
    source = 'def f():\n    """Says «hé» and \\\\alpha."""\n    return 1       # (N, C)  as it was'
    house.write("10_a", code(source, "export:low"))
    assert files(house)["low.py"].endswith(source + "\n")


@pytest.mark.slow
def test_output_is_deterministic(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.write("10_a", code("import os, sys, re, json"), code("x = (os, sys, re, json)", "export:low"))
    house.write("20_b", code("b = 1", "export:low"), code("a = x", "export:high"))
    written = []
    for seed in ("0", "1"):  # another process, another order of sets
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        assert house.tool("export").returncode == 0
        written.append({path: path.read_bytes() for path in sorted(house.package.rglob("*.py"))})
        for path in written[-1]:
            path.unlink()
    assert written[0] == written[1] != {}


def test_generated_modules_import(house: House) -> None:
    house.write("10_a", code("from dataclasses import dataclass"), code("@dataclass\nclass A:\n    x: int", "export:low"))
    house.write("20_b", code("def make() -> A:\n    return A(3)", "export:room.middle"))
    house.write("30_c", code("def main():\n    print(make().x)", "export:high"))
    assert export.main([]) == 0
    program = "import cdlm.high as h; from cdlm.room.middle import *; h.main(); print(make().x, h.__all__, 'A' in globals())"
    run = subprocess.run([sys.executable, "-c", program], cwd=house.root, capture_output=True, text=True)
    assert (run.stdout, run.stderr) == ("3\n3 ['main'] False\n", "")


# Names that stay inside


def test_inner_names_are_in_the_module_and_not_in_what_it_offers(house: House) -> None:
    house.write("10_a", code("def part():\n    return 1", "inner:low"), code("def whole():\n    return part()", "export:low"))
    content = files(house)["low.py"]
    assert '__all__ = ["whole"]\n' in content and "def part():" in content


INNER_USES = {
    "by name": ("pass", "def f():\n    return part()"),
    "by an import": ("from cdlm.low import part", "def f():\n    return part()"),
    "inside a function": ("pass", "def f():\n    from cdlm.low import part\n    return part()"),
}


@pytest.mark.parametrize(("imports", "source"), INNER_USES.values(), ids=INNER_USES)
def test_another_module_cannot_use_an_inner_name(house: House, imports: str, source: str) -> None:
    house.write("10_a", code("def part():\n    return 1", "inner:low"))
    house.write("20_b", code(imports), code(source, "export:high"))
    assert refusal(house) == "high uses 'part', an inner name of low; tag its cell export:low"


def test_a_cell_is_inner_or_exported_and_its_names_are_unique_all_the_same(house: House) -> None:
    house.write("10_a", code("x = 1", "export:low", "inner:low"))
    assert "one module, not to 2" in refusal(house)
    house.write("10_a", code("x = 1", "inner:low"), code("x = 2", "inner:high"))
    assert refusal(house) == "10_a: 'x' is already exported to 'low' by 10_a"


# The order in which a module can be loaded

LOADED = {
    "a base class": ("class B(A):\n    pass", "class A:\n    pass"),
    "a decorator": ("@twice\ndef f():\n    return 1", "def twice(f):\n    return f"),
    "a default": ("def f(x=ONE):\n    return x", "ONE = 1"),
    "a value": ("TWO = one() + 1", "def one():\n    return 1"),
    "a field": ("class A:\n    x: int = ONE", "ONE = 1"),
    "what a called function reads": ("def one():\n    return ONE\n\n\nTWO = one() + 1", "ONE = 1"),
}


@pytest.mark.parametrize(("first", "needed"), LOADED.values(), ids=LOADED)
def test_what_is_needed_while_a_module_is_loaded_stands_before(house: House, first: str, needed: str) -> None:
    house.write("10_a", code("def other():\n    return 0", "export:low"), code(first, "export:low"))
    house.write("20_b", code(needed, "export:low"))
    content = files(house)["low.py"]
    exec(content, {"__name__": "low"})
    assert content.index("def other()") < content.index(needed) < content.index(first)


def test_what_only_a_body_or_an_annotation_reads_may_stand_after(house: House) -> None:
    house.write("10_a", code("def f(x: A) -> A:\n    return later(x)", "export:low"), code("class A:\n    y: B", "export:low"))
    house.write("20_b", code("def later(x):\n    return x", "export:low"), code("class B:\n    pass", "export:low"))
    content = files(house)["low.py"]
    places = [content.index(word) for word in ("def f", "class A", "def later", "class B")]
    assert places == sorted(places)


def test_cells_that_need_each_other_are_refused(house: House) -> None:
    house.write("10_a", code("ONE = TWO", "export:low"), code("TWO = ONE", "export:low"))
    assert refusal(house) == "low cannot be loaded: 'ONE', 'TWO' need each other while it is"


def test_one_comment_for_consecutive_cells_of_a_section(house: House) -> None:
    cells = [code(f"{name} = 1", "export:low") for name in "abcd"]
    house.write("10_a", "## First", *cells[:2], "## Second", cells[2])
    house.write("20_b", "## Second", cells[3])
    comments = [line for line in files(house)["low.py"].splitlines() if line.startswith("# ")]
    assert comments == ["# 10_a: First", "# 10_a: Second", "# 20_b: Second"]


# The public face

FACE = '\n[rooms]\n"room" = "What a room is for."\n\n[public]\n"make" = "room.middle.make"\n"ground" = "low.floor"\n'


@pytest.fixture
def faced(house: House) -> House:
    modules = house.book / "tools/modules.toml"
    modules.write_text(modules.read_text(encoding="utf-8") + FACE, encoding="utf-8")
    house.write("10_a", code("floor = 1", "export:low"), code("def make():\n    return floor", "export:room.middle"))
    return house


def test_package_offers_names_and_loads_them_when_they_are_asked_for(faced: House) -> None:
    assert export.main([]) == 0
    program = (
        "import sys, cdlm; print(cdlm.__all__, dir(cdlm)); print('cdlm.low' in sys.modules)\n"
        "print(cdlm.make(), cdlm.ground, 'cdlm.low' in sys.modules); from cdlm import *; print(make())\n"
        "print(hasattr(cdlm, 'nothing'))"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=faced.root, capture_output=True, text=True)
    offered = "['ground', 'make'] ['__version__', 'ground', 'make']\nFalse\n"
    assert (run.stdout, run.stderr) == (offered + "1 1 True\n1\nFalse\n", "")
    content = files(faced)["__init__.py"]
    assert "if TYPE_CHECKING:\n    from cdlm.low import floor as ground\n    from cdlm.room.middle import make\n" in content
    assert files(faced)["room/__init__.py"].startswith('"""What a room is for.\n\n- ``cdlm.room.middle``')


@pytest.mark.parametrize("tag", ["inner:room.middle", "export:high"])
def test_package_offers_only_what_is_exported(faced: House, tag: str) -> None:
    faced.write("10_a", code("floor = 1", "export:low"), code("def make():\n    return floor", tag))
    assert refusal(faced) == "modules.toml offers 'make' from room.middle.make, which no chapter exports"


# Drift


@pytest.fixture
def exported(house: House) -> House:
    house.write("10_a", code("def f():\n    return 1", "export:low"), code("def g():\n    return f()", "export:high"))
    assert export.main([]) == 0
    assert export.main(["--check"]) == 0
    return house


def one_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


DRIFT = {
    "a byte changed": lambda house: one_byte(house.package / "low.py"),
    "a byte added": lambda house: (house.package / "high.py").open("a").write("\n"),
    "other line ends": lambda house: (house.package / "low.py").write_bytes(
        (house.package / "low.py").read_bytes().replace(b"\n", b"\r\n")
    ),
    "a file deleted": lambda house: (house.package / "high.py").unlink(),
    "a marker deleted": lambda house: (house.package / "py.typed").unlink(),
    "a stray module": lambda house: (house.package / "stray.py").write_text("x = 1\n"),
    "a stray weight": lambda house: (house.package / "weights.bin").write_bytes(b"\xff\x00"),
    "the text changed": lambda house: house.write("10_a", code("def f():\n    return 2", "export:low")),
}


@pytest.mark.parametrize("change", DRIFT.values(), ids=DRIFT)
def test_check_fails_on_drift_and_writes_nothing(exported: House, change, capsys: pytest.CaptureFixture) -> None:
    change(exported)
    before = {path: path.read_bytes() for path in exported.package.rglob("*") if path.is_file()}
    assert export.main(["--check"]) == 1
    assert "make sync" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in exported.package.rglob("*") if path.is_file()}


def test_export_repairs_drift_and_removes_modules_no_longer_exported(exported: House) -> None:
    one_byte(exported.package / "low.py")
    exported.write("10_a", code("def f():\n    return 1", "export:low"))
    assert export.main([]) == 0
    assert not (exported.package / "high.py").exists()
    assert export.main(["--check"]) == 0


@pytest.mark.parametrize("content", [b"x = 1\n", b"\xff\xfe\x00"])
def test_export_deletes_nothing_it_has_not_written(exported: House, content: bytes, capsys: pytest.CaptureFixture) -> None:
    stray = exported.package / "mine.py"
    stray.write_bytes(content)
    exported.write("10_a", code("def f():\n    return 1", "export:low"))
    assert export.main([]) == 1
    assert "mine.py was not generated" in capsys.readouterr().err
    assert stray.read_bytes() == content and (exported.package / "high.py").exists()


@pytest.mark.parametrize("name", ["../../evil", "room.../evil", "/evil", "room/evil", "..evil", "room.", ".evil", "", "a.b.c",
                                  "room.é", "room.class",
                                  "room.evil\\nx", "C:evil", "__init__", "room.2d", "evil.py\\0"])  # fmt: skip
def test_a_module_stays_in_the_package(house: House, name: str, capsys: pytest.CaptureFixture) -> None:
    """What is no name of a module is refused before anything is written, wherever it would lead."""
    modules = house.book / "tools/modules.toml"
    modules.write_text(f'[modules]\n"{name}" = "Evil."\n' + MODULES.partition("\n")[2], encoding="utf-8")
    house.write("10_a", code("x = 1", "export:low"), code("y = 1", f"export:{name}") if "\\" not in name and name else "Words.")
    before = {path: path.read_bytes() for path in house.root.parent.rglob("*") if path.is_file()}
    assert export.main([]) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1
    assert {path: path.read_bytes() for path in house.root.parent.rglob("*") if path.is_file()} == before


def test_command_line_says_what_is_wrong_without_a_traceback(house: House) -> None:
    house.write("10_a", code("def f():\n    return nowhere", "export:low"))
    run = house.tool("export")
    assert run.returncode == 1 and run.stdout == ""
    assert run.stderr.startswith("error: low uses 'nowhere'") and run.stderr.count("\n") == 1
    assert list(house.package.iterdir()) == []


# The package as it stands


def modules_of_the_package() -> list[str]:
    package = ROOT / "cdlm"
    return sorted(
        ".".join(path.relative_to(package).with_suffix("").parts)
        for path in package.rglob("*.py")
        if path.name not in ("__init__.py", "__main__.py")
    )


def imports_of(path: Path) -> set[str]:
    """Modules of the package that a file imports, found without the help of the tools under test."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            inner = name.removeprefix("cdlm.")
            found |= {layer for layer in LAYERS if name.startswith("cdlm.") and f"{inner}.".startswith(f"{layer}.")}
    return found


def test_package_is_what_the_chapters_give() -> None:
    assert export.drift(export.package_files(chapters.chapters())) == []


@pytest.mark.parametrize("module", modules_of_the_package())
def test_imports_run_one_way(module: str) -> None:
    assert module in LAYERS
    above = set(LAYERS[LAYERS.index(module) :])
    assert not imports_of(ROOT.joinpath("cdlm", *module.split(".")).with_suffix(".py")) & above


def test_layer_test_sees_imports(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    inside = "def f():\n    from cdlm.data import batches\n    from cdlm.model.losses import elbo\n"
    path.write_text(f"import cdlm.model.networks\n{inside}")
    assert imports_of(path) == {"model.networks", "data.batches", "model.losses"}


def test_every_module_imports_and_says_what_it_offers() -> None:
    """In one fresh process, in the order of the layers, each module alone bringing in only what stands below it."""
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    module = importlib.import_module(f'cdlm.{name}')\n"
        "    missing = [public for public in module.__all__ if not hasattr(module, public)]\n"
        "    own = [public for public in module.__all__ if getattr(getattr(module, public), '__module__', '') is not None]\n"
        "    foreign = [public for public in own\n"
        "               if getattr(getattr(module, public), '__module__', module.__name__) != module.__name__\n"
        "               and isinstance(getattr(module, public), (type, type(lambda: 0)))]\n"
        "    undocumented = [public for public in own\n"
        "                    if isinstance(getattr(module, public), (type, type(lambda: 0)))\n"
        "                    and not getattr(module, public).__doc__]\n"
        "    assert not (missing or foreign or undocumented), (name, missing, foreign, undocumented)\n"
        "    assert module.__doc__, name\n"
    )
    present = [name for name in LAYERS if name in modules_of_the_package()]
    assert present
    run = subprocess.run([sys.executable, "-c", program, *present], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr


def test_every_module_is_on_the_page_of_the_package() -> None:
    page = ROOT / "book/api.md"
    if not page.exists():
        pytest.skip("book/api.md is not written yet")
    text = page.read_text(encoding="utf-8")
    listed = set(LAYERS) if "cdlm-modules" in text else {name for name in LAYERS if f"cdlm.{name}\n" in text}
    assert set(modules_of_the_package()) <= listed
