"""Self-checks: one right answer each, outputs as they are, and pages that work without a server and without JavaScript."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest
import quiz
from bs4 import BeautifulSoup
from pages import CHROMIUM, QUIET

from chapters import chapters

BLOCK = re.compile(r"^:::\{quiz\}\n(.*?)^:::$", flags=re.S | re.M)
QUIZZES = {path.stem: found[1] for path in chapters() if (found := BLOCK.search(path.read_text(encoding="utf-8")))}
MAIN_PATH = {"10_domain_shift", "12_engine", "20_vae", "30_transfer_latent_space", "35_adversary", "40_cdlm"}
GOOD = {"kind": "recall", "ask": "Who?", "right": "A", "wrong": ["B", "C"], "why": "Since that is what it is, by definition of it."}


def test_the_main_path_has_quizzes() -> None:
    assert set(QUIZZES) >= MAIN_PATH


@pytest.mark.parametrize("name", QUIZZES)
def test_a_quiz_mixes_kinds(name: str) -> None:
    asked = quiz.questions(QUIZZES[name])
    assert 6 <= len(asked) <= 10 and {each.kind for each in asked} == set(quiz.KINDS)
    assert len({each.ask for each in asked}) == len(asked)
    text = next(path for path in chapters(name)).read_text(encoding="utf-8")
    assert len(BLOCK.findall(text)) == 1 and text.index("{quiz}") < text.index("\n## Exercise")


@pytest.mark.parametrize("name", QUIZZES)
def test_what_is_to_be_predicted_is_what_is_printed(name: str) -> None:
    for each in quiz.questions(QUIZZES[name]):
        if each.kind == "predict":
            shown = io.StringIO()
            with contextlib.redirect_stdout(shown):
                exec(each.code, {})
            printed = f"`{shown.getvalue().strip()}`"
            assert each.right == printed and printed not in each.wrong, each.ask


@pytest.mark.parametrize("name", QUIZZES)
def test_code_of_questions_can_be_read_as_python(name: str) -> None:
    for each in quiz.questions(QUIZZES[name]):
        compile(each.code, each.ask, "exec")
        assert max(map(len, each.code.splitlines()), default=0) <= 95


def test_the_right_answer_has_no_place_of_its_own() -> None:
    """Over the book it stands first, second and third, and its length does not give it away."""
    asked = [each for text in QUIZZES.values() for each in quiz.questions(text)]
    places = [each.answers().index(each.right) for each in asked]
    assert {0, 1, 2} <= set(places) and max(map(places.count, set(places))) < len(places) * 0.6
    longest = sum(len(each.right) > max(map(len, each.wrong)) for each in asked)
    assert longest < len(asked) * 0.75


@pytest.mark.parametrize(("change", "message"), [
    ({"wrong": ["A", "B"]}, "all different"), ({"wrong": ["B"]}, "two or three"), ({"why": "so"}, "why"),
    ({"kind": "riddle"}, "kind is one of"), ({"code": "print(1)"}, "have code"), ({"wrong": [1, "B"]}, "in quotes"),
    ({"kind": "predict"}, "have code"), ({"hint": "no"}, "and may have code"),
], ids=str)  # fmt: skip
def test_what_is_no_question_is_refused(change: dict, message: str) -> None:
    assert quiz.fault(GOOD) == ""
    assert message in quiz.fault(GOOD | change)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with all quizzes, built by Sphinx with this extension alone."""
    from sphinx.application import Sphinx

    source = tmp_path_factory.mktemp("quizzes")
    body = "\n\n".join(f"## {name}\n\n:::{{quiz}}\n{text}:::" for name, text in QUIZZES.items())
    (source / "index.md").write_text(f"# All\n\n{body}\n", encoding="utf-8")
    (source / "other.md").write_text("---\norphan: true\n---\n# None\n", encoding="utf-8")
    settings = "extensions = ['myst_parser', 'quiz']", "myst_enable_extensions = ['colon_fence', 'dollarmath']"
    (source / "conf.py").write_text("\n".join(settings), encoding="utf-8")
    said = io.StringIO()
    Sphinx(source, source, source / "out", source / "trees", "html", status=None, warning=said, freshenv=True).build()
    assert said.getvalue() == ""
    return source / "out/index.html"


def test_each_question_is_a_group_of_radio_buttons_with_an_answer_below(page: Path) -> None:
    soup = BeautifulSoup(page.read_bytes(), "html.parser")
    asked = [each for text in QUIZZES.values() for each in quiz.questions(text)]
    groups = soup.find_all("fieldset", class_="quiz")
    assert len(groups) == len(asked)
    names = set()
    for group, question in zip(groups, asked):
        assert group.find("legend") is group.find(True) and not group.legend.find(["p", "div"])
        buttons = group.find_all("input", type="radio")
        assert len(buttons) == 1 + len(question.wrong) and all(button.parent.name == "label" for button in buttons)
        assert len({button["name"] for button in buttons}) == 1
        names.add(buttons[0]["name"])
        right, = [button.parent.get_text(" ", strip=True) for button in buttons if button.has_attr("data-right")]
        details, = group.find_all("details")
        assert details.summary.get_text() == "Answer" and not details.has_attr("open")
        assert details.strong.get_text(" ", strip=True) == right and len(details.p.get_text()) > len(right) + 40
        assert group.find(attrs={"role": "status"}).get_text() == ""
        assert not group.find_all(hidden=True) and not group.find_all(style=True)
    assert len(names) == len(asked)


def test_script_and_style_are_on_pages_with_a_quiz_only(page: Path) -> None:
    assert 'src="_static/quiz.js' in page.read_text() and 'href="_static/quiz.css' in page.read_text()
    assert "quiz." not in page.with_name("other.html").read_text()
    assert (page.parent / "_static/quiz.js").is_file()


@pytest.mark.browser
def test_a_quiz_is_answered_by_keyboard(page: Path) -> None:
    """Tab to a group, choose by keys, be told; and without JavaScript the answer opens all the same."""
    sync = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium")
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        for script in (True, False):
            tab = browser.new_context(java_script_enabled=script).new_page()
            tab.goto(page.as_uri())
            group = tab.locator("fieldset.quiz").first
            if script:
                group.locator("input").first.focus()
                for _ in range(4):
                    tab.keyboard.press("ArrowDown")
                    right = group.locator("input:checked").get_attribute("data-right") is not None
                    assert ("Right" in group.locator(".quiz-said").inner_text()) is right
            group.locator("summary").focus()
            tab.keyboard.press("Enter")
            assert group.locator("details strong").is_visible()
        browser.close()
