"""What a derivation says of itself: number, kind, verdict, and the functions that compute it.

Generated from book/src/50_equations.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Equation", "KINDS", "VERDICTS", "equation"]


# 50_equations: A derivation is a function

KINDS = ("definition", "identity", "approximation", "inequality", "algorithm", "cited theorem")
VERDICTS = ("exact", "exact under stated assumptions",
            "exact under what the paper has assumed", "approximation with error",
            "faithful quotation", "misprint, corrected")


@dataclass(frozen=True)
class Equation:
    """One numbered equation of the paper, as a derivation states it."""

    number: int
    title: str                              # first sentence of the derivation's docstring
    kind: str                               # one of KINDS
    verdict: str                            # one of VERDICTS
    api: tuple[str, ...]                    # dotted names of the functions that compute it
    note: str  # the assumption, the error, or the correction; "" where there is none
    slip: str  # what the print has lost and nothing rests on, or ""
    derivation: str                         # dotted name of the derivation itself
    derive: Callable[[], object]            # gives the checked symbolic form, of SymPy


def equation(number: int, kind: str, verdict: str, api: str | tuple[str, ...], note: str = "",
             slip: str = "") -> Callable:
    """Mark a function without arguments as the derivation of the paper's equation ``number``.

    It returns a SymPy object, is run once and remembered. Raises ValueError for an unknown
    kind or verdict, and for a verdict other than "exact" without a note. A ``slip`` goes with
    any verdict.
    """
    if kind not in KINDS or verdict not in VERDICTS:
        raise ValueError(
            f"equation {number}: kind must be one of {KINDS}, verdict one of {VERDICTS}")
    if (verdict == "exact") == bool(note):
        raise ValueError(f"equation {number}: a note goes with every verdict but 'exact'")

    def mark(derive: Callable[[], object]) -> Callable[[], object]:
        title = derive.__doc__.split(".")[0].strip()
        names = (api,) if isinstance(api, str) else tuple(api)
        remembered = functools.cache(derive)
        remembered.equation = Equation(number, title, kind, verdict, names, note, slip,
                                       f"{derive.__module__}.{derive.__name__}", remembered)
        return remembered
    return mark
