"""Draws one pass through a decoder and the two gradients that go back: one to its input, another to its parameters.

    python figures/seam.py
"""

from __future__ import annotations

import sys

from architecture import NEUTRAL, arrow, box
from drawing import finish, keep_figure, plt

PHI, THETA, FAINT = "#A23B72", "#B26B00", "#888888"
TOP, MIDDLE, LOW, BOTTOM = 4.5, 3.0, 1.5, 0.3                       # for phi, forward, for theta, weights
LAYERS, IMAGE, VIEW, LOSS = (2.5, 4.2, 5.9), 7.7, 9.7, 12.0
VIEWS = ((TOP, "input", r"$\lambda_2 L_{Rec}$", PHI), (MIDDLE, "both", r"$L_{task}$", NEUTRAL),
         (LOW, "network", r"$L_{Rec} + L_c$", THETA))


def forward(ax: plt.Axes) -> None:
    """Codes, layers, images, and the images three times, in the middle row."""
    box(ax, 0.7, MIDDLE, "codes\n$z$", width=0.95, height=0.9)
    for number, x in enumerate(LAYERS, start=1):
        box(ax, x, MIDDLE, f"layer {number}", width=1.1, height=0.9)
    box(ax, IMAGE, MIDDLE, "images\n" r"$D_\theta(z)$", width=1.15, height=0.9)
    edges = [(0.7, 0.475), *((x, 0.55) for x in LAYERS), (IMAGE, 0.575), (VIEW, 1.0)]
    for (a, half), (b, other) in zip(edges, edges[1:]):
        arrow(ax, (a + half, MIDDLE), (b - other, MIDDLE), NEUTRAL)
    for y, name, loss, color in VIEWS:
        box(ax, VIEW, y, name, color, width=1.5)
        box(ax, LOSS, y, loss, color, width=1.7)
        arrow(ax, (VIEW + 0.75, y), (LOSS - 0.85, y), NEUTRAL)
    ax.add_patch(plt.Rectangle((VIEW - 1, LOW - 0.5), 2, TOP - LOW + 1, fill=False, edgecolor=FAINT, linestyle=(0, (4, 2))))


def backward(ax: plt.Axes) -> None:
    """Both streams, which use the same layers; only one of them ends in the weights."""
    for y, color, who in ((TOP, PHI, r"\phi"), (LOW, THETA, r"\theta")):
        box(ax, IMAGE, y, rf"$v_{who}$", color, width=0.8)
        for x in LAYERS:
            box(ax, x, y, rf"$J^\top v_{who}$", color, width=1.1)
            side = 1 if y > MIDDLE else -1
            ax.plot([x, x], [MIDDLE + 0.45 * side, y - 0.31 * side], color=FAINT, linewidth=1.2, linestyle=(0, (1, 2)))
        arrow(ax, (VIEW - 0.75, y), (IMAGE + 0.4, y), color)
        arrow(ax, (VIEW - 0.55, MIDDLE + 0.2 * (y - MIDDLE)), (IMAGE + 0.4, y - 0.09 * (y - MIDDLE)), color)
        stops = [IMAGE - 0.4, *(edge for x in reversed(LAYERS) for edge in (x + 0.55, x - 0.55))]
        for start, end in zip(stops[::2], stops[1::2]):
            arrow(ax, (start, y), (end, y), color)
    box(ax, 0.6, TOP, r"$g_\phi$" "\nto the encoder", PHI, width=1.9, height=0.9)
    arrow(ax, (LAYERS[0] - 0.55, TOP), (1.55, TOP), PHI)
    for number, x in enumerate(LAYERS, start=1):
        box(ax, x, BOTTOM, rf"$g_\theta$, layer {number}", THETA, width=1.45)
        arrow(ax, (x, LOW - 0.31), (x, BOTTOM + 0.31), THETA)


def draw() -> plt.Figure:
    fig, ax = plt.subplots(figsize=(10, 4.3))
    forward(ax)
    backward(ax)
    ax.set(xlim=(-0.4, 13.0), ylim=(-0.15, 5.0), aspect="equal")
    ax.axis("off")
    return fig


if __name__ == "__main__":
    sys.exit(finish(lambda: keep_figure(__file__, draw)))
