"""Methods ranked over tasks: mean ranks, and from which difference on they are told apart.

Generated from book/src/82b_fairly.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scipy.stats import friedmanchisquare, rankdata, studentized_range

__all__ = ["Ranks", "critical_difference", "rank_rows"]


# 82b_fairly: Ranks over six tasks

class Ranks(NamedTuple):
    """Rows ranked over tasks."""

    mean: dict[str, float]      # mean rank by row; 1 is best
    p: float                    # of Friedman's test: how likely so unequal ranks are by chance
    critical: float             # difference of mean ranks from which on two rows differ


def critical_difference(rows: int, tasks: int, level: float = 0.95) -> float:
    """From which difference of mean ranks on two of ``rows`` rows differ over so many tasks,
    by Nemenyi's test."""
    quantile = float(studentized_range.ppf(level, rows, float("inf"))) / 2**0.5
    return quantile * (rows * (rows + 1) / (6 * tasks)) ** 0.5


def rank_rows(accuracies: Mapping[str, Mapping[str, float]], tasks: Sequence[str]) -> Ranks:
    """Ranks of rows, given accuracies by row and task, over tasks on which all have one.

    Raises ValueError for fewer than three rows or two tasks.
    """
    if len(accuracies) < 3 or len(tasks) < 2:
        raise ValueError(f"{len(accuracies)} rows on {len(tasks)} tasks cannot be ranked; "
                         "it takes three rows and two tasks")
    values = [[-by_task[task] for task in tasks] for by_task in accuracies.values()]
    ranks = rankdata(values, axis=0)                            # (rows, tasks)
    mean = dict(zip(accuracies, ranks.mean(1).tolist()))
    return Ranks(mean, float(friedmanchisquare(*values).pvalue),
                 critical_difference(len(accuracies), len(tasks)))
