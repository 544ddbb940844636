"""Rows of a table from records: paired by seed, with an interval, a word, and the paper's number beside them.

Generated from book/src/81_digits.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from torch import Tensor

from cdlm.evaluation.selection import RULES
from cdlm.evaluation.statistics import t_interval
from cdlm.experiments.paper import PAPER
from cdlm.experiments.plan import TABLE_TASKS, Variant, cells, in_color_domain, table_rows
from cdlm.experiments.results import cell_values, paper_value, read_runs
from cdlm.plotting import MIXED_COLOR, PALETTE, SOURCE_COLOR, TARGET_COLOR

__all__ = [
    "BARE",
    "Comparison",
    "PATHS",
    "ROW_COLORS",
    "TASK_NAMES",
    "accuracy_by_seed",
    "accuracy_curves",
    "accuracy_dots",
    "compare_seeds",
    "comparisons",
    "last_gain",
    "mean_of",
    "miss",
    "paired",
    "path_accuracies",
    "points",
    "read_table",
    "row_variants",
    "rule_gains",
    "table_lines",
    "told",
]


# 81_digits: The rows

TASK_NAMES = {"mnist-usps": "MNIST to USPS", "usps-mnist": "USPS to MNIST",
              "mnist-mnistm": "MNIST to MNIST-M", "mnistm-mnist": "MNIST-M to MNIST",
              "fashion-fashionm": "Fashion to Fashion-M",
              "fashionm-fashion": "Fashion-M to Fashion"}
BARE = " without augmentation"  # how names of rows end that are trained as the paper states it
ROW_COLORS = {"source only": SOURCE_COLOR, f"source only{BARE}": SOURCE_COLOR,
              "DANN": PALETTE[5], f"DANN{BARE}": PALETTE[5], "no decoder": PALETTE[4],
              "CDLM faithful": TARGET_COLOR, "CDLM improved": MIXED_COLOR,
              "target only": "0.4"}


def row_variants(table: str) -> dict[str, Variant]:
    """How each row of a table is trained.

    A row that stands there in several recipes has its recipe's name behind its own.

    Raises RunError for a table there is not.
    """
    cells(table)  # which knows the tables there are
    rows = table_rows()[table]
    often = Counter(row for row, _, _ in rows)
    return {f"{row} {recipe}" if often[row] > 1 else row: variant
            for row, recipe, variant in rows}


# 81_digits: From records to numbers

def read_table(table: str, results: Path,
               tasks: Sequence[str] = ()) -> dict[str, dict[str, dict[int, dict]]]:
    """Records behind a table: by row, then by task, then by seed.

    Where no run is on record yet, there is no seed.

    ``tasks`` are all of the table's if empty; a row has only those that it is run on. Raises
    RunError for a table there is not.
    """
    return {row: {task: {run["spec"]["seed"]: run for run in read_runs(variant, task, results)}
                  for task in tasks or TABLE_TASKS[table]
                  if not (variant.gray_only and in_color_domain(task))}
            for row, variant in row_variants(table).items()}


def accuracy_by_seed(runs: Mapping[int, dict], selection: str = "last",
                     path: str = "x_tilde_t") -> dict[int, float]:
    """Target accuracy by seed, at the snapshot that a rule takes, or at the end by another
    ``path``; see ``cell_values``."""
    return dict(zip(runs, cell_values(list(runs.values()), selection, path).tolist()))


def told(values: Mapping[int, float]) -> str:
    """Mean, standard deviation and number of seeds as text: "0.953 ± 0.004 (3)"; "-" for no
    seeds, no deviation for one."""
    if not values:
        return "-"
    seen = torch.tensor(list(values.values()), dtype=torch.float64)
    spread = f" ± {seen.std():.3f}" if len(seen) > 1 else ""
    return f"{seen.mean():.3f}{spread} ({len(seen)})"


class Comparison(NamedTuple):
    """A word for differences of paired seeds, their number, and their mean with its interval;
    not a number without two seeds."""

    word: str
    seeds: int
    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        if not self.seeds:
            return self.word
        interval = f" [{self.low:+.3f}, {self.high:+.3f}]" if self.seeds > 1 else ""
        return f"{self.mean:+.3f}{interval} {self.word}" + (f" ({self.seeds} seeds)"
                                                            if self.seeds > 1 else "")


def paired(ours: Mapping[int, float], other: Mapping[int, float] | float) -> Tensor:
    """Differences (n,) float64 of ``ours`` minus ``other``: over the seeds that both have, in
    their order, or from one number."""
    if isinstance(other, Mapping):
        return torch.tensor([ours[seed] - other[seed]
                             for seed in sorted(set(ours) & set(other))], dtype=torch.float64)
    return torch.tensor([ours[seed] - other for seed in sorted(ours)], dtype=torch.float64)


def compare_seeds(differences: Tensor, level: float = 0.95) -> Comparison:
    """"above" if the interval for the mean of differences (n,) lies above 0, "below" if below,
    else "not distinguishable".

    With fewer than two differences there is no interval, and the word is "one seed" or "no
    runs".
    """
    nan = float("nan")
    if len(differences) < 2:
        return (Comparison("one seed", 1, float(differences[0]), nan, nan)
                if len(differences) else Comparison("no runs", 0, nan, nan, nan))
    mean, low, high = t_interval(differences, level)
    return Comparison("above" if low > 0 else "below" if high < 0 else "not distinguishable",
                      len(differences), mean, low, high)


# 81_digits: Table 2, the digits

def table_lines(table: str, ours: Mapping[str, Mapping[str, Mapping[int, float]]],
                task: str) -> list[str]:
    """One task of a table as lines of text, a row each: the paper's number, then ours,
    ``ours[row][task]`` by seed."""
    lines = [f"{TASK_NAMES[task]:29} {'paper':>6}   ours"]
    for row, by_task in ours.items():
        if task in by_task:
            paper = paper_value(table, row, task)
            lines.append(f"  {row:27} {'-' if paper is None else format(paper, '.3f'):>6}   "
                         f"{told(by_task[task])}")
    return lines


def accuracy_dots(ax: Axes, values: Mapping[str, Mapping[int, float]],
                  paper: Mapping[str, float | None], title: str = "") -> Axes:
    """Draw a line for each row: seeds as filled dots, their mean as a bar, the paper's number
    as an open diamond.

    ``values`` has accuracies by row and seed, ``paper`` the paper's number by row, or None
    where it has none.
    """
    for place, (row, by_seed) in enumerate(values.items()):
        color, seen = ROW_COLORS.get(row, "0.4"), list(by_seed.values())
        ax.plot(seen, [place] * len(seen), "o", color=color, markersize=5, alpha=0.8)
        if seen:
            ax.plot(sum(seen) / len(seen), place, "|", color=color, markersize=15,
                    markeredgewidth=2)
        if paper.get(row) is not None:
            ax.plot(paper[row], place, "D", color="black", markerfacecolor="none",
                    markersize=6)
    ax.set(yticks=range(len(values)), yticklabels=list(values), ylim=(len(values) - 0.5, -0.5),
           title=title)
    return ax


# 81_digits: Differences, seed by seed

def comparisons(ours: Mapping[str, Mapping[str, Mapping[int, float]]], row: str,
                task: str) -> dict[str, Tensor]:
    """Differences (n,) of a CDLM row of Table 2 on a task: to the paper's number, to its like
    of our DANNs and to the control.

    ``ours[row][task]`` are accuracies by seed.
    """
    mine, dann = ours[row][task], f"DANN{BARE}" if row == "CDLM faithful" else "DANN"
    return {"the paper": paired(mine, PAPER["table2"]["CDLM"][task]),
            dann: paired(mine, ours[dann][task]),
            "no decoder": paired(mine, ours["no decoder"][task])}


# 81_digits: Where the paper's number is missed

def mean_of(values: Mapping[int, float]) -> float:
    """Mean of numbers by seed; not a number without any."""
    return sum(values.values()) / len(values) if values else float("nan")


def miss(values: Mapping[int, float], theirs: float) -> str:
    """In words, whether the mean of accuracies by seed misses or reaches a reported number, by
    how much, and how sure that is."""
    judged = compare_seeds(paired(values, theirs))
    if not judged.seeds:
        return judged.word
    points = 100 * judged.mean
    way = (f"misses {theirs:.3f} by {-points:.1f} points"
           if points < 0 else f"reaches {theirs:.3f}, {points:+.1f} points")
    return f"{way} ({judged.word})"


# 81_digits: Which snapshot

def rule_gains(runs: Mapping[int, dict]) -> dict[str, Tensor]:
    """By how much (runs,) the snapshot that each rule takes is above the last one in target
    accuracy, and the oracle's."""
    last = accuracy_by_seed(runs)
    return {rule: paired(accuracy_by_seed(runs, rule), last) for rule in (*RULES, "oracle")}


def points(values: Tensor) -> str:
    """The mean of differences (n,) in points with its sign; "-" for none."""
    return f"{100 * values.mean():+.2f}" if len(values) else "-"


# 81_digits: The course of training

def accuracy_curves(runs: Mapping[int, dict]) -> tuple[Tensor, Tensor]:
    """Steps (S,) of the snapshots that all runs have, and target accuracies (runs, S) float64
    at them, in the order of runs."""
    by_step = [{snapshot["step"]: snapshot["target_accuracy"] for snapshot in run["snapshots"]}
               for run in runs.values()]
    steps = sorted(set.intersection(*map(set, by_step))) if by_step else []
    return torch.tensor(steps), torch.tensor(
        [[seen[step] for step in steps] for seen in by_step], dtype=torch.float64)


def last_gain(runs: Mapping[int, dict], snapshots: int = 2) -> Tensor:
    """What each run (runs,) has gained in target accuracy over its last ``snapshots``
    snapshots."""
    seen = accuracy_curves(runs)[1]
    return (seen[:, -1] - seen[:, -1 - snapshots]
            if seen.numel() else torch.zeros(0, dtype=torch.float64))


# 81_digits: Which path reads best

PATHS = ("x_t", "x_hat_ts", "x_tilde_t", "h")


def path_accuracies(runs: Mapping[int, dict]) -> dict[str, dict[int, float]]:
    """Target accuracy by path and seed, all from one reading of each trained CDLM."""
    return {path: {seed: run["paths"][path] for seed, run in runs.items()} for path in PATHS}
