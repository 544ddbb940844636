"""Draws the variational autoencoder: the way of training, and below it the way of making new images.

    python figures/vae.py
"""

from __future__ import annotations

import sys

from architecture import MIXED, NEUTRAL, SOURCE, arrow, box
from drawing import finish, keep_figure, plt

DASHED = (0, (4, 2))


def draw() -> plt.Figure:
    fig, ax = plt.subplots(figsize=(10, 3.6))
    box(ax, 0.5, 2.6, "image\n$x$", SOURCE, width=0.9, height=0.9)
    arrow(ax, (0.95, 2.6), (1.5, 2.6), SOURCE)
    box(ax, 2.1, 2.6, "trunk\n$h'$", width=1.2, height=1.5)
    for y, text in ((3.1, r"$\mu$"), (2.1, r"$\sigma$")):
        arrow(ax, (2.7, 2.6 + (y - 2.6) * 0.6), (3.35, y), SOURCE)
        box(ax, 3.7, y, text, SOURCE, width=0.7)
        arrow(ax, (4.05, y), (4.72, 2.6 + (y - 2.6) * 0.3), SOURCE)
    box(ax, 5.7, 2.6, r"$z = \mu + \sigma \odot \varepsilon$", SOURCE, width=1.9, height=0.7)
    ax.text(5.7, 3.62, r"$\varepsilon \sim \mathcal{N}(0, I)$", ha="center", va="center", fontsize=10.5)
    arrow(ax, (5.7, 3.4), (5.7, 2.98))
    box(ax, 8.0, 1.9, "decoder\n" r"$D_\theta$", width=1.2, height=2.1)
    arrow(ax, (6.65, 2.6), (7.38, 2.6), SOURCE)
    arrow(ax, (8.62, 2.6), (9.38, 2.6), SOURCE)
    box(ax, 9.85, 2.6, "image\n" r"$\hat x$", SOURCE, width=0.9, height=0.9)

    box(ax, 5.7, 1.1, r"$z \sim p(z) = \mathcal{N}(0, I)$", MIXED, width=2.3, height=0.7)
    arrow(ax, (6.87, 1.1), (7.38, 1.1), MIXED)
    arrow(ax, (8.62, 1.1), (9.38, 1.1), MIXED)
    box(ax, 9.85, 1.1, "new\nimage", MIXED, width=0.9, height=0.7)

    ax.plot([5.7, 5.7], [1.45, 2.25], color=NEUTRAL, linewidth=1.4, linestyle=DASHED)
    ax.text(5.82, 1.85, r"$D_{\mathrm{KL}}(q \,\|\, p)$", ha="left", va="center", fontsize=10.5)
    ax.plot([9.85, 9.85, 0.5, 0.5], [3.1, 4.1, 4.1, 3.1], color=NEUTRAL, linewidth=1.4, linestyle=DASHED)
    ax.text(3.0, 4.32, r"squared error $\| \hat x - x \|^2$", ha="center", va="center", fontsize=10.5)
    ax.set(xlim=(-0.05, 10.55), ylim=(0.6, 4.5), aspect="equal")
    ax.axis("off")
    return fig


if __name__ == "__main__":
    sys.exit(finish(lambda: keep_figure(__file__, draw)))
