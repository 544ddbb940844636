"""Draws the manipulation of a latent space: one encoder, a transformation of codes, one decoder, two flows of data.

    python figures/latent_space.py
"""

from __future__ import annotations

import sys

from architecture import MIXED, NEUTRAL, SOURCE, TARGET, arrow, box
from drawing import finish, keep_figure, plt
from matplotlib.patches import Ellipse, FancyBboxPatch


def cloud(ax, x: float, y: float, text: str, color: str, width: float = 1.15, height: float = 0.85) -> None:
    """The codes of a domain: an ellipse around the point (x, y)."""
    ax.add_patch(Ellipse((x, y), width, height, facecolor=color + "30", edgecolor=color, linewidth=1.6))
    ax.text(x, y, text, ha="center", va="center", fontsize=11)


def draw() -> plt.Figure:
    fig, ax = plt.subplots(figsize=(10, 3.6))
    box(ax, 2.25, 1.8, "encoder\n$E_u$", width=1.2, height=2.5)
    room = FancyBboxPatch((3.55, 0.15), 4.2, 3.3, boxstyle="round,pad=0,rounding_size=0.3")
    room.set(facecolor="#f4f4f4", edgecolor=NEUTRAL, linewidth=1.2, linestyle=(0, (4, 2)))
    ax.add_patch(room)
    ax.text(5.65, 3.66, "latent space", ha="center", va="bottom", fontsize=10.5)
    cloud(ax, 6.8, 1.8, "$z_{tr}$", MIXED, 1.25, 1.5)
    ax.text(5.15, 1.8, "transformation", ha="center", va="center", fontsize=9.5)
    box(ax, 9.05, 1.8, "decoder\n$D$", width=1.2, height=2.5)
    for up, side, color in ((+1, "s", SOURCE), (-1, "t", TARGET)):
        y = 1.8 + 0.85 * up
        box(ax, 0.6, y, f"$x_{side}$", color, width=0.75)
        arrow(ax, (0.98, y), (1.63, y), color)
        arrow(ax, (2.87, y), (3.78, y), color)
        cloud(ax, 4.4, y, f"$z_{side}$", color)
        arrow(ax, (4.99, y), (6.26, 1.8 + 0.5 * up), color, bend=-0.18 * up)
        arrow(ax, (7.3, 1.8 + 0.5 * up), (8.43, y), color, bend=0.12 * up)
        arrow(ax, (9.67, y), (10.3, y), color)
        box(ax, 10.7, y, rf"$\hat x_{side}$", color, width=0.75)
    ax.set(xlim=(0.1, 11.2), ylim=(0.0, 4.1), aspect="equal")
    ax.axis("off")
    return fig


if __name__ == "__main__":
    sys.exit(finish(lambda: keep_figure(__file__, draw)))
