"""One style for all figures, and the few kinds of picture the book draws again and again.

Generated from book/src/01_toolbox.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import torch
from matplotlib.axes import Axes
from torch import Tensor
from torchvision.utils import make_grid

__all__ = [
    "MIXED_COLOR",
    "PALETTE",
    "SOURCE_COLOR",
    "TARGET_COLOR",
    "curves",
    "image_rows",
    "to_display",
    "use_style",
]


# 01_toolbox: One style

SOURCE_COLOR, TARGET_COLOR, MIXED_COLOR = "#0072B2", "#D55E00", "#009E73"
PALETTE = (SOURCE_COLOR, TARGET_COLOR, MIXED_COLOR, "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def use_style() -> None:
    """The style of the book: vector output that is the same, byte for byte, whenever the data
    are."""
    sns.set_theme(style="ticks", palette=PALETTE, rc={
        "figure.figsize": (6.4, 3.2), "figure.dpi": 110, "figure.facecolor": "white",
        "svg.hashsalt": "cdlm", "axes.spines.top": False, "axes.spines.right": False,
        "axes.titlesize": "medium", "font.size": 10, "legend.frameon": False,
        "image.cmap": "gray", "image.interpolation": "nearest"})
    if "inline" in plt.get_backend():
        from matplotlib_inline.backend_inline import set_matplotlib_formats
        set_matplotlib_formats("svg", metadata={"Date": None}, bbox_inches="tight")


# 01_toolbox: Images in rows

def to_display(images: Tensor) -> Tensor:
    """Images (N, C, H, W) in [-1, 1], or bytes in 0..255, as (N, 3, H, W) floats in [0, 1] on
    the CPU."""
    images = images.detach().cpu()
    images = images.float() / 255 if images.dtype == torch.uint8 else (images.float() + 1) / 2
    return images.clamp(0, 1).expand(-1, 3, -1, -1)


def image_rows(rows: Mapping[str, Tensor], ax: Axes | None = None, title: str = "",
               width: float = 6.4) -> Axes:
    """Draw one row of images for each entry, with its name at the left.

    Each value is (N, C, H, W), all with the same N, H and W, in [-1, 1] or as bytes; C is 1 or
    3.
    """
    shown = [to_display(images) for images in rows.values()]
    count, _, height, _ = shown[0].shape
    grid = make_grid(torch.cat(shown), nrow=count, padding=1, pad_value=1.0)  # (3, H', W')
    if ax is None:
        _, ax = plt.subplots(figsize=(width, width * grid.shape[1] / grid.shape[2]))
    ax.imshow(grid.permute(1, 2, 0).numpy())
    ax.set_yticks([(height + 1) * (row + 0.5) for row in range(len(shown))], list(rows))
    ax.set(xticks=[], title=title)
    ax.tick_params(length=0)
    sns.despine(ax=ax, left=True, bottom=True)
    return ax


# 01_toolbox: Curves with their spread

def curves(series: Mapping[str, Tensor | Sequence], x: Sequence, ax: Axes | None = None,
           colors: Sequence = PALETTE) -> Axes:
    """Draw one line for each entry, the mean over seeds, with a band of one standard
    deviation.

    Each value is (seeds, points) or (points,); ``x`` has the points' positions.
    """
    ax = ax or plt.gca()
    for (name, values), color in zip(series.items(), colors):
        values = np.atleast_2d(np.asarray(values, dtype=float))       # (seeds, points)
        mean, spread = values.mean(0), values.std(0)
        ax.plot(x, mean, color=color, label=name)
        if len(values) > 1:
            ax.fill_between(x, mean - spread, mean + spread, color=color, alpha=0.2,
                            linewidth=0)
    ax.legend()
    return ax
