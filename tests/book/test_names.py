"""Who experiments meets no NameError: a chapter has every name that its code uses, in the branches, too, that it never takes."""

from __future__ import annotations

from pathlib import Path

import export
import pytest
from conftest import ROOT

import chapters

TEXTS = sorted((ROOT / "book" / "src").glob("*.md"))


def unknown_names(sources: list[str]) -> set[str]:
    """Names that the cells of one notebook, run in any order, use and none of them defines or imports."""
    return export.undefined_names("\n\n".join(chapters.without_magics(source) for source in sources), "cells")


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.stem)
def test_a_chapter_has_every_name_that_its_code_uses(text: Path) -> None:
    assert unknown_names([cell.source for cell in chapters.read_text(text).cells if cell.cell_type == "code"]) == set()


def test_a_name_that_only_a_branch_uses_is_missed() -> None:
    cells = [
        "from torch import nn",
        'def norm(kind: str) -> nn.Module:\n    return nn.Identity() if kind == "none" else DomainBatchNorm(16)',
    ]
    assert unknown_names(cells) == {"DomainBatchNorm"}
    assert unknown_names([*cells, "class DomainBatchNorm(nn.BatchNorm2d): ..."]) == set()
