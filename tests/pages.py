"""A few pages of the book as a book of their own, and the browser in which tests look at pages."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
QUIET = """--no-sandbox --disable-gpu --disable-dev-shm-usage --disable-background-networking --disable-component-update
--disable-sync --no-first-run --no-default-browser-check""".split()

in_a_browser = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None or importlib.util.find_spec("playwright") is None, reason="no Chromium or no playwright"),
]


def built_alone(root: Path, *files: str) -> Path:
    """The pages in the book's dress, built below ``root`` from files of ``book/``; links to other chapters lead nowhere."""
    root.mkdir(exist_ok=True)
    shutil.copy(ROOT / "_config.yml", root)
    shutil.copytree(ROOT / "figures", root / "figures")
    others = shutil.ignore_patterns("__pycache__", "src", "measurements", "runs", "*.ipynb", "*.md")
    shutil.copytree(ROOT / "book", root / "book", ignore=others)
    for file in files:
        shutil.copy(ROOT / "book" / file, root / "book")
    (root / "book/_ext/old_pages.toml").write_text("", encoding="utf-8")       # no page was moved here
    first, *rest = [Path(file).stem for file in files]
    chapters = "chapters:\n" + "".join(f"  - file: {name}\n" for name in rest) if rest else ""
    (root / "book/_toc.yml").write_text(f"format: jb-book\nroot: {first}\n{chapters}", encoding="utf-8")
    command = [Path(sys.executable).parent / "jupyter-book", "build", "book/"]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return root / "_build/html"


# axe-core looks at everything that is there, glyph by glyph. Two formulas, two words of code of one kind look alike, so one of
# each kind stays; what is folded is opened. Formulas keep what is read aloud.
LAID_OPEN = """async () => {
    if (window.MathJax?.startup) await MathJax.startup.promise;
    for (const details of document.querySelectorAll('details')) details.open = true;
    for (const folded of document.querySelectorAll('.toggle-hidden')) folded.classList.remove('toggle-hidden');
    [...document.querySelectorAll('mjx-math')].slice(1).forEach(drawn => drawn.replaceChildren());
    const seen = new Set();
    for (const part of document.querySelectorAll('article :is(pre, dt.sig) span')) {
        let kind = '';
        for (let p = part; p && p.localName !== 'article'; p = p.parentElement) kind += `${p.localName}.${p.className} `;
        if (seen.has(kind)) part.replaceWith(...part.childNodes); else seen.add(kind);
    }
    [...document.querySelectorAll('table.indextable li')].slice(50).forEach(entry => entry.remove());
    document.querySelector('article')?.normalize();
}"""
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
OF_COLOR = ["color-contrast", "link-in-text-block"]


def barriers(tab) -> list[str]:
    """What axe-core finds against WCAG 2.2, levels A and AA, on a page that a tab of a browser shows: all rules in light
    colors, and those on colors in dark ones."""
    from axe_playwright_python.sync_playwright import Axe

    tab.evaluate(LAID_OPEN)
    found = []
    for mode, rules in (("light", {"type": "tag", "values": WCAG}), ("dark", {"type": "rule", "values": OF_COLOR})):
        tab.evaluate("mode => Object.assign(document.documentElement.dataset, {theme: mode, mode})", mode)
        tab.wait_for_timeout(300)           # colors change slowly
        answer = Axe().run(tab, options={"runOnly": rules, "resultTypes": ["violations"], "preload": False}).response
        for fault in answer["violations"]:
            for node in fault["nodes"]:
                why = " ".join((node.get("failureSummary") or "").split())
                found.append(f"{mode}: {fault['id']}: {' '.join(map(str, node['target']))}: {why}")
    return found
