"""Claims about tables as comparisons of records, and what the records say of each.

Generated from book/src/85_verdicts.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from scipy.special import expit, logit

from cdlm.evaluation.statistics import t_interval
from cdlm.experiments.linemod import paper_linemod
from cdlm.experiments.results import paper_value
from cdlm.experiments.tables import (
    Comparison,
    compare_rows,
    linemod_accuracies,
    row_accuracies,
    welch_interval,
)

__all__ = [
    "Claim",
    "EXCLUDED",
    "Judged",
    "WORDS",
    "accuracy_interval",
    "findings",
    "prediction_interval",
    "pronounce",
    "single_interval",
]


# 85_verdicts: A claim, as a comparison

EXCLUDED = "the paper's size is excluded"
WORDS = {"above": "holds", "below": "opposite"}


def single_interval(ours: Mapping[int, float], other: Mapping[int, float],
                    level: float = 0.95) -> tuple[float, float]:
    """Where the difference of one more run of each row lies with probability ``level``, for
    rows of two seeds at least."""
    return welch_interval(list(ours.values()), list(other.values()), level, more=1)


def pronounce(ours: Mapping[int, float], other: Mapping[int, float],
          theirs: float | None = None) -> str:
    """The verdict on a claim that says "above", where the paper's own difference is
    ``theirs``, or it has none."""
    found = compare_rows(ours, other)
    if found.word != "not distinguishable" or theirs is None:
        return WORDS.get(found.word, found.word)
    low, high = single_interval(ours, other)
    return found.word if low <= theirs <= high else EXCLUDED


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


class Judged(NamedTuple):
    """What the records say of a claim on a task: the comparison, the paper's own difference,
    whether one more run of each row could differ as much, and the verdict."""

    found: Comparison
    paper: float | None
    inside: bool | None
    verdict: str


def findings(claim: Claim, results: Path) -> dict[str, Judged]:
    """What the records say of a claim, task by task, over all seeds of both rows."""
    of_linemod = claim.table == "linemod"
    ours = linemod_accuracies(results) if of_linemod else row_accuracies(claim.table, results)
    above, below, judged = ours[claim.above], ours[claim.below], {}
    for task in (task for task in above if task in below):
        reported = [paper_linemod(row) if of_linemod else paper_value(claim.table, row, task)
                    for row in (claim.above, claim.below)]
        theirs = None if None in reported else reported[0] - reported[1]
        found, inside = compare_rows(above[task], below[task]), None
        if theirs is not None and found.judged:
            low, high = single_interval(above[task], below[task])
            inside = low <= theirs <= high
        judged[task] = Judged(found, theirs, inside,
                              pronounce(above[task], below[task], theirs))
    return judged


# 85_verdicts: If you run it again

def prediction_interval(values: torch.Tensor, level: float = 0.95) -> tuple[float, float]:
    """Where one more value of the kind of ``values`` (n,), n at least 2, lies with probability
    ``level``, if they are normal."""
    mean, low, high = t_interval(values, level)
    reach = (high - low) / 2 * (len(values) + 1) ** 0.5
    return mean - reach, mean + reach


def accuracy_interval(values: torch.Tensor, level: float = 0.95) -> tuple[float, float]:
    """Where one more accuracy of the kind of ``values`` (n,) lies, by the prediction interval
    of their logits; ``values`` lie between 0 and 1, both excluded."""
    low, high = prediction_interval(torch.from_numpy(logit(values.double().numpy())), level)
    return float(expit(low)), float(expit(high))
