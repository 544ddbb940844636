"""LineMod, renders to photographs: its runs, and its column of Table 2.

Generated from book/src/84c_renders.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cdlm.experiments.paper import LINEMOD, PAPER_LINEMOD
from cdlm.experiments.plan import (
    COLOR,
    COLOR_SETTINGS,
    FAITHFUL,
    IMPROVED,
    Job,
    Variant,
    table_rows,
)
from cdlm.experiments.results import cell_values, read_runs
from cdlm.files import RunError
from cdlm.runs.spec import RunSpec

__all__ = [
    "LINEMOD_ASKED",
    "LINEMOD_BUDGETS",
    "linemod_job",
    "linemod_jobs",
    "linemod_rows",
    "paper_linemod",
]


# 84c_renders: The column of LineMod

LINEMOD_BUDGETS = {"smoke": {"steps": 20, "width": 4, "batch": 16},
                   "book": {"steps": 100, "width": 4, "batch": 32},
                   "full": {"steps": 400, "width": 8, "batch": 16},
                   "gpu": {"steps": 5000, "width": 64, "batch": 64}}
LINEMOD_ASKED = ("linemod", "fig6")     # what `cdlm reproduce` knows of it


def linemod_job(variant: Variant, seed: int, profile: str = "full") -> Job:
    """The run of a variant on LineMod, renders to photographs, by the rule for domains in
    color.

    Raises RunError for a profile there is not.
    """
    if profile not in LINEMOD_BUDGETS:
        raise RunError(f"profile {profile!r}; there are {', '.join(LINEMOD_BUDGETS)}")
    budget, recipe = LINEMOD_BUDGETS[profile], not variant.bare
    settings = ({"width": budget["width"]} | variant.settings
                | (COLOR_SETTINGS if recipe else {}))
    source, target = LINEMOD.split("-")
    spec = RunSpec(variant.method, target if variant.on_target else source, target, seed,
                   budget["steps"], budget["batch"], settings, "full", "float32",
                   COLOR if variant.augmented and recipe else {})
    return Job(f"{LINEMOD}_{variant.name}_s{seed}", spec)


def linemod_jobs(what: str, seeds: Iterable[int], profile: str = "full") -> list[Job]:
    """The runs behind the column of LineMod, or behind Figure 6, seed by seed.

    Raises RunError for what is neither.
    """
    if what not in LINEMOD_ASKED:
        raise RunError(f"{what!r} is not of LineMod; there are {', '.join(LINEMOD_ASKED)}")
    wanted = ((FAITHFUL, IMPROVED) if what == "fig6"
              else tuple(variant for *_, variant in table_rows()["table2"]))
    return [linemod_job(variant, seed, profile) for seed in seeds for variant in wanted]


def paper_linemod(row: str) -> float | None:
    """What the paper reports for a row of ours, however that was trained; None where it has no
    such row."""
    return next((value for name, value in PAPER_LINEMOD.items()
                 if row == name or row.startswith(f"{name} ")), None)


def linemod_rows(results: Path, selection: str = "last") -> list[dict]:
    """The column of LineMod, the paper's number beside ours: a list of flat objects as
    ``result_rows`` has them, None where there is no number yet."""
    rows = []
    for row, recipe, variant in table_rows()["table2"]:
        values = cell_values(runs := read_runs(variant, LINEMOD, results), selection)
        rows.append({
            "table": "linemod", "task": LINEMOD, "method": row, "recipe": recipe,
            "paper": paper_linemod(row), "mean": values.mean().item() if runs else None,
            "std": values.std().item() if len(runs) > 1 else None,
            "seeds": [run["spec"]["seed"] for run in runs], "selection": selection})
    return rows
