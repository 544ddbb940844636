"""The chapter on related work: tables, map and bibliography speak of the same works."""

from __future__ import annotations

import re

import nbformat
import pytest
from conftest import ROOT

NAME = re.compile(r"^\| \*\*([^*]+)\*\*( ∘)? (.+?) \| (.+?) \| (.+?) \| (.+?) \|$", flags=re.M)


@pytest.fixture(scope="module")
def cells() -> list:
    return nbformat.read(ROOT / "book/57_related_work.ipynb", as_version=4).cells


@pytest.fixture(scope="module")
def rows(cells: list) -> list[tuple[str, ...]]:
    shown = [output["data"].get("text/markdown", "") for cell in cells for output in cell.get("outputs", []) if "data" in output]
    return NAME.findall("\n".join(shown))


@pytest.fixture(scope="module")
def drawn(cells: list) -> list[str]:
    """Texts of the map, which Matplotlib leaves as comments beside the paths of their letters."""
    svg = next(cell.outputs[0]["data"]["image/svg+xml"] for cell in cells
               if cell.metadata.get("mystnb", {}).get("figure", {}).get("name") == "fig-map")  # fmt: skip
    return re.findall(r"<!-- (.+?) -->", svg)


def test_there_are_enough_works_and_none_twice(rows: list) -> None:
    names = [name for name, *_ in rows]
    assert 25 <= len(names) == len(set(names))


def test_the_map_shows_each_work_once_for_each_of_its_places(rows: list, drawn: list[str]) -> None:
    for name, _, _, places, *_ in rows:
        assert drawn.count(name) == (0 if places == "–" else len(places.split("; "))), name
    assert drawn.count("CDLM") == 3


def test_every_work_is_in_the_bibliography(rows: list) -> None:
    keys = set(re.findall(r"^@\w+\{([^,\s]+)", (ROOT / "book/references.bib").read_text(encoding="utf-8"), flags=re.M))
    for name, _, cite, *_ in rows:
        assert re.fullmatch(r"\{cite:p\}`(\w+)`", cite)[1] in keys, name


def test_sentences_are_sentences(rows: list) -> None:
    for name, _, _, _, does, otherwise in rows:
        assert does.endswith(".") and otherwise.endswith("."), name
