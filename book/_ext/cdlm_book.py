"""What this book adds to Sphinx: the package on the path, and a page that lists its modules."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList

ROOT = Path(__file__).resolve().parents[2]


class ModulesDirective(Directive):
    """``.. cdlm-modules::`` documents every module of the package, in the order of its layers."""

    def run(self) -> list[nodes.Node]:
        layers = tomllib.loads((ROOT / "book/tools/modules.toml").read_text(encoding="utf-8"))["modules"]
        lines = []
        for name in layers:
            path = ROOT.joinpath("cdlm", *name.split(".")).with_suffix(".py")
            if path.exists():
                title = f"cdlm.{name}"
                lines += [title, "-" * len(title), "", f".. automodule:: cdlm.{name}", ""]
        self.state_machine.insert_input(StringList(lines, source="cdlm-modules"), "cdlm-modules")
        return []


def link_chapters(app, what: str, name: str, obj: object, options: dict, lines: list[str]) -> None:
    """In place of the banner of a generated module, links to the chapters that teach it."""
    if what == "module":
        chapters = re.findall(r"book/src/(\w+)\.md", " ".join(lines))
        lines[:] = [lines[0], "", "Taught in " + ", ".join(f":doc:`{chapter}`" for chapter in chapters) + ".", ""]


def setup(app):
    sys.path.insert(0, str(ROOT))
    app.connect("autodoc-process-docstring", link_chapters)
    app.add_directive("cdlm-modules", ModulesDirective)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
