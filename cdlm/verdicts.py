"""Claims about tables as comparisons of records, and what the records say of each.

Generated from book/src/84_verdicts.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from cdlm.evaluation import t_interval
from cdlm.plan import Variant, cells
from cdlm.results import cell_values, read_runs

__all__ = ["Claim", "Finding", "findings", "paired_differences", "prediction_interval", "pronounce", "variants"]


# 84_verdicts: A claim, as a comparison

class Finding(NamedTuple):
    """What the records say of one claim on one task: the mean difference with its 95 % interval, and a word for it."""

    task: str
    mean: float
    low: float
    high: float
    seeds: int
    verdict: str


def pronounce(task: str, differences: torch.Tensor) -> Finding:
    """The finding for differences (seeds,) that a claim says are positive.

    "holds" if their interval lies above 0, "opposite" if below, "not distinguishable" if it contains 0, and "not run" for
    less than two seeds, of which there is no interval.
    """
    if len(differences) < 2:
        return Finding(task, float("nan"), float("nan"), float("nan"), len(differences), "not run")
    mean, low, high = t_interval(differences)
    verdict = "holds" if low > 0 else "opposite" if high < 0 else "not distinguishable"
    return Finding(task, mean, low, high, len(differences), verdict)


# 84_verdicts: The claims

@dataclass(frozen=True)
class Claim:
    """A sentence of the paper as a comparison: in a table, row ``above`` has the higher accuracy than row ``below``.

    ``recipe`` is of the row above where a table has it in several.
    """

    words: str
    where: str
    table: str
    above: str
    below: str
    recipe: str = "improved"


def variants(table: str, row: str, recipe: str) -> dict[str, Variant]:
    """How a row of a table was trained, by task; ``recipe`` decides where there are several rows of that name."""
    found = [cell for cell in cells(table) if cell.row == row]
    kept = [cell for cell in found if cell.recipe == recipe] or found
    return {cell.task: cell.variant for cell in kept}


def paired_differences(above: Variant, below: Variant, task: str, results: Path) -> torch.Tensor:
    """Differences of target accuracy (seeds,) between two ways of training, over the seeds that both have been run with."""
    runs = [{run["spec"]["seed"]: run for run in read_runs(variant, task, results)} for variant in (above, below)]
    seeds = sorted(set(runs[0]) & set(runs[1]))
    first, second = (cell_values([side[seed] for seed in seeds]) for side in runs)
    return first - second


def findings(claim: Claim, results: Path) -> list[Finding]:
    """What the records say of a claim, task by task."""
    above, below = (variants(claim.table, row, claim.recipe) for row in (claim.above, claim.below))
    return [pronounce(task, paired_differences(above[task], below[task], task, results)) for task in above if task in below]


# 84_verdicts: If you run it again

def prediction_interval(values: torch.Tensor, level: float = 0.95) -> tuple[float, float]:
    """Where one more value of the kind of ``values`` (n,), n at least 2, lies with probability ``level``, if they are normal."""
    mean, low, high = t_interval(values, level)
    reach = (high - low) / 2 * (len(values) + 1) ** 0.5
    return mean - reach, mean + reach
