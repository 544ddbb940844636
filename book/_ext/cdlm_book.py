"""What this book adds to Sphinx: the package on the path, pages of its modules and equations, and old addresses."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections import Counter
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.errors import ExtensionError
from sphinx.ext.autodoc.mock import _MockObject

ROOT = Path(__file__).resolve().parents[2]
OLD_PAGES = Path(__file__).with_name("old_pages.toml")
REDIRECT = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>This page has moved</title>
<meta http-equiv="refresh" content="0; url={target}">
<link rel="canonical" href="{target}">
<script>location.replace("{target}" + location.hash)</script>
</head>
<body><p>This page has moved: <a href="{target}">{target}</a>.</p></body>
</html>
"""


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


class LedgerDirective(Directive):
    """``.. cdlm-ledger::`` shows the recorded equation ledger: an overview, then each equation with its links."""

    def run(self) -> list[nodes.Node]:
        recorded = json.loads((ROOT / "cdlm/theory/ledger.json").read_text(encoding="utf-8"))
        equations = sorted(recorded["equations"].items(), key=lambda item: int(item[0]))
        lines = self.overview(equations)
        for number, equation in equations:
            lines += self.entry(number, equation)
        made = {"python": recorded["provenance"]["python"], **recorded["provenance"]["packages"]}
        lines += ["", "Recorded with " + ", ".join(f"{name} {version}" for name, version in made.items()) + ".", ""]
        self.state_machine.insert_input(StringList(lines, source="cdlm-ledger"), "cdlm-ledger")
        return []

    @staticmethod
    def overview(equations: list[tuple[str, dict]]) -> list[str]:
        lines = [".. list-table::", "   :header-rows: 1", "   :widths: 8 46 16 30", "   :class: ledger", ""]
        lines += ["   * - Eq.", "     - what it states", "     - kind", "     - verdict"]
        for number, equation in equations:
            title = f":ref:`{equation['title']} <eq-{number}>`"
            lines += [f"   * - {number}", f"     - {title}", f"     - {equation['kind']}", f"     - {equation['verdict']}"]
        return [*lines, ""]

    @staticmethod
    def entry(number: str, equation: dict) -> list[str]:
        checks = Counter(check for test in equation["tests"].values() for check in test["checks"])
        passed = all(test["outcome"] == "passed" for test in equation["tests"].values())
        chapter = equation["chapter"].partition("#")[0]
        files = sorted({test.partition("::")[0] for test in equation["tests"]})
        lines = [f".. rubric:: Equation {number}: {equation['title']}", "", ".. math::", "", f"   {equation['statement']}", ""]
        lines += [f":Verdict: {equation['kind']}, {equation['verdict']}."]
        for field, text in (("Note", equation["note"]), ("In print", equation["slip"])):
            lines += [f":{field}: " + re.sub(r"\$(.+?)\$", r":math:`\1`", text)] if text else []
        lines += [f":Derived in: :doc:`{chapter}`, :ref:`in this section <eq-{number}>`"]
        lines += [":Computed by: " + ", ".join(f":py:obj:`{name}`" for name in equation["api"])]
        shown = ", ".join(f"{check} ({count})" for check, count in sorted(checks.items()))
        lines += [f":Tests: {'passed' if passed else 'FAILED'}: {shown}; in " + ", ".join(f"``{file}``" for file in files)]
        return [*lines, ""]


def link_chapters(app, what: str, name: str, obj: object, options: dict, lines: list[str]) -> None:
    """In place of the banner of a generated module, links to the chapters that teach it; no words that say nothing."""
    if what == "module":
        chapters = re.findall(r"book/src/(\w+)\.md", " ".join(lines))
        lines[:] = [lines[0], "", "Taught in " + ", ".join(f":doc:`{chapter}`" for chapter in chapters) + ".", ""]
    elif lines and lines[0].startswith("Alias for field number"):    # what Python writes where nobody has
        lines.clear()


def let_mocks_compute() -> None:
    """Modules of theory compute with symbols when they are loaded; where SymPy is absent, so must what stands for it."""
    for name in ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "pow", "neg"):
        setattr(_MockObject, f"__{name}__", lambda self, *_: self)


def write_old_pages(app, exception: Exception | None) -> None:
    """For each page that was moved, one under its old address that leads to the new one, at the same place if it can."""
    if exception is not None or app.builder.format != "html":
        return
    for old, new in tomllib.loads(OLD_PAGES.read_text(encoding="utf-8")).items():
        if new not in app.env.found_docs or old in app.env.found_docs:
            raise ExtensionError(f"old_pages.toml leads from {old} to {new}: the first must be gone, the second a page")
        page = REDIRECT.format(target=f"{new}{app.builder.out_suffix}")
        Path(app.outdir, f"{old}{app.builder.out_suffix}").write_text(page, encoding="utf-8")


def show_only_buttons_that_work(app, config) -> None:
    """Without an address there is nothing that a button could open."""
    from address import is_placeholder  # of book/tools

    options = config.html_theme_options
    if is_placeholder(options.get("repository_url", "")):
        options |= {"launch_buttons": {}, "use_repository_button": False, "use_issues_button": False}


def name_entries(app, page: str, template: str, context: dict, doctree: nodes.document | None) -> None:
    """Entries of the bibliography are items of a list: the role that docutils gives them is deprecated, and no item."""
    if "body" in context:
        context["body"] = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')


def setup(app):
    let_mocks_compute()
    sys.path.insert(0, str(ROOT))
    sys.path.append(str(ROOT / "book/tools"))
    app.setup_extension("draw_page")
    app.connect("config-inited", show_only_buttons_that_work)
    app.connect("autodoc-process-docstring", link_chapters)
    app.connect("html-page-context", name_entries)
    app.connect("build-finished", write_old_pages)
    app.add_directive("cdlm-modules", ModulesDirective)
    app.add_directive("cdlm-ledger", LedgerDirective)
    app.setup_extension("quiz")
    app.setup_extension("live")
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
