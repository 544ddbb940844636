"""Draws which of the paper's equations are derived from which, as the derivations call each other.

    python figures/equations.py
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from importlib import import_module

from architecture import MIXED, NEUTRAL, SOURCE, TARGET, arrow, box
from drawing import finish, keep_figure, plt
from matplotlib.lines import Line2D

from cdlm.theory.ledger import chapter_of, equations

COLORS = {"exact": MIXED, "exact under stated assumptions": SOURCE, "exact under what the paper has assumed": "#56B4E9",
          "approximation with error": "#E69F00", "faithful quotation": NEUTRAL, "misprint, corrected": TARGET}
NAMES = {"moments": "moments", "divergence": "divergence", "partial": "partial\nmodulation", "objective": "objective",
         "alignment": "alignment", "bound": "the bound"}


def uses(module: str, name: str, seen: set[tuple[str, str]] | None = None) -> set[int]:
    """Numbers of the derivations that a function of a theory module calls, itself or through functions that are none."""
    seen = set() if seen is None else seen
    seen.add((module, name))
    loaded, found = import_module(module), set()
    tree = ast.parse(inspect.getsource(inspect.unwrap(getattr(loaded, name))).strip())
    for node in ast.walk(tree):
        called = getattr(loaded, node.id, None) if isinstance(node, ast.Name) else None
        home = getattr(called, "__module__", "") or ""
        if not home.startswith("cdlm.theory") or not inspect.isfunction(inspect.unwrap(called)):
            continue
        if mark := re.fullmatch(r"eq_(\d+)", node.id):
            found |= {int(mark[1])} if node.id != name else set()
        elif (home, node.id) not in seen:
            found |= uses(home, node.id, seen)
    return found


def graph() -> dict[int, set[int]]:
    """For each equation, the equations that its derivation starts from."""
    return {number: uses(*eq.derivation.rsplit(".", 1)) for number, eq in equations().items()}


def reduced(edges: dict[int, set[int]]) -> dict[int, set[int]]:
    """The same without the steps that follow from others: of 1 to 3, 3 to 4 and 1 to 4, the last one is left out."""
    def before(number: int) -> set[int]:
        return edges[number].union(*(before(other) for other in edges[number]))
    return {number: used - set().union(*(before(other) for other in used)) for number, used in edges.items()}


def places(edges: dict[int, set[int]]) -> tuple[dict[int, tuple[float, float]], dict[str, float]]:
    """Center of each equation, a column for each step from the definitions, and the height of each chapter's band."""
    def depth(number: int) -> int:
        return max((1 + depth(other) for other in edges[number]), default=0)

    chapters: dict[str, dict[int, list[int]]] = {}
    for number, eq in equations().items():
        name = chapter_of(eq).partition("#")[0].partition("_")[2]
        chapters.setdefault(name, {}).setdefault(depth(number), []).append(number)
    found, bands, top = {}, {}, 0.0
    for name, columns in chapters.items():
        height = max(map(len, columns.values()))
        bands[name] = top - (height - 1) / 2
        for column, numbers in columns.items():
            for k, number in enumerate(numbers):
                found[number] = (2.4 * column, bands[name] + (len(numbers) - 1) / 2 - k)
        top -= height + 0.45
    return found, bands


def draw() -> plt.Figure:
    edges, known = reduced(graph()), equations()
    at, bands = places(edges)
    fig, ax = plt.subplots(figsize=(9.2, 8.6))
    for number, (x, y) in at.items():
        box(ax, x, y, f"Eq. {number}", COLORS[known[number].verdict], width=1.05, height=0.62)
    for number, (x, y) in at.items():
        for other in sorted(edges[number]):
            a, b = at[other]
            arrow(ax, (a + 0.55, b), (x - 0.56, y), NEUTRAL, bend=0.0 if abs(y - b) > 0.1 else -0.25 * (x - a > 2.5))
    for name, y in bands.items():
        ax.text(-1.0, y, NAMES.get(name, name.replace("_", "\n")), ha="right", va="center", fontsize=10.5)
    shown = [Line2D([], [], marker="s", ls="", ms=9, mfc=color + "18", mec=color, mew=1.6, label=verdict)
             for verdict, color in COLORS.items()]
    ax.legend(handles=shown, loc="center left", bbox_to_anchor=(4.2, bands["objective"]), bbox_transform=ax.transData,
              frameon=False, fontsize=10, title="verdict", alignment="left")
    ax.set(xlim=(-2.7, 10.3), ylim=(min(y for _, y in at.values()) - 0.6, 1.0), aspect="equal")
    ax.axis("off")
    return fig


if __name__ == "__main__":
    sys.exit(finish(lambda: keep_figure(__file__, draw)))
