"""The command that takes a stored run elsewhere.

Generated from book/src/90_command_line.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cdlm.cli.common import clear_errors, tell
from cdlm.use.export import FORMATS, export_run

__all__ = ["export_command"]


# 90_command_line: The commands

EXPORT_OPTION = typer.Option(help="new folder for the files")
FORMAT_OPTION = typer.Option("--format", help=f"one of: {', '.join(FORMATS)}")
READ_OPTION = typer.Option(help="what the classifier reads: x_t, x_hat_ts, x_tilde_t or h, as "
                           "far as the method has it; by default what it is measured by")
LABELED_OPTION = typer.Option(help="where the images of the run's source are")


def export_command(
    folder: Annotated[Path, typer.Argument(help="folder of a run")],
    out: Annotated[Path, EXPORT_OPTION], form: Annotated[str, FORMAT_OPTION],
    path: Annotated[str | None, READ_OPTION] = None,
    source: Annotated[str | None, LABELED_OPTION] = None,
) -> None:
    """Store the classifier of a run, and what draws, as files that run elsewhere, checked
    against PyTorch."""
    with clear_errors():
        lines = export_run(folder, out, form, path, source)
    tell("\n".join(f"{out}/{line}" for line in lines))
