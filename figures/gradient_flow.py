"""Draws which loss reaches which parameters of CDLM, from the table that all objectives are made from.

    python figures/gradient_flow.py
"""

from __future__ import annotations

import sys

from architecture import MIXED, NEUTRAL, SOURCE, TARGET, arrow, box
from drawing import finish, keep_figure, plt

from cdlm.methods.cdlm import CDLMConfig, reach_table
from cdlm.theory.updates import offered_edges

DOTTED = (0, (1, 2))
COLORS = {"adv": TARGET, "kl": SOURCE, "rec": MIXED, "consistency": "#CC79A7", "task": NEUTRAL}
LOSSES = {"kl": r"$L_{KL}$", "adv": r"$L_{adv}$", "rec": r"$L_{Rec}$", "task": r"$L_{task}$", "consistency": r"$L_c$"}
PARTS = {"xi": "discriminator\n" r"$\Xi$", "phi": "encoder\n" r"$\phi$", "theta_T": "classifier\n" r"$\theta_T$",
         "theta": "decoder\n" r"$\theta$"}
PLACES = {"kl": 1.6, "adv": 0.0, "rec": 4.8, "task": 7.0, "consistency": 9.2}
ROOMS = {"xi": 0.0, "phi": 3.0, "theta_T": 9.2, "theta": 6.4}
WEIGHTS = {("adv", "phi"): r"$-\lambda(p)$", ("kl", "phi"): r"$\lambda_1$", ("rec", "phi"): r"$\lambda_2$"}     # others are 1


def draw() -> plt.Figure:
    fig, ax = plt.subplots(figsize=(9.2, 3.9))
    for name, text in LOSSES.items():
        box(ax, PLACES[name], 3.2, text, COLORS[name], width=1.1)
    for name, text in PARTS.items():
        box(ax, ROOMS[name], 0.3, text, width=1.8, height=0.9)
    table = reach_table(CDLMConfig())
    for loss, part in offered_edges():
        start = (PLACES[loss] + 0.04 * (ROOMS[part] - PLACES[loss]), 2.86)
        end = (ROOMS[part] + 0.16 * (PLACES[loss] - ROOMS[part]), 0.8)
        arrow(ax, start, end, COLORS[loss], style="-" if part in table[loss] else DOTTED)
        if (loss, part) in WEIGHTS:
            place = [s + 0.3 * (e - s) for s, e in zip(start, end)]
            ax.text(*place, WEIGHTS[loss, part], ha="center", va="center", fontsize=10.5, color=COLORS[loss],
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.2})
    ax.set(xlim=(-1.1, 10.3), ylim=(-0.3, 3.7), aspect="equal")
    ax.axis("off")
    return fig


if __name__ == "__main__":
    sys.exit(finish(lambda: keep_figure(__file__, draw)))
