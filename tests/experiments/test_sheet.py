"""Tables in two forms: text that can be compared, and HTML that can be sorted."""

from __future__ import annotations

import pytest
from bs4 import BeautifulSoup

from cdlm.experiments.sheet import Entry, Sheet

SHEET = Sheet(
    ("method", "accuracy", "seeds"),
    [("plain & old", Entry("0.91 ± 0.02", 0.91), "3"), ("<new>", Entry("0.95", 0.95, True), "4"), ("none", Entry("-"), "0")],
    "Two methods",
)


@pytest.fixture(scope="module")
def page() -> BeautifulSoup:
    return BeautifulSoup(SHEET._repr_html_(), "html.parser")


def test_text_has_aligned_columns_and_a_star() -> None:
    assert repr(SHEET).splitlines() == [
        "Two methods",
        "method          accuracy  seeds",
        "plain & old  0.91 ± 0.02      3",
        "<new>              0.95*      4",
        "none                   -      0",
    ]


def test_html_has_the_cells_of_the_text(page: BeautifulSoup) -> None:
    rows = [[cell.text for cell in row.find_all(["th", "td"])] for row in page.select("tbody tr")]
    assert rows == [["plain & old", "0.91 ± 0.02", "3"], ["<new>", "0.95", "4"], ["none", "-", "0"]]
    assert [cell.text for cell in page.select("strong")] == ["0.95"] and page.caption.text == "Two methods"


def test_heads_are_buttons_that_say_how_the_table_is_sorted(page: BeautifulSoup) -> None:
    heads = page.select("thead th")
    said = [(head["scope"], head["aria-sort"], head.button.text) for head in heads]
    assert said == [("col", "none", name) for name in SHEET.heads]
    assert all(head.button["type"] == "button" and head.button["onclick"] == "sortSheet(this)" for head in heads)
    assert all(row.find(["th", "td"])["scope"] == "row" for row in page.select("tbody tr"))


def test_entries_are_sorted_by_their_number_and_those_without_one_know_it(page: BeautifulSoup) -> None:
    second = [row.find_all(["th", "td"])[1] for row in page.select("tbody tr")]
    assert [cell["data-value"] for cell in second] == ["0.91", "0.95", ""]
    assert not any(cell.has_attr("data-value") for cell in page.select("tbody td:last-child")), "text is sorted as text"
    assert 'data-value=""' in Sheet(("a", "b"), [("x", Entry("nan", float("nan")))])._repr_html_()


def test_nothing_is_loaded(page: BeautifulSoup) -> None:
    assert not page.select("[src], [href]") and "import" not in page.script.text


def test_a_first_column_without_a_name_has_a_button_that_has_one() -> None:
    page = BeautifulSoup(Sheet(("", "b"), [("x", "y")])._repr_html_(), "html.parser")
    assert page.button.text == "row"
