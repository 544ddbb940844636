"""The command that tells of a run.

Generated from book/src/90_command_line.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cdlm.cli.common import SKIP_OPTION, clear_errors, leaving_out, tell
from cdlm.cli.train import note_unchecked
from cdlm.files import RunError
from cdlm.runs.folder import METRICS

__all__ = ["report_command"]


# 90_command_line: The commands

def report_command(
    folder: Annotated[Path, typer.Argument(help="folder of a run")],
    out: Annotated[Path | None, typer.Option(help="new folder for the page; by default "
                                             "report, in that of the run")] = None,
    source: Annotated[str | None, typer.Option(help="where its source's images are")] = None,
    target: Annotated[str | None, typer.Option(help="where its target's images are")] = None,
    skip_damaged: Annotated[bool, SKIP_OPTION] = False,
) -> None:
    """Tell of a stored run on one page, as HTML and as a model card: what it is, where it
    fails, and what speaks against trusting it."""
    from cdlm.use.report import store_report  # likewise

    with clear_errors(), leaving_out(skip_damaged):
        if not (folder / METRICS).exists():
            raise RunError(f"{folder} is no finished run: it has no {METRICS}")
        place = store_report(folder, out or folder / "report", source, target)
        note_unchecked([folder])
    tell(f"{place / 'report.html'}, and for a hub {place / 'README.md'}")
