"""Slides, the book on paper and the figures: what is taken from a page. What a browser makes of it is tested beside."""

from __future__ import annotations

from pathlib import Path

import figure_pack
import paper
import pytest
import slides
import webpages
from bs4 import BeautifulSoup
from conftest import ROOT
from disk import ChapterError

CODE = '<div class="cell {tags} docutils container"><div class="cell_input"><div class="highlight-python"><div class="highlight">' \
       "<pre>{code}</pre></div></div></div>{output}</div>"
FOLDED = '<div class="cell tag_hide-input"><details class="admonition hide"><summary>Show</summary><div class="cell_input">' \
         '<pre>plumbing()</pre></div></details><div class="cell_output"><figure id="fig-a">' \
         '<img alt="A line that rises." src="a.svg"/>' \
         '<figcaption><p><span class="caption-number">Fig. 1 </span>A line.</p></figcaption></figure></div></div>'
PAGE = f"""<html><body><article class="bd-article"><section class="tex2jax_ignore" id="top"><h1>1. Lines<a class="headerlink"
href="#top">#</a></h1><p>Why a line?</p><ul><li><p>draw a line</p></li></ul>{FOLDED}
<section id="slope"><h2><span class="section-number">1.1. </span>The slope</h2><p>It is steep, see
<a href="other.html#there">there</a> and <a href="genindex.html">the index</a>.</p>
<p>A second paragraph.</p><div class="math">\\[a\\]</div><div class="math" id="eq-b"><span class="eqno">(1.1)</span>\\[b\\]</div>
{CODE.format(tags="", code="from here import there", output="")}{CODE.format(tags="", code="slope(1)", output='<div class='
'"cell_output"><div class="output"><pre>rises</pre></div></div>')}{CODE.format(tags="", code="second(2)", output="")}
{CODE.format(tags="tag_slide", code="asked(3)" + chr(10) * 30 + "end", output="")}
{CODE.format(tags="tag_no-slide", code="unwanted(4)", output="")}
<section id="below"><h3>1.1.1. Below</h3><p>Words.</p>{CODE.format(tags="", code="beside(5)", output="")}</section></section>
<section id="sum"><h2><span class="section-number">1.2. </span>Summary</h2><ul><li><p>Lines rise.</p></li></ul></section>
<section id="check"><h2><span class="section-number">1.3. </span>Check yourself</h2>
<fieldset class="quiz"><legend><span>1. Recall.</span> Does it rise?</legend>
<label class="quiz-answer"><input name="q" type="radio"/> No.</label><label class="quiz-answer"><input data-right=""
name="q" type="radio"/> Yes.</label><p class="quiz-said"></p>
<details class="quiz-why"><summary>Answer</summary><p><strong>Yes.</strong> As it was drawn so.</p></details></fieldset></section>
<section id="ex"><h2><span class="section-number">1.4. </span>Exercises</h2>
<div class="exercise admonition" id="ex-1"><p class="admonition-title">Exercise 1</p>
<section id="exercise-content"><p>Draw.</p></section></div><div class="solution dropdown admonition" id="sol-1"><p
class="admonition-title">Solution to <a href="#ex-1">Exercise 1</a></p><section id="solution-content"><p>Drawn.</p></section></div>
</section></section></article></body></html>"""
OTHER = """<html><body><article><section id="top"><h1>2. Curves</h1><p id="there">Bent, unlike <a href="10_lines.html">lines</a>,
<a href="10_lines.html#eq-b">(1.1)</a> and <a href="https://example.org/x.html#y">others</a>.</p></section></article></body></html>"""


@pytest.fixture
def html(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A built book of two pages."""
    folder = tmp_path / "html"
    folder.mkdir()
    (folder / "10_lines.html").write_text(PAGE, encoding="utf-8")
    (folder / "other.html").write_text(OTHER, encoding="utf-8")
    (folder / "a.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20"/>', encoding="utf-8")
    toc = {"root": "10_lines", "parts": [{"caption": "Bent", "chapters": [{"file": "other"}]}]}
    monkeypatch.setattr(webpages.yaml, "safe_load", lambda text: toc if "root:" in text else {"title": "T", "author": "A",
                        "sphinx": {"config": {"mathjax3_config": {}}}})
    return folder


# What is on slides


@pytest.fixture
def shown(html: Path) -> list[BeautifulSoup]:
    return [BeautifulSoup(text, "html.parser") for text in slides.slides(webpages.read_page(html, "10_lines"))]


def with_word(shown: list[BeautifulSoup], word: str) -> list[BeautifulSoup]:
    return [slide for slide in shown if word in slide.select_one(".body").get_text()]


def test_a_section_gives_its_first_paragraph_and_its_numbered_formulas(shown: list[BeautifulSoup]) -> None:
    slide, = with_word(shown, "It is steep")
    assert slide.h2.get_text() == "1.1. The slope"
    assert [math.get_text(strip=True) for math in slide.select(".math")] == ["(1.1)\\[b\\]"]
    assert "A second paragraph" in slide.aside.get_text() and not with_word(shown, "A second paragraph")
    assert not slide.select("a") and "there" in slide.get_text()


def test_one_short_cell_is_shown_and_tags_decide_otherwise(shown: list[BeautifulSoup]) -> None:
    text = " ".join(slide.get_text() for slide in shown)
    assert len(with_word(shown, "slope(1)")) == len(with_word(shown, "asked(3)")) == 1
    for absent in ("from here", "second(2)", "unwanted(4)", "plumbing"):
        assert absent not in text
    assert "rises" in with_word(shown, "slope(1)")[0].get_text()
    assert with_word(shown, "beside(5)") == with_word(shown, "Words."), "below the paragraph where there is no formula"


def test_figures_summary_and_questions_have_slides_and_exercises_have_none(shown: list[BeautifulSoup]) -> None:
    figure, = (slide for slide in shown if slide.select_one("figure"))
    assert figure.img["alt"] == "A line that rises." and "Fig. 1" in figure.get_text()
    assert with_word(shown, "Lines rise.") and with_word(shown, "draw a line")
    question, = with_word(shown, "Does it rise?")
    assert "Yes. As it was drawn" in " ".join(question.select_one(".fragment").get_text().split())
    assert [item.get_text(strip=True) for item in question.select("ol li")] == ["No.", "Yes."] and not question.select("input")
    assert not with_word(shown, "Drawn.") and not with_word(shown, "Draw.")


def test_slides_hold_no_sections_and_no_names_of_their_own(shown: list[BeautifulSoup]) -> None:
    assert all(len(slide.select("section")) == 1 and not slide.select("section [id]") for slide in shown)


# What is on paper


def on_paper(html: Path) -> BeautifulSoup:
    pages = [webpages.read_page(html, "10_lines"), webpages.read_page(html, "other", "Bent")]
    front, *others = paper.pieces(pages, html)
    whole = "".join([paper.with_numbers(front.body, {"10_lines": 4}), *(piece.body for piece in others)])
    return BeautifulSoup(whole.replace(f'href="{paper.ELSEWHERE}', 'href="#'), "html.parser")


def test_every_link_of_the_joined_book_leads_to_a_place_in_it(html: Path) -> None:
    book = on_paper(html)
    names = [tag["id"] for tag in book.select("[id]")]
    assert len(names) == len(set(names))
    links = [link["href"] for link in book.select("a[href]")]
    assert {link[1:] for link in links if link.startswith("#")} <= set(names)
    assert [link for link in links if not link.startswith("#")] == ["https://example.org/x.html#y"]
    assert {"#other--there", "#10_lines", "#10_lines--eq-b"} <= set(links) and "the index" in book.get_text()


def test_what_other_pieces_lead_to_is_named_where_it_stands(html: Path) -> None:
    """Chromium keeps a name on paper only if something on the same page leads to it."""
    pages = [webpages.read_page(html, "10_lines"), webpages.read_page(html, "other", "Bent")]
    front, lines, other, end = [BeautifulSoup(piece.body, "html.parser") for piece in paper.pieces(pages, html)]
    assert [link["href"] for link in front.select("a[href]")] == ["book:10_lines", "book:other", "book:solutions"]
    assert {"book:other--there", "#10_lines"} <= {link["href"] for link in lines.select("a[href]")}
    unseen = [link["href"] for link in lines.select("div[hidden] a")]
    assert {"#10_lines", "#10_lines--eq-b", "#10_lines--ex-1", "#10_lines--question-1"} == set(unseen)
    assert [link["href"] for link in other.select("div[hidden] a")] == ["#other", "#other--there"] and end.select("#solutions")


def test_bookmarks_keep_the_spaces_that_chromium_loses() -> None:
    body = '<h2 id="a"><span>1. </span>Lines that\n rise &amp; fall</h2><h3>One</h3>'
    assert paper.headings(body) == {"1.Linesthatrise&fall": "1. Lines that rise & fall", "One": "One"}


def test_solutions_and_answers_stand_at_the_end_with_links_to_and_fro(html: Path) -> None:
    book = on_paper(html)
    *_, end = book.select(".chapter")
    assert "Drawn." in end.get_text() and "Question 1, B. Yes. As it was drawn so." in " ".join(end.get_text().split())
    exercise, question = book.find(id="10_lines--ex-1"), book.find(id="10_lines--question-1")
    assert exercise.select_one("a.to-solution")["href"] == "#10_lines--sol-1" and end.find(id="10_lines--sol-1")
    assert question.select_one("a.to-solution")["href"] == "#10_lines--answer-1" and "drawn so" not in question.get_text()
    assert "plumbing" not in book.get_text() and book.find(id="10_lines--fig-a")


def test_parts_chapters_and_sections_are_headings_of_three_levels(html: Path) -> None:
    book = on_paper(html)
    assert [head.get_text() for head in book.select("h1")] == ["Contents", "Bent", paper.SOLUTIONS]
    assert [head.get_text() for head in book.select("h2")] == ["1. Lines", "2. Curves"]
    assert [number.get_text() for number in book.select(".contents a .number")] == ["4", paper.UNKNOWN, paper.UNKNOWN]


def test_a_page_that_is_not_built_is_named(html: Path) -> None:
    with pytest.raises(ChapterError, match="30_x is not built: say `make book`"):
        webpages.read_page(html, "30_x")


def test_a_table_that_can_be_sorted_keeps_its_heads(html: Path) -> None:
    table = '<table><tr><th scope="col"><button type="button">a head</button></th></tr></table><button>Run</button>'
    text = '<html><body><article><section><h1>T</h1>' + table + '</section></article></body></html>'
    (html / "table.html").write_text(text, encoding="utf-8")
    article = webpages.read_page(html, "table").article
    assert article.th.get_text() == "a head" and not article.select("button") and "Run" not in article.get_text()


def test_figures_are_called_by_their_labels(html: Path) -> None:
    figure, = figure_pack.figures_of(webpages.read_page(html, "10_lines"), html)
    assert (figure.name, figure.alt, figure.file) == ("fig-a", "A line that rises.", html / "a.svg")
    assert "A line." in figure.caption and 'alt="A line that rises."' in figure_pack.entry(figure)


def test_what_comes_from_others_is_small_and_has_its_license() -> None:
    files = list((ROOT / "book/course/reveal").iterdir())
    assert sum(file.stat().st_size for file in files) < 400_000
    assert "Hakim El Hattab" in (ROOT / "book/course/reveal/LICENSE").read_text(encoding="utf-8")
