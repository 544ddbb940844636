"""The address of the repository, and the one that stands for it until the book has one.

With nothing but the standard library: the book's extension of Sphinx reads it as well.
"""

from __future__ import annotations

import re

PLACEHOLDER = "https://github.com/" + "cdlm-book/cdlm"      # in halves, so that setting an address leaves it alone
INSTALLED_FROM = re.compile(r"(?<=git\+)https://[^\s\"]+")


def is_placeholder(address: str) -> bool:
    """Whether this is no address of a repository yet."""
    return address.rstrip("/") == PLACEHOLDER


def without_address(line: str) -> str:
    """A line of an install cell as it is before an address is set: what a chapter computes does not depend on it."""
    return INSTALLED_FROM.sub(PLACEHOLDER, line)
