"""JupyterLab, as ``make lab`` starts it, in a real browser: a chapter opens, runs, and saves its text."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT, House
from fingerprint import why_stale
from pages import CHROMIUM, QUIET

CHAPTER = "01_toolbox"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.quiet,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (looked for chromium, google-chrome)"),
]

IS_READY = """() => {
    const panel = window.jupyterapp?.shell.currentWidget;
    return panel?.context?.isReady && panel.sessionContext?.session?.kernel?.status === 'idle' && panel.context.path;
}"""
RUN_ALL = """() => Promise.race([
    window.jupyterapp.commands.execute('notebook:run-all-cells').then(() => 'done'),
    new Promise(resolve => setTimeout(() => resolve('took too long'), 1200000)),
])"""


@pytest.fixture
def lab(house: House, tmp_path: Path) -> Iterator[str]:
    """A server on a copy of one chapter; the address at which it shows it."""
    shutil.copy(ROOT / f"book/src/{CHAPTER}.md", house.book / "src")
    assert house.tool("sync").returncode == 0
    text = house.book / f"src/{CHAPTER}.md"
    os.utime(text, (1e9, 1e9))  # as after `make execute`: the notebook is the newer file
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        Path(sys.executable).parent / "jupyter", "lab", f"--notebook-dir={house.book}", "--no-browser", "--allow-root",
        f"--port={port}", "--ServerApp.port_retries=0", "--IdentityProvider.token=", "--expose-app-in-browser",
        "--LabApp.news_url=", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]  # fmt: skip
    own = {f"JUPYTER_{kind}_DIR": str(tmp_path / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    own |= {"JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "workspaces")}
    address = f"http://127.0.0.1:{port}"
    with (tmp_path / "lab.log").open("w") as log:
        server = subprocess.Popen(command, env=os.environ | own | {"CDLM_PROFILE": "smoke"}, stdout=log, stderr=log)
    try:
        for _ in range(3000):
            try:
                urllib.request.urlopen(f"{address}/api", timeout=1).close()
                break
            except OSError:
                assert server.poll() is None, (tmp_path / "lab.log").read_text()[-3000:]
                time.sleep(0.2)
        yield f"{address}/lab/tree/{CHAPTER}.ipynb"
    finally:
        server.terminate()
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            server.kill()


def test_a_chapter_opens_runs_and_saves_in_jupyterlab(lab: str, house: House) -> None:
    from playwright.sync_api import sync_playwright

    text, before = house.book / f"src/{CHAPTER}.md", (ROOT / f"book/src/{CHAPTER}.md").read_bytes()
    heading = next(line.removeprefix("# ") for line in before.decode().splitlines() if line.startswith("# "))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page()
        page.set_default_timeout(600_000)
        page.goto(lab)
        # Either the chapter is there with its kernel, or JupyterLab says why not.
        page.wait_for_function(f"() => document.querySelector('.jp-Dialog') || ({IS_READY})()")
        assert page.query_selector(".jp-Dialog") is None, page.inner_text(".jp-Dialog")
        assert page.evaluate(IS_READY) == f"{CHAPTER}.ipynb"
        assert heading in page.inner_text(".jp-NotebookPanel")

        # Run all cells, and see the figures.
        assert page.evaluate(RUN_ALL) == "done"
        outputs = page.evaluate("""() => window.jupyterapp.shell.currentWidget.content.widgets
            .filter(cell => cell.model.type === 'code').map(cell => cell.model.outputs.toJSON())""")
        kinds = [output["output_type"] for cell in outputs for output in cell]
        assert "error" not in kinds and kinds.count("display_data") >= 3
        page.wait_for_selector(".jp-OutputArea-output img, .jp-OutputArea-output svg")

        # Type into the first cell, as an author does, and save.
        page.evaluate("() => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = 0; }")
        page.evaluate("() => window.jupyterapp.commands.execute('notebook:enter-edit-mode')")
        page.keyboard.press("Control+End")
        page.keyboard.type("\n\nTyped in JupyterLab.", delay=5)
        page.keyboard.press("Shift+Enter")
        page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
        page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")
        assert page.query_selector(".jp-Dialog") is None, page.inner_text(".jp-Dialog")
        browser.close()

    saved = nbformat.read(house.notebook(CHAPTER), as_version=4)
    code = [cell for cell in saved.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert saved.cells[0].source.endswith("\n\nTyped in JupyterLab.")
    assert "\n\nTyped in JupyterLab.\n" in text.read_text(encoding="utf-8")

    # The typed sentence is all that has come into the text, once it is in its usual form again.
    run = house.tool("sync")
    assert (run.returncode, run.stderr) == (0, "")
    assert text.read_bytes().replace(b"\n\nTyped in JupyterLab.", b"") == before
    kept = nbformat.read(house.notebook(CHAPTER), as_version=4)
    assert [c.outputs for c in kept.cells if c.cell_type == "code"] == [c.outputs for c in code]
    # Outputs made in JupyterLab, here in the smallest size, do not pass for those of the book.
    assert why_stale(kept)
    assert (ROOT / f"book/src/{CHAPTER}.md").read_bytes() == before
