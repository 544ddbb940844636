"""How much of a computation to run: seconds for tests, a minute for the book, hours for the paper's sizes.

Generated from book/src/01_toolbox.md by `make sync`: edit there, not here.
"""

from __future__ import annotations

import os

__all__ = ["PROFILES", "pick", "profile"]


# 01_toolbox: One switch for how much to run

PROFILES = ("smoke", "book", "full")


def profile() -> str:
    """Name of the active profile: the environment variable ``CDLM_PROFILE``, or "book".

    Raises ValueError for a name that is not one of ``PROFILES``.
    """
    name = os.environ.get("CDLM_PROFILE", "book")
    if name not in PROFILES:
        raise ValueError(f"CDLM_PROFILE is {name!r}; it must be one of {', '.join(PROFILES)}")
    return name


def pick(smoke: int, book: int, full: int | None = None) -> int:
    """The value for the active profile; ``full`` falls back to ``book``."""
    return {"smoke": smoke, "book": book, "full": book if full is None else full}[profile()]
