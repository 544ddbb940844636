"""Copies figures out of the executed chapters that drew them: those that other pages show, or that travel alone.

    python figures/from_notebooks.py            write them
    python figures/from_notebooks.py --check    fail if one differs from its chapter's
"""

from __future__ import annotations

import json
import sys

from keeping import ROOT, finish, keep_svg, keep_up_to_date

FIGURES = ROOT / "figures"
WANTED = {
    "four_generations.svg": ("40_cdlm", "fig-four-generations"),
    "graphical_model.svg": ("30_transfer_latent_space", "fig-graphical"),
    "modulated_means.svg": ("51_moments", "fig-moments-geometry"),
}


def figure(chapter: str, name: str) -> str:
    """The SVG of the cell whose figure is called ``name``."""
    notebook = json.loads((ROOT / "book" / f"{chapter}.ipynb").read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["metadata"].get("mystnb", {}).get("figure", {}).get("name") == name:
            for output in cell["outputs"]:
                if "image/svg+xml" in output.get("data", {}):
                    return "".join(output["data"]["image/svg+xml"])
    raise SystemExit(f"error: {chapter} has drawn no figure {name}; `make execute CHAPTER={chapter}`")


def main() -> int:
    amiss = [keep_up_to_date(FIGURES / file, figure(*origin), keep_svg, f"what {origin[0]} draws; `make execute`")
             for file, origin in WANTED.items()]
    return int(any(amiss))


if __name__ == "__main__":
    sys.exit(finish(main))
