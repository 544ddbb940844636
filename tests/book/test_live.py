"""Boards of sliders: the page's numbers are the package's, keys turn them, and without JavaScript a sentence stands there."""

from __future__ import annotations

import io
import math
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import live
import pytest
import torch
from bs4 import BeautifulSoup
from conftest import ROOT
from pages import CHROMIUM, QUIET, in_a_browser

import chapters
from cdlm import widgets

CONTROLS = {"moments": widgets.MODULATION_CONTROLS, "bound": widgets.BOUND_CONTROLS, "reversal": widgets.REVERSAL_CONTROLS}
HOMES = {"moments": "51_moments", "bound": "20_vae", "reversal": "35_adversary"}
STILL = "Only where no script runs."


def settings(board: str, count: int = 40) -> list[dict]:
    """What the sliders of a board may show: each at its ends, and some settings at random."""
    sliders, choice = live.BOARDS[board].sliders, live.BOARDS[board].choice
    start = {slider.name: slider.value for slider in sliders}
    found = [start | {slider.name: end} for slider in sliders for end in (slider.low, slider.high)]
    draw = random.Random(0)
    for _ in range(count):
        places = {each.name: draw.randint(0, round((each.high - each.low) / each.step)) for each in sliders}
        found.append({each.name: each.low + each.step * places[each.name] for each in sliders})
    return [each | ({choice[0]: word} if choice else {}) for each in found for word in (choice[2] if choice else [""])]


# The chapters, and the notebook's widgets


@pytest.mark.parametrize("board", HOMES)
def test_a_board_stands_in_its_chapter_with_words_for_notebooks(board: str) -> None:
    text = (ROOT / f"book/src/{HOMES[board]}.md").read_text(encoding="utf-8")
    assert text.count(":::{live}") == 1
    content = text.partition(f":::{{live}} {board}\n")[2].partition("\n:::")[0]
    assert f"widgets.{'modulation' if board == 'moments' else board}()" in content and "{numref}`fig-" in content


@pytest.mark.parametrize("board", HOMES)
def test_page_and_notebook_have_the_same_sliders(board: str) -> None:
    sliders, choice = live.BOARDS[board].sliders, live.BOARDS[board].choice
    shown = {each.name: (each.low, each.high, each.step, each.value) for each in sliders}
    assert shown | ({choice[0]: list(choice[2])} if choice else {}) == CONTROLS[board]


def chapter_names(name: str, *wanted: str) -> dict:
    """What the cells of a chapter define that hold one of the words, with what they import."""
    cells = [cell.source for cell in chapters.read_text(ROOT / f"book/src/{name}.md").cells if cell.cell_type == "code"]
    space: dict = {"Tensor": torch.Tensor, "torch": torch, "Normal": torch.distributions.Normal}
    for source in cells:
        if any(word in source for word in wanted):
            exec(source, space)
    return space


def test_the_bound_is_that_of_the_chapter() -> None:
    space = chapter_names("20_vae", "def loop(", "def bound_and_gap(", "points = {")
    for values in settings("bound", 10):
        if values["std"] < 0.05:
            continue                                            # the chapter's grid is too coarse for so narrow a q
        x, found = space["points"][values["point"]], widgets.bound_terms(**values)
        assert widgets.LOOP_POINTS[values["point"]] == pytest.approx(x.tolist(), abs=1e-12)
        if abs(values["mean"]) + 6 * values["std"] < 5:         # and it ends at 5
            bound, gap = space["bound_and_gap"](x, values["mean"], values["std"])
            assert (found["elbo"], found["gap"]) == pytest.approx((bound.item(), gap.item()), rel=1e-3, abs=1e-3)
        assert found["evidence"] == pytest.approx(space["log_evidence"](x).item(), abs=1e-9)


def test_what_the_chapter_says_of_strengths() -> None:
    apart = widgets.even_cloud(2, 1.5).mean(0) - widgets.even_cloud(0, 0).mean(0)
    tried = (-0.1, 0.0, 0.1, 0.2, 0.6, 1.0, 1.2)
    gaps = {strength: (apart + widgets.linear_game(strength, 200).phi).norm(dim=1) for strength in tried}
    assert gaps[0.0].max() == gaps[0.0].min() == pytest.approx(2.5, abs=0.01)
    assert (gaps[-0.1].diff() >= 0).all() and gaps[-0.1][-1] > 3
    assert gaps[0.1][-1] < 0.01 and gaps[0.2][-1] < 0.01
    assert (gaps[0.6].diff() > 0.05).any() and gaps[0.6][-1] < 0.1
    assert all(gaps[strength][100:].max() > 2.5 for strength in (1.0, 1.2))


def test_densities_have_the_moments_of_equations_3_and_4() -> None:
    z = torch.linspace(-6, 10, 160_001, dtype=torch.float64)
    values = {"gamma1": 0.8, "gamma2": 0.3, "sigma_s": 1.4, "mu_h": 0.6, "sigma_h": 0.25}
    expected = widgets.moments_beside(**values, mu_t=0.0, sigma_t=1.0)
    for shape in ("normal", "uniform", "coin"):
        weight = widgets.code_density(z, shape, **values) * 1e-4
        mean = float((weight * z).sum())
        assert float(weight.sum()) == pytest.approx(1, abs=1e-6) and mean == pytest.approx(expected["mean"], abs=1e-6)
        assert math.sqrt(float((weight * (z - mean) ** 2).sum())) == pytest.approx(expected["sigma"], abs=1e-6)


@pytest.mark.parametrize(("change", "message"), [
    ({"shape": "star"}, "normal, uniform and coin"), ({"gamma2": 0.0}, "without noise"), ({"sigma_s": -1.0}, "without noise"),
], ids=["shape", "gamma2", "sigma_s"])  # fmt: skip
def test_a_density_that_is_none_is_refused(change: dict, message: str) -> None:
    fine = {"shape": "coin", "gamma1": 1.0, "gamma2": 0.1, "sigma_s": 1.0, "mu_h": 0.5, "sigma_h": 0.2}
    with pytest.raises(ValueError, match=message):
        widgets.code_density(torch.zeros(1), **fine | change)


def test_sliders_call_the_drawing() -> None:
    pytest.importorskip("ipywidgets")
    calls = []
    made = widgets.turned(lambda **values: calls.append(values), {"a": (0, 5, 1, 3), "b": (0.0, 1.0, 0.5, 0.5), "c": ["x", "y"]})
    made.update()
    assert calls[-1] == {"a": 3, "b": 0.5, "c": "x"}
    calls.clear()
    made.children[0].value, made.children[2].value = 4, "y"
    assert calls == [{"a": 4, "b": 0.5, "c": "x"}, {"a": 4, "b": 0.5, "c": "y"}]


def test_without_ipywidgets_the_figure_is_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    calls = []
    with pytest.warns(UserWarning, match="pip install") as told:
        assert widgets.turned(lambda **values: calls.append(values), {"a": (0, 5, 1, 3), "c": ["x", "y"]}) is None
    assert calls == [{"a": 3, "c": "x"}] and len(told) == 1


@pytest.mark.slow
def test_the_package_is_imported_without_ipywidgets() -> None:
    script = "import sys; sys.modules['ipywidgets'] = None; import cdlm.widgets"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


# The page


def built(source: Path, body: str) -> str:
    """Build a page by Sphinx with this extension alone; returns what it warned of."""
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace

    (source / "index.md").write_text(body, encoding="utf-8")
    (source / "other.md").write_text("---\norphan: true\n---\n# None\n", encoding="utf-8")
    configuration = "extensions = ['myst_parser', 'live']", "myst_enable_extensions = ['colon_fence', 'dollarmath']"
    (source / "conf.py").write_text("\n".join(configuration), encoding="utf-8")
    said = io.StringIO()
    with docutils_namespace():          # what an application registers is gone with it
        Sphinx(source, source, source / "out", source / "trees", "html", status=None, warning=said, freshenv=True).build()
    return said.getvalue()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with all boards."""
    source = tmp_path_factory.mktemp("boards")
    assert built(source, "# All\n\n" + "\n\n".join(f":::{{live}} {name}\n{STILL}\n:::" for name in live.BOARDS)) == ""
    return source / "out/index.html"


@pytest.mark.parametrize(("block", "message"), [(":::{live} radio\nWords.\n:::", "no board is called 'radio'"),
                                                (":::{live} bound\n:::", "say what is shown")], ids=["name", "words"])  # fmt: skip
def test_what_is_no_board_is_refused(block: str, message: str, tmp_path: Path) -> None:
    assert message in built(tmp_path, f"# One\n\n{block}\n")


def test_scripts_and_style_are_on_pages_with_a_board_only(page: Path) -> None:
    soup = BeautifulSoup(page.read_bytes(), "html.parser")
    sources = [tag["src"].partition("?")[0] for tag in soup.select("script[src]")]
    assert sources.index("_static/numbers.js") < sources.index("_static/live.js") and "_static/live.css" in page.read_text()
    assert "live." not in page.with_name("other.html").read_text()
    assert [part.has_attr("hidden") for part in soup.select(".live-board")] == [True] * len(live.BOARDS)


@pytest.fixture(scope="module")
def browser() -> Iterator:
    if CHROMIUM is None:
        pytest.skip("no Chromium")
    sync = pytest.importorskip("playwright.sync_api")
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def tab(browser, page: Path) -> Iterator:
    faults: list[str] = []
    tab = browser.new_page(viewport={"width": 390, "height": 844})
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.goto(page.as_uri())
    yield tab
    assert faults == []
    tab.close()


def in_a_page(test):
    for mark in in_a_browser:
        test = mark(test)
    return test


@in_a_page
def test_moments_are_those_of_the_package(tab) -> None:
    asked = settings("moments")
    for values, found in zip(asked, tab.evaluate("asked => asked.map(cdlmLive.moments)", asked)):
        expected = widgets.moments_beside(**{name: value for name, value in values.items() if name != "shape"})
        assert found == pytest.approx(expected, abs=1e-12), values


@in_a_page
def test_densities_are_those_of_the_package(tab) -> None:
    asked, places = [values for values in settings("moments") if values["gamma2"] > 0], [-1.0, 0.0, 0.2, 0.45, 0.7, 1.3, 2.9]
    each = "([asked, places]) => asked.map(one => places.map(z => cdlmLive.density(z, one.shape, one)))"
    found = tab.evaluate(each, [asked, places])
    for values, densities in zip(asked, found):
        kept = {name: value for name, value in values.items() if name not in ("mu_t", "sigma_t")}
        expected = widgets.code_density(torch.tensor(places, dtype=torch.float64), **kept)
        assert densities == pytest.approx(expected.tolist(), abs=2e-6 / (values["sigma_s"] * 0.05)), values


@in_a_page
def test_terms_of_the_bound_are_those_of_the_package(tab) -> None:
    asked = settings("bound")
    for values, found in zip(asked, tab.evaluate("asked => asked.map(cdlmLive.bound)", asked)):
        assert found == pytest.approx(widgets.bound_terms(**values), rel=1e-10, abs=1e-9), values


@in_a_page
@pytest.mark.parametrize("point", ["A", "B"])
def test_the_best_q_is_the_best_on_the_sliders(tab, point: str) -> None:
    best = tab.evaluate("point => cdlmLive.bestNormal(point)", point)
    elbo = widgets.bound_terms(best["mean"], best["std"], point)["elbo"]
    others = [(best["mean"] + a, best["std"] + b) for a in (-0.01, 0, 0.01) for b in (-0.01, 0, 0.01) if (a, b) != (0, 0)]
    others += [(values["mean"], values["std"]) for values in settings("bound")]
    assert all(elbo >= widgets.bound_terms(*other, point)["elbo"] - 1e-12 for other in others)
    assert abs(best["mean"]) == pytest.approx({"A": 0.4, "B": 1.0}[point], abs=0.05)


@in_a_page
def test_the_game_is_that_of_the_package(tab) -> None:
    """Where the steps are too large, the last bits are multiplied; there only a few steps are compared."""
    for strength, steps, close in (*((strength, 200, 1e-9) for strength in (-0.2, 0.0, 0.06, 0.2, 0.5)), (1.2, 20, 1e-6)):
        told = tab.evaluate("([strength, steps]) => cdlmLive.game(strength, steps)", [strength, steps])
        game = widgets.linear_game(strength, steps)
        assert [one["loss"] for one in told] == pytest.approx(game.losses.tolist(), abs=close)
        for name, expected in (("phi", game.phi), ("w", game.guessers[:, :2]), ("b", game.guessers[:, 2])):
            found = torch.tensor([one[name] for one in told], dtype=torch.float64)
            torch.testing.assert_close(found, expected, rtol=0, atol=close)


@in_a_page
def test_clouds_are_those_of_the_package(tab) -> None:
    for name, place in (("SOURCE", (0, 0)), ("TARGET", (2, 1.5))):
        found = torch.tensor(tab.evaluate(f"cdlmLive.{name}"), dtype=torch.float64)
        torch.testing.assert_close(found, widgets.even_cloud(*place), rtol=0, atol=1e-12)


@pytest.mark.slow
@in_a_page
@pytest.mark.parametrize("board", live.BOARDS)
def test_a_board_is_turned_by_keys_and_says_what_has_come_out(tab, board: str) -> None:
    """Each slider has a name; an arrow key changes numbers and pictures at once, and the sentence after a pause."""
    part = tab.locator(f".live-board[data-live={board}]")
    assert part.is_visible() and part.get_attribute("aria-labelledby")
    said = part.get_by_role("status")
    tab.wait_for_function("part => part.textContent.length > 30", arg=said.element_handle())

    def state() -> tuple:
        return part.locator("table").inner_text(), part.locator("svg").first.get_attribute("aria-label"), said.inner_text()

    start = state()
    sliders = part.get_by_role("slider")
    assert sliders.count() == len(live.BOARDS[board].sliders)
    for number, slider in enumerate(live.BOARDS[board].sliders):
        name = BeautifulSoup(slider.label, "html.parser").get_text()
        assert part.get_by_role("slider", name=name).count() == 1
        sliders.nth(number).focus()
        for key in ("PageUp", "ArrowRight", "ArrowRight"):
            tab.keyboard.press(key)
        assert float(sliders.nth(number).input_value()) > slider.value
    assert state()[0] != start[0]
    tab.wait_for_function("([part, old]) => part.textContent !== old", arg=[said.element_handle(), start[2]])
    assert state()[1] != start[1] or state()[2] != start[2]
    part.get_by_role("button", name="Back to the start").focus()
    tab.keyboard.press("Enter")
    assert state()[0] == start[0]
    tab.wait_for_function("([part, old]) => part.textContent === old", arg=[said.element_handle(), start[2]])


@in_a_page
def test_the_button_finds_the_best_q(tab) -> None:
    part = tab.locator(".live-board[data-live=bound]")
    part.get_by_role("radio", name="B, where").focus()
    tab.keyboard.press("Space")
    part.get_by_role("button", name="Find the best q").click()
    shown = [float(part.get_by_role("slider").nth(number).input_value()) for number in range(2)]
    best = tab.evaluate("cdlmLive.bestNormal('B')")
    assert shown == [best["mean"], best["std"]]
    assert part.locator("[data-number=elbo]").inner_text() == f"{best['elbo']:.2f}".replace("-", "−")


@in_a_page
def test_nothing_of_a_board_is_wider_than_a_telephone(tab) -> None:
    cut = """[...document.querySelectorAll('.live-board *:not(svg *)')].filter(part => part.getBoundingClientRect().right >
             part.closest('.live-board').getBoundingClientRect().right + 1).map(part => part.outerHTML.slice(0, 90))"""
    assert tab.evaluate(cut) == []


@in_a_page
@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_without_javascript_a_sentence_stands_there(browser, page: Path, script: bool) -> None:
    context = browser.new_context(java_script_enabled=script)
    tab = context.new_page()
    tab.goto(page.as_uri())
    boards, sentences = tab.locator(".live-board"), tab.get_by_text(STILL)
    for number in range(len(live.BOARDS)):
        assert boards.nth(number).is_visible() is script and sentences.nth(number).is_visible() is not script
    tab.emulate_media(media="print")
    assert all(sentences.nth(number).is_visible() and not boards.nth(number).is_visible() for number in range(len(live.BOARDS)))
    context.close()
