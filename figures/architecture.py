"""Draws the architecture of CDLM: two domains, four codes, four images, and who judges them.

    python figures/architecture.py
"""

from __future__ import annotations

import sys

from drawing import finish, keep_figure, plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

SOURCE, TARGET, MIXED, NEUTRAL = "#0072B2", "#D55E00", "#009E73", "#444444"


def box(ax, x: float, y: float, text: str, color: str = NEUTRAL, width: float = 1.0, height: float = 0.62) -> None:
    """A rounded box around the point (x, y)."""
    ax.add_patch(FancyBboxPatch((x - width / 2, y - height / 2), width, height, boxstyle="round,pad=0,rounding_size=0.12",
                                facecolor=color + "18", edgecolor=color, linewidth=1.6))
    ax.text(x, y, text, ha="center", va="center", fontsize=10.5, color="black", linespacing=1.35)


def arrow(ax, start: tuple, end: tuple, color: str = NEUTRAL, bend: float = 0.0, style: str = "-") -> None:
    ax.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, color=color, linewidth=1.4, linestyle=style,
                                 connectionstyle=f"arc3,rad={bend}", shrinkA=0, shrinkB=0))


def draw() -> plt.Figure:
    fig, ax = plt.subplots(figsize=(10, 4.7))
    for y, side, color in ((3.6, "s", SOURCE), (1.2, "t", TARGET)):
        box(ax, 0.6, y, f"$x_{side}$", color, width=0.7)
        arrow(ax, (0.95, y), (1.55, 2.4 + (0.45 if side == "s" else -0.45)), color)
    box(ax, 2.1, 2.4, "encoder\n" r"$E_\phi$", width=1.1, height=1.7)
    for y, side, color in ((3.9, "s", SOURCE), (0.9, "t", TARGET)):
        box(ax, 4.0, y, rf"$\mu_{side},\ \sigma_{side}$", color, width=1.15)
        arrow(ax, (2.65, 2.4 + (0.6 if side == "s" else -0.6)), (3.42, y), color)
    for y, side, color in ((2.85, "s", SOURCE), (1.95, "t", TARGET)):
        box(ax, 4.0, y, rf"$h_{side}$", color, width=0.7, height=0.56)
        arrow(ax, (2.65, 2.4 + (0.2 if side == "s" else -0.2)), (3.65, y), color)

    codes = ((4.2, r"$\ddot z_{st}$", MIXED), (3.1, "$u_s$", SOURCE), (1.7, "$u_t$", TARGET), (0.6, r"$\ddot z_{ts}$", MIXED))
    for y, text, color in codes:
        box(ax, 5.9, y, text, color, width=0.75, height=0.56)
        arrow(ax, (6.28, y), (6.95, 2.4 + (y - 2.4) * 0.38), color)
    arrow(ax, (4.58, 3.9), (5.52, 4.2), SOURCE)
    arrow(ax, (4.58, 0.9), (5.52, 0.6), TARGET)
    arrow(ax, (4.35, 1.95), (5.52, 4.08), TARGET)
    arrow(ax, (4.35, 2.85), (5.52, 0.72), SOURCE)
    arrow(ax, (4.35, 2.85), (5.52, 3.1), SOURCE)
    arrow(ax, (4.35, 1.95), (5.52, 1.7), TARGET)
    box(ax, 7.45, 2.4, "decoder\n" r"$D_\theta$", width=1.0, height=1.9)

    images = ((4.2, r"$\hat x_{st}$", MIXED), (3.1, r"$\tilde x_s$", SOURCE),
              (1.7, r"$\tilde x_t$", TARGET), (0.6, r"$\hat x_{ts}$", MIXED))
    for y, text, color in images:
        arrow(ax, (7.95, 2.4 + (y - 2.4) * 0.42), (8.62, y), color)
        box(ax, 9.0, y, text, color, width=0.75, height=0.56)
    for high, low, text in ((3.92, 3.38, r"$L_c^s$"), (1.42, 0.88, r"$L_c^t$")):
        arrow(ax, (9.0, (high + low) / 2), (9.0, high), bend=0)
        arrow(ax, (9.0, (high + low) / 2), (9.0, low), bend=0)
        ax.text(9.12, (high + low) / 2, text, va="center", fontsize=10.5)
    box(ax, 11.0, 2.4, "classifier\n" r"$\theta_T$", width=1.2, height=1.0)
    arrow(ax, (9.38, 4.2), (10.4, 2.75), MIXED)
    arrow(ax, (9.38, 3.1), (10.4, 2.55), SOURCE)
    arrow(ax, (9.38, 1.7), (10.4, 2.25), TARGET, style=(0, (4, 2)))
    ax.text(9.86, 1.78, "test", fontsize=9.5, color=TARGET)
    arrow(ax, (11.6, 2.4), (12.1, 2.4))
    ax.text(12.2, 2.4, r"$\hat y$", va="center", fontsize=12)
    ax.text(9.55, 4.28, r"$L_{Rec}$: like $x_s$", fontsize=10.5)

    box(ax, 4.0, -0.25, "discriminator\n" r"$\Xi$", width=1.9, height=0.7)
    arrow(ax, (3.78, 1.67), (3.3, 0.1), TARGET, bend=0.32, style=(0, (4, 2)))
    arrow(ax, (3.68, 2.7), (3.28, -0.02), SOURCE, bend=0.42, style=(0, (4, 2)))
    ax.text(1.75, 0.12, "gradient\nreversed", fontsize=9.5, ha="left", linespacing=1.2)
    ax.set(xlim=(0.1, 12.5), ylim=(-0.7, 4.75), aspect="equal")
    ax.axis("off")
    return fig


if __name__ == "__main__":
    sys.exit(finish(lambda: keep_figure(__file__, draw)))
