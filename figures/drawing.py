"""How the scripts of this folder draw with Matplotlib, and keep what they draw."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import matplotlib
from keeping import finish, keep_svg

matplotlib.use("Agg")
import matplotlib.pyplot as plt

__all__ = ["finish", "keep_figure", "plt"]


def keep_figure(script: str, draw: Callable[[], plt.Figure]) -> int:
    """Write beside a script what it draws, with letters as paths and no date in it; 0, the exit status of the script."""
    with plt.rc_context({"svg.hashsalt": "cdlm", "svg.fonttype": "path", "mathtext.fontset": "cm"}):
        drawn = io.StringIO()
        draw().savefig(drawn, format="svg", metadata={"Date": None}, bbox_inches="tight", facecolor="white")
    keep_svg(Path(script).resolve().with_suffix(".svg"), drawn.getvalue())
    return 0
