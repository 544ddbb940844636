"""Draws the book's logo and favicon: two bell curves, one per domain, and the code modulated between them.

    python figures/logo.py            write them
    python figures/logo.py --check    fail if one is not what is drawn here
"""

from __future__ import annotations

import sys
from math import exp

from keeping import ROOT, finish, keep_up_to_date, write_atomically

BOOK_STATIC = ROOT / "book" / "_static"
SOURCE, TARGET, MIXED = "#0072B2", "#D55E00", "#009E73"


def bell(center: float, height: float, width: float, base: float = 92.0) -> str:
    """SVG path of a Gaussian bump standing on ``base``."""
    points = [(x, base - height * exp(-0.5 * ((x - center) / width) ** 2)) for x in range(0, 161, 4)]
    return "M" + " L".join(f"{x},{y:.1f}" for x, y in points)


def curves() -> str:
    return "".join(
        f'<path d="{bell(center, height, width)} L160,92 L0,92 Z" fill="{color}" fill-opacity="0.22" stroke="{color}"'
        f' stroke-width="4" stroke-linejoin="round"/>'
        for center, height, width, color in ((48, 58, 17, SOURCE), (112, 58, 17, TARGET), (80, 78, 11, MIXED))
    )


def logo() -> str:
    word = (
        '<text x="176" y="70" font-family="Helvetica, Arial, sans-serif" font-size="52" font-weight="700" fill="#808890">'
        "CDLM</text>"
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 330 100" role="img"'
        f' aria-label="CDLM">{curves()}{word}</svg>\n'
    )


def favicon() -> str:
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-4 4 168 96">{curves()}</svg>\n'


def main() -> int:
    drawn = {"logo.svg": logo(), "favicon.svg": favicon()}
    amiss = [keep_up_to_date(BOOK_STATIC / name, content, write_atomically, "what figures/logo.py draws; run that")
             for name, content in drawn.items()]
    return int(any(amiss))


if __name__ == "__main__":
    sys.exit(finish(main))
