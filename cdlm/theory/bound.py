"""Eq. 23: the bound on the target error, and the distances between domains in it.

Generated from book/src/56_bound.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

from itertools import product

import sympy as sp
import torch
from torch import Tensor

from cdlm.model.discrepancy import js_distance, total_variation
from cdlm.theory.equations import equation

__all__ = [
    "API_23",
    "FIRST",
    "IDEAL",
    "LABEL",
    "apart_s",
    "apart_t",
    "best_domain_error",
    "bound_steps",
    "d_H",
    "d_HDH",
    "differ",
    "disagreement",
    "eq_23",
    "eq_23_printed",
    "error_s",
    "error_s_ideal",
    "error_t",
    "error_t_ideal",
    "h_divergence",
    "hdh_divergence",
    "ideal_joint_error",
    "joint_error_lower_bound",
    "masses",
    "target_error_bound",
    "triangle_slack",
]


# 56_bound: Errors, and disagreements

def disagreement(f: Tensor, g: Tensor, p: Tensor) -> Tensor:
    """Probability that two labelings differ, (...); against the true labels it is the error of
    a rule.

    ``f`` and ``g`` are (..., points), classes of any number; ``p`` is (..., points),
    probabilities that sum to 1. The three broadcast against each other.
    """
    return ((f != g) * p).sum(-1)


def _yes(hypotheses: Tensor, dtype: torch.dtype) -> Tensor:
    if not ((hypotheses == 0) | (hypotheses == 1)).all():
        raise ValueError("these divergences are defined for rules with two classes, 0 and 1")
    return hypotheses.to(dtype)


def h_divergence(hypotheses: Tensor, p_s: Tensor, p_t: Tensor) -> Tensor:
    """H-divergence ``2 max abs(p_s(h = 1) - p_t(h = 1))`` over a class of rules, (...) in
    0..2.

    ``hypotheses`` is (rules, points) of zeros and ones; ``p_s`` and ``p_t`` are (..., points)
    and sum to 1. Raises ValueError for other classes than 0 and 1.
    """
    return 2 * ((p_s - p_t) @ _yes(hypotheses, p_s.dtype).T).abs().amax(-1)


def hdh_divergence(hypotheses: Tensor, p_s: Tensor, p_t: Tensor) -> Tensor:
    """Symmetric-difference divergence ``2 max abs(p_s(h != h') - p_t(h != h'))`` over pairs of
    rules, (...) in 0..2.

    Arguments as for `h_divergence`.
    """
    yes, gap = _yes(hypotheses, p_s.dtype), (p_s - p_t).unsqueeze(-2)
    one, both = (yes * gap).sum(-1), (yes * gap) @ yes.T  # (..., rules), (..., rules, rules)
    return 2 * (one.unsqueeze(-1) + one.unsqueeze(-2) - 2 * both).abs().amax((-2, -1))


def ideal_joint_error(hypotheses: Tensor, y_s: Tensor, y_t: Tensor, p_s: Tensor,
                      p_t: Tensor) -> Tensor:
    """Least sum of source and target error within a class of rules, (...): lambda of Eq. 23.

    It needs target labels.

    ``hypotheses`` is (rules, points); labels ``y_s``, ``y_t`` and probabilities ``p_s``,
    ``p_t`` are (..., points).
    """
    return (_errors(hypotheses, y_s, p_s) + _errors(hypotheses, y_t, p_t)).amin(-1)


def _errors(hypotheses: Tensor, y: Tensor, p: Tensor) -> Tensor:
    """Errors of all rules, (..., rules)."""
    return disagreement(hypotheses, y.unsqueeze(-2), p.unsqueeze(-2))


# 56_bound: Equation 23: the bound on the target error

FIRST, IDEAL, LABEL = range(3)                  # the places of f, f* and y in a kind of point


def masses(domain: str) -> dict[tuple[int, ...], sp.Symbol]:
    """A symbol, not negative, for the mass of each of the eight kinds (f, f*, y) of points."""
    return {kind: sp.Symbol(f"q^{domain}_{{{kind[0]}{kind[1]}{kind[2]}}}", nonnegative=True)
            for kind in product((0, 1), repeat=3)}


def differ(one: int, other: int, mass: dict[tuple[int, ...], sp.Symbol]) -> sp.Expr:
    """Disagreement of two of f, f* and y: the mass of the kinds in which they differ."""
    return sp.Add(*(q for kind, q in mass.items() if kind[one] != kind[other]))


def triangle_slack(one: int, other: int, over: int,
                   mass: dict[tuple[int, ...], sp.Symbol]) -> sp.Expr:
    """By how much the way over a third labeling is longer than the straight one."""
    return differ(one, over, mass) + differ(over, other, mass) - differ(one, other, mass)


error_s, error_t = (sp.Symbol(r"\epsilon_{s}(f)", nonnegative=True),
                    sp.Symbol(r"\epsilon_{t}(f)", nonnegative=True))
error_s_ideal = sp.Symbol(r"\epsilon_{s}(f^{*})", nonnegative=True)
error_t_ideal = sp.Symbol(r"\epsilon_{t}(f^{*})", nonnegative=True)
apart_s = sp.Symbol(r"\epsilon_{s}(f\,f^{*})", nonnegative=True)
apart_t = sp.Symbol(r"\epsilon_{t}(f\,f^{*})", nonnegative=True)
d_H = sp.Symbol(r"d_{\mathcal{H}}", nonnegative=True)
d_HDH = sp.Symbol(r"d_{\mathcal{H}\Delta\mathcal{H}}", nonnegative=True)


def bound_steps() -> tuple[sp.Le, ...]:
    """The three inequalities whose sum is Eq. 23; the two triangles are proved on the kinds of
    points."""
    for slack in (triangle_slack(FIRST, LABEL, IDEAL, masses("t")),
                  triangle_slack(FIRST, IDEAL, LABEL, masses("s"))):
        if not slack.is_nonnegative:
            raise ArithmeticError(f"the triangle inequality fails by {slack}")
    return (sp.Le(error_t, apart_t + error_t_ideal), sp.Le(apart_t, apart_s + d_HDH / 2),
            sp.Le(apart_s, error_s + error_s_ideal))


API_23 = ("disagreement", "h_divergence", "hdh_divergence", "ideal_joint_error",
          "target_error_bound")


@equation(23, kind="cited theorem", verdict="faithful quotation",
          api=[f"cdlm.theory.bound.{name}" for name in API_23],
          note="Quoted is Theorem 2 of the paper on DANN, less its complexity terms. "
          "It has the H-divergence, and in that form it is false in general: "
          "it fails on four points, for rules that read one feature, and for linear rules; "
          "it holds for thresholds and for classes closed under exclusive or. Shown is the "
          "theorem of 2010, with one half of the symmetric-difference divergence.")
def eq_23() -> sp.Le:
    """Bound on the target error of a rule.

    The three steps are added, and what stands on both sides is canceled.
    """
    left, right = (sp.Add(*(getattr(step, side) for step in bound_steps()))
                   for side in ("lhs", "rhs"))
    return sp.Le(error_t, sp.expand(right - left + error_t))


def eq_23_printed() -> sp.Le:
    """Eq. 23 as the paper prints it, with the H-divergence and without a half."""
    return sp.Le(error_t, error_s + error_s_ideal + error_t_ideal + d_H)


def target_error_bound(hypotheses: Tensor, y_s: Tensor, y_t: Tensor, p_s: Tensor, p_t: Tensor,
                       divergence: str = "hdh") -> Tensor:
    """Right side of Eq. 23 for every rule of a class, (..., rules).

    ``hypotheses`` is (rules, points) of zeros and ones; labels ``y_s``, ``y_t`` and
    probabilities ``p_s``, ``p_t`` are (..., points). ``divergence`` is "hdh", the theorem, or
    "h", as the paper prints it, which may be too small. Raises ValueError for another one.
    """
    if divergence not in ("h", "hdh"):
        raise ValueError(f'divergence is {divergence!r}; it must be "hdh" or "h"')
    distance = (hdh_divergence(hypotheses, p_s, p_t) / 2
                if divergence == "hdh" else h_divergence(hypotheses, p_s, p_t))
    apart = distance + ideal_joint_error(hypotheses, y_s, y_t, p_s, p_t)
    return _errors(hypotheses, y_s, p_s) + apart.unsqueeze(-1)


# 56_bound: From the divergence to the A-distance

def best_domain_error(hypotheses: Tensor, p_s: Tensor, p_t: Tensor) -> Tensor:
    """Least error at guessing the domain, source and target equally frequent, of a class of
    rules and their opposites.

    ``hypotheses`` is (rules, points) of zeros and ones; ``p_s`` and ``p_t`` are (..., points).
    The result, (...), is between 0 and 1/2.
    """
    yes = _yes(hypotheses, p_s.dtype)
    error = (1 - p_s @ yes.T + p_t @ yes.T) / 2  # (..., rules), of "1 means source"
    return torch.minimum(error, 1 - error).amin(-1)


# 56_bound: What alignment cannot do: other shares of the classes

def joint_error_lower_bound(y_s: Tensor, y_t: Tensor, z_s: Tensor, z_t: Tensor,
                            distance: str = "tv") -> Tensor:
    """What the errors on source and target sum to at least, (...), for any classifier that
    reads z.

    ``y_s`` and ``y_t`` are (..., classes), the shares of the classes; ``z_s`` and ``z_t`` are
    (..., values), the distributions of the features. ``distance`` is "tv" or "js", the bound
    of Zhao et al. (2019). Where it says nothing the result is 0. Raises ValueError for another
    distance.
    """
    if distance not in ("tv", "js"):
        raise ValueError(f'distance is {distance!r}; it must be "tv" or "js"')
    if distance == "tv":
        return (total_variation(y_s, y_t) - total_variation(z_s, z_t)).clamp(min=0)
    return (js_distance(y_s, y_t) - js_distance(z_s, z_t)).clamp(min=0).square() / 2
