"""Rows of a table from records: with an interval and a word for each difference, and the paper's number beside them.

Generated from book/src/81_digits.md, book/src/84c_renders.md by `make sync`: edit there, not
here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from scipy.stats import t as student
from torch import Tensor

from cdlm.evaluation.selection import RULES
from cdlm.evaluation.statistics import t_interval
from cdlm.experiments.paper import LINEMOD, PAPER
from cdlm.experiments.plan import TABLE_TASKS, Variant, cells, in_color_domain, table_rows
from cdlm.experiments.results import cell_values, read_runs
from cdlm.experiments.sheet import Entry, Sheet
from cdlm.plotting import MIXED_COLOR, PALETTE, SOURCE_COLOR, TARGET_COLOR

__all__ = [
    "Accuracies",
    "BARE",
    "Comparison",
    "FEW",
    "MARGIN",
    "PATHS",
    "ROW_COLORS",
    "TASK_NAMES",
    "accuracy_by_seed",
    "accuracy_curves",
    "accuracy_dots",
    "cell_entry",
    "compare_rows",
    "compare_seeds",
    "comparison_sheet",
    "comparisons",
    "equal_within",
    "last_gain",
    "least_seconds",
    "linemod_accuracies",
    "linemod_runs",
    "mean_of",
    "miss",
    "paired",
    "path_accuracies",
    "points",
    "read_table",
    "row_accuracies",
    "row_variants",
    "rule_gains",
    "table_sheet",
    "told",
    "welch_interval",
    "winner",
    "word_for",
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


def mean_of(values: Mapping[int, float]) -> float:
    """Mean of numbers by seed; not a number without any."""
    return sum(values.values()) / len(values) if values else float("nan")


def told(values: Mapping[int, float]) -> str:
    """Mean, standard deviation and number of seeds as text: "0.953 ± 0.004 (3)"; "-" for no
    seeds, no deviation for one."""
    if not values:
        return "-"
    seen = torch.tensor(list(values.values()), dtype=torch.float64)
    spread = f" ± {seen.std():.3f}" if len(seen) > 1 else ""
    return f"{seen.mean():.3f}{spread} ({len(seen)})"


class Comparison(NamedTuple):
    """A word for a difference, the seeds of each side (one number for pairs), its mean and
    its interval; not a number where a side has fewer than two seeds."""

    word: str
    seeds: tuple[int, ...]
    mean: float
    low: float
    high: float

    @property
    def judged(self) -> bool:
        """Whether there is an interval."""
        return self.low == self.low

    def __str__(self) -> str:
        if not min(self.seeds):
            return self.word
        interval = f" [{self.low:+.3f}, {self.high:+.3f}]" if self.judged else ""
        return f"{self.mean:+.3f}{interval} {self.word}" + (
            f" ({' and '.join(map(str, self.seeds))} seeds)" if self.judged else "")


def word_for(low: float, high: float) -> str:
    """ "above" if an interval lies above 0, "below" if below, else "not distinguishable"."""
    return "above" if low > 0 else "below" if high < 0 else "not distinguishable"


def paired(ours: Mapping[int, float], other: Mapping[int, float] | float) -> Tensor:
    """Differences (n,) float64 of ``ours`` minus ``other``: over the seeds that both have, in
    their order, or from one number."""
    if isinstance(other, Mapping):
        return torch.tensor([ours[seed] - other[seed]
                             for seed in sorted(set(ours) & set(other))], dtype=torch.float64)
    return torch.tensor([ours[seed] - other for seed in sorted(ours)], dtype=torch.float64)


def compare_seeds(differences: Tensor, level: float = 0.95) -> Comparison:
    """What differences (n,) of pairs say, by Student's interval for their mean.

    With fewer than two differences there is no interval, and the word is "one seed" or "no
    runs".
    """
    nan, n = float("nan"), len(differences)
    if n < 2:
        return Comparison("one seed" if n else "no runs", (n,),
                          float(differences[0]) if n else nan, nan, nan)
    mean, low, high = t_interval(differences, level)
    return Comparison(word_for(low, high), (n,), mean, low, high)


def compare_rows(ours: Mapping[int, float], other: Mapping[int, float] | float,
                 level: float = 0.95) -> Comparison:
    """What two rows of accuracies by seed say, ``ours`` minus ``other``, by Welch's interval
    over all seeds of each; with one number, by Student's interval.

    Where a side has fewer than two seeds the word is "one seed" or "no runs".
    """
    if not isinstance(other, Mapping):
        return compare_seeds(paired(ours, other), level)
    seeds, nan = (len(ours), len(other)), float("nan")
    mean = mean_of(ours) - mean_of(other)
    if min(seeds) < 2:
        return Comparison("one seed" if min(seeds) else "no runs", seeds, mean, nan, nan)
    low, high = welch_interval(list(ours.values()), list(other.values()), level)
    return Comparison(word_for(low, high), seeds, mean, low, high)


def welch_interval(ours: Sequence[float], other: Sequence[float], level: float,
                   more: int = 0) -> tuple[float, float]:
    """Welch's interval for the difference of two means, of two numbers each at least; with
    ``more`` 1, for the difference of one more number of each."""
    rows = [torch.tensor(row, dtype=torch.float64) for row in (ours, other)]
    parts = [row.var().item() * (more + 1 / len(row)) for row in rows]
    free = sum(parts) ** 2 / max(sum(part**2 / (len(row) - 1)
                                     for part, row in zip(parts, rows)), 1e-300)
    middle = (rows[0].mean() - rows[1].mean()).item()
    reach = student.ppf((1 + level) / 2, max(free, 1.0)).item() * sum(parts) ** 0.5
    return middle - reach, middle + reach


MARGIN = 0.01  # of accuracy: what two rows may differ by and be called equal


def equal_within(ours: Mapping[int, float], other: Mapping[int, float],
                 margin: float = MARGIN) -> bool:
    """Whether two rows are shown to be equal to within a margin, by two one-sided tests of
    5 %; False where a side has fewer than two seeds."""
    found = compare_rows(ours, other, 0.9)
    return found.judged and -margin < found.low and found.high < margin


# 81_digits: Table 2, the digits

Accuracies = Mapping[str, Mapping[str, Mapping[int, float]]]  # by row, by task, by seed
FEW = 3  # a cell with fewer seeds is marked


def row_accuracies(table: str, results: Path, tasks: Sequence[str] = ()) -> Accuracies:
    """Target accuracies behind a table, by row, task and seed; ``tasks`` as in
    ``read_table``."""
    return {row: {task: accuracy_by_seed(runs) for task, runs in by_task.items()}
            for row, by_task in read_table(table, results, tasks).items()}


def winner(ours: Accuracies, task: str) -> str | None:
    """The row whose interval lies above each other row's on a task, but for target only, which
    is a bound; None where there is none."""
    rows = {row: by_task[task] for row, by_task in ours.items()
            if row != "target only" and by_task.get(task)}
    best = max(rows, key=lambda row: mean_of(rows[row]), default=None)
    others = [row for row in rows if row != best]
    return best if others and all(compare_rows(rows[best], rows[row]).word == "above"
                                  for row in others) else None


def cell_entry(values: Mapping[int, float], marked: bool = False) -> Entry:
    """Mean, spread and number of seeds of a cell, with a dagger where they are few."""
    few = " †" if 0 < len(values) < FEW else ""
    return Entry(told(values) + few, mean_of(values), marked)


def table_sheet(table: str, ours: Accuracies, tasks: Sequence[str]) -> Sheet:
    """A table as a sheet: our rows, then the paper's, a column for each task.

    A row is marked where its interval against each other one lies above 0.
    """
    best = {task: winner(ours, task) for task in tasks}
    rows = [[row, *(cell_entry(by_task[task], row == best[task]) if task in by_task
                    else Entry("") for task in tasks)] for row, by_task in ours.items()]
    for row, by_task in PAPER.get(table, {}).items():
        rows.append([f"{row}, in the paper",
                     *(Entry(format(by_task[task], ".3f"), by_task[task]) if task in by_task
                       else Entry("-") for task in tasks)])
    return Sheet(("", *(TASK_NAMES[task] for task in tasks)), rows)


def comparison_sheet(heads: Sequence[str], found: Mapping[tuple[str, ...], Comparison],
                     paper: Mapping[tuple[str, ...], float] | None = None) -> Sheet:
    """Comparisons as a sheet, with the words of their keys in the first columns and, where it
    is given, the paper's difference before ours."""
    def number(value: float) -> Entry:
        return Entry(f"{value:+.3f}" if value == value else "-", value)
    theirs = {} if paper is None else paper
    return Sheet((*heads, *(() if paper is None else ("the paper",)), "ours", "from", "to",
                  "verdict", "seeds"),
                 [[*key, *(() if paper is None else (number(theirs.get(key, float("nan"))),)),
                   number(judged.mean), number(judged.low), number(judged.high), judged.word,
                   " and ".join(map(str, judged.seeds))] for key, judged in found.items()])


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


# 81_digits: Differences

def comparisons(ours: Accuracies, row: str, task: str) -> dict[str, Comparison]:
    """What a CDLM row of Table 2 on a task is compared with: the paper's number, its like of
    our DANNs and the control."""
    mine, dann = ours[row][task], f"DANN{BARE}" if row == "CDLM faithful" else "DANN"
    return {"the paper": compare_rows(mine, PAPER["table2"]["CDLM"][task]),
            dann: compare_rows(mine, ours[dann][task]),
            "no decoder": compare_rows(mine, ours["no decoder"][task])}


# 81_digits: Where the paper's number is missed

def miss(values: Mapping[int, float], theirs: float) -> str:
    """In words, whether the mean of accuracies by seed misses or reaches a reported number, by
    how much, and how sure that is."""
    judged = compare_rows(values, theirs)
    if not values:
        return judged.word
    points = 100 * judged.mean
    way = (f"misses {theirs:.3f} by {-points:.1f} points"
           if points < 0 else f"reaches {theirs:.3f}, {points:+.1f} points")
    return f"{way} ({judged.word})"


# 81_digits: Is it the drawing?

def least_seconds(runs: Mapping[int, dict]) -> float:
    """Seconds of the fastest run, as its last snapshot tells: other work on the machine only
    adds to them; not a number without runs."""
    return min((run["snapshots"][-1]["seconds"] for run in runs.values()),
               default=float("nan"))


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
    """Steps (S,) float64 of the snapshots that all runs have, and target accuracies (runs, S)
    float64 at them, in the order of runs."""
    by_step = [{snapshot["step"]: snapshot["target_accuracy"] for snapshot in run["snapshots"]}
               for run in runs.values()]
    steps = sorted(set.intersection(*map(set, by_step))) if by_step else []
    return torch.tensor(steps, dtype=torch.float64), torch.tensor(
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


# 84c_renders: The column of LineMod

def linemod_runs(results: Path) -> dict[str, dict[int, dict]]:
    """Records of LineMod by row and seed."""
    return {row: {run["spec"]["seed"]: run for run in read_runs(variant, LINEMOD, results)}
            for row, variant in row_variants("table2").items()}


def linemod_accuracies(results: Path) -> dict[str, dict[str, dict[int, float]]]:
    """Target accuracies of LineMod by row, task (the one) and seed, as ``row_accuracies`` has
    them of other tables."""
    return {row: {LINEMOD: accuracy_by_seed(runs)}
            for row, runs in linemod_runs(results).items()}
