"""Claims about tables as comparisons of records, and what the records say of each.

Generated from book/src/85_verdicts.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from cdlm.evaluation.statistics import t_interval
from cdlm.experiments.tables import (
    Comparison,
    accuracy_by_seed,
    compare_seeds,
    paired,
    read_table,
)

__all__ = ["Claim", "findings", "prediction_interval"]


# 85_verdicts: The claims

@dataclass(frozen=True)
class Claim:
    """A sentence of the paper as a comparison: in a table, row ``above`` has the higher
    accuracy than row ``below``."""

    words: str
    where: str
    table: str
    above: str
    below: str


def findings(claim: Claim, results: Path) -> dict[str, Comparison]:
    """What the records say of a claim, task by task, over the seeds that both rows have."""
    found = read_table(claim.table, results)
    above, below = found[claim.above], found[claim.below]
    return {task: compare_seeds(paired(accuracy_by_seed(above[task]),
                                       accuracy_by_seed(below[task])))
            for task in above if task in below}


# 85_verdicts: If you run it again

def prediction_interval(values: torch.Tensor, level: float = 0.95) -> tuple[float, float]:
    """Where one more value of the kind of ``values`` (n,), n at least 2, lies with probability
    ``level``, if they are normal."""
    mean, low, high = t_interval(values, level)
    reach = (high - low) / 2 * (len(values) + 1) ** 0.5
    return mean - reach, mean + reach
