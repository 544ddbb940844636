"""Things to turn in the page: closed forms under sliders, computed by the browser, without a kernel and without a network.

    :::{live} moments
    What stands here is shown where no script runs: in a notebook, on paper, and in a browser without JavaScript.
    :::

A board is a list of sliders, perhaps a choice, pictures, and a table of numbers. It is hidden until ``live.js`` fills it, and
what it replaces is hidden then. Sliders are those of the browser, each with a label, so arrow keys work; what has come out is
said once the reader pauses. The formulas are in ``numbers.js``, and tests hold them against the package.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from docutils import nodes
from page_files import add_page_files
from sphinx.util.docutils import SphinxDirective

# Not in book/_static: Jupyter Book would load each script there on every page.
STATIC = Path(__file__).with_name("live_static")


class Slider(NamedTuple):
    """A number to turn: its name in the script, what it is, and its range."""

    name: str
    label: str          # as HTML
    low: float
    high: float
    step: float
    value: float


class Board(NamedTuple):
    """Everything that stands in one place; labels, choices and rows are HTML."""

    title: str
    sliders: tuple[Slider, ...]
    choice: tuple[str, str, dict[str, str]] | None      # its name, what it is, and its values, the first chosen
    button: str                                         # what a button besides the one that resets does; "" for none
    pictures: tuple[str, ...]                           # their names in the script
    heads: tuple[str, ...]                              # of the table's columns
    rows: dict[str, tuple[str, tuple[str, ...]]]        # by name: what it is, and the names of its cells' numbers


BOARDS = {
    "moments": Board(
        "The moments of a code, by the exact forms and by the short ones",
        (Slider("gamma1", "γ<sub>1</sub>, weight of the feature", 0, 2, 0.05, 1),
         Slider("gamma2", "γ<sub>2</sub>, weight of the noise", 0, 1, 0.05, 0.1),
         Slider("sigma_s", "σ<sub>s</sub>, the own image's deviation", 0.1, 2, 0.05, 1),
         Slider("mu_h", "μ<sub>h</sub>, mean feature of the other domain", 0, 1, 0.05, 0.4),
         Slider("sigma_h", "σ<sub>h</sub>, deviation of that feature", 0, 0.5, 0.05, 0.2),
         Slider("mu_t", "μ<sub>t</sub>, what the short mean takes for μ<sub>h</sub>", -1, 1, 0.05, 0.4),
         Slider("sigma_t", "σ<sub>t</sub>, what the short deviation takes for σ<sub>h</sub>", 0.05, 1, 0.05, 0.2)),
        ("shape", "The feature is drawn from", {"normal": "a normal density", "uniform": "an interval", "coin": "two values"}),
        "", ("codes",), ("exact, Eqs. 3 and 4", "short, Eqs. 5 and 6", "exact less short"),
        {"mean": ("mean", ("mean", "short_mean", "mean_error")),
         "sigma": ("deviation", ("sigma", "short_sigma", "sigma_error"))}),
    "bound": Board(
        "The two terms of the bound",
        (Slider("mean", "mean of q", -2, 2, 0.01, 0),
         Slider("std", "deviation of q", 0.02, 1.5, 0.01, 0.5)),
        ("point", "The observation is", {"A": "A, on one arm of the loop", "B": "B, where the loop crosses itself"}),
        "Find the best q", ("plane", "codes"), ("nats",),
        {"reconstruction": ("reconstruction", ("reconstruction",)),
         "price": ("less the price of the code", ("price",)),
         "elbo": ("is the bound (ELBO)", ("elbo",)),
         "gap": ("plus the gap, KL(q ‖ posterior)", ("gap",)),
         "evidence": ("is log p(x)", ("evidence",))}),
    "reversal": Board(
        "The strength of the reversal",
        (Slider("strength", "λ, strength of the reversal", -0.2, 1.2, 0.02, 0.2),
         Slider("step", "steps of the game", 0, 200, 1, 40)),
        None, "", ("plane", "losses"), ("at the start", "now"),
        {"loss": ("the guesser's loss, in nats", ("loss_0", "loss")),
         "gap": ("distance of the clouds' means", ("gap_0", "gap"))}),
}  # fmt: skip


def slider_html(board: str, slider: Slider) -> str:
    name = f"live-{board}-{slider.name}"
    return (f'<label for="{name}">{slider.label}</label>'
            f'<input type="range" id="{name}" name="{slider.name}" min="{slider.low:g}" max="{slider.high:g}" '
            f'step="{slider.step:g}" value="{slider.value:g}"><span class="live-value" aria-hidden="true"></span>')


def choice_html(board: str, name: str, title: str, values: dict[str, str]) -> str:
    buttons = "".join(
        f'<label><input type="radio" name="live-{board}-{name}" data-name="{name}" value="{value}"{"" if number else " checked"}> '
        f"{label}</label>" for number, (value, label) in enumerate(values.items()))
    return f"<fieldset><legend>{title}</legend>{buttons}</fieldset>"


def board_html(name: str, board: Board) -> str:
    """The board called ``name``, hidden, and empty where the script writes."""
    heads = "".join(f'<th scope="col">{head}</th>' for head in board.heads)
    rows = "".join(
        f'<tr><th scope="row">{label}</th>' + "".join(f'<td data-number="{cell}"></td>' for cell in cells) + "</tr>"
        for label, cells in board.rows.values())
    pictures = "".join(f'<svg data-picture="{picture}" role="img"></svg>' for picture in board.pictures)
    return "".join((
        f'<div class="live-board" data-live="{name}" role="group" aria-labelledby="live-{name}-title" hidden>',
        f'<p class="live-title" id="live-{name}-title">{board.title}</p>',
        f'<div class="live-sliders">{"".join(slider_html(name, slider) for slider in board.sliders)}</div>',
        choice_html(name, *board.choice) if board.choice else "",
        '<p class="live-buttons">',
        f'<button type="button" data-do="find">{board.button}</button>' if board.button else "",
        '<button type="button" data-do="reset">Back to the start</button></p>',
        f'<div class="live-pictures">{pictures}</div>',
        f'<table class="live-numbers"><thead><tr><td></td>{heads}</tr></thead><tbody>{rows}</tbody></table>',
        '<p class="live-said" role="status" aria-live="polite"></p></div>'))  # fmt: skip


class Live(SphinxDirective):
    """The directive ``live``."""

    has_content = True
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name, = self.arguments
        if name not in BOARDS:
            raise self.error(f"no board is called {name!r}; there are {', '.join(BOARDS)}")
        if not self.content:
            raise self.error("say what is shown where no script runs")
        self.env.metadata[self.env.docname]["live"] = "yes"
        still = nodes.container(classes=["live-still"])
        self.state.nested_parse(self.content, self.content_offset, still)
        return [nodes.raw("", board_html(name, BOARDS[name]), format="html"), still]


def setup(app):
    app.add_directive("live", Live)
    add_page_files(app, "live", STATIC, ("numbers.js", "live.js"), ("live.css",))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
