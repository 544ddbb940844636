"""Statistics of a few numbers: intervals, regressions, tests of a shape.

Generated from book/src/51_moments.md, book/src/76_evaluation.md by `make sync`: edit there,
not here.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from scipy.stats import t as student
from torch import Tensor

__all__ = ["Interval", "QUANTILE_LEVELS", "jarque_bera", "regress", "rounded", "t_interval"]


# 51_moments: On a trained model

def jarque_bera(x: Tensor) -> Tensor:
    """Jarque-Bera statistic of normality for each column of ``x`` (N, columns), (columns,).

    It is 0 for skewness 0 and kurtosis 3. For normal columns it is nearly chi-squared with two
    degrees of freedom, so that it exceeds a value v with probability exp(-v / 2). Not a number
    for a constant column.
    """
    standard = (x - x.mean(0)) / x.std(0, correction=0)
    return len(x) / 6 * ((standard**3).mean(0) ** 2 + ((standard**4).mean(0) - 3) ** 2 / 4)


def regress(y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Slope of the regression of each column of ``y`` on the same column of ``x``, and their
    correlation.

    Both are (N, columns); returns (columns,) each. Not a number where a column is constant.
    """
    dx, dy = x - x.mean(0), y - y.mean(0)
    slope = (dx * dy).mean(0) / (dx**2).mean(0)
    return slope, slope * dx.square().mean(0).sqrt() / dy.square().mean(0).sqrt()


QUANTILE_LEVELS = tuple(level / 40 for level in range(1, 40))


def rounded(value: Tensor | dict, digits: int = 6) -> float | list | dict:
    """A tensor as a number or nested lists, or a dictionary of such, to ``digits`` significant
    digits."""
    if isinstance(value, dict):
        return {name: rounded(part, digits) for name, part in value.items()}
    if value.dim():
        return [rounded(part, digits) for part in value]
    return float(f"{value.item():.{digits}g}")


# 76_evaluation: How many seeds

class Interval(NamedTuple):
    """A mean with its confidence interval."""

    mean: float
    low: float
    high: float


def t_interval(values: Tensor, level: float = 0.95) -> Interval:
    """Student's interval for the mean of independent ``values`` (n,), n at least 2; for pairs,
    hand over differences."""
    if values.dim() != 1 or len(values) < 2:
        raise ValueError(
            f"values have the shape {tuple(values.shape)}; two numbers at least are needed")
    mean, deviation = values.double().mean().item(), values.double().std().item()
    reach = student.ppf((1 + level) / 2, len(values) - 1).item() * deviation / math.sqrt(
        len(values))
    return Interval(mean, mean - reach, mean + reach)
