"""The page "Draw": what it is made of, the numbers of the recorded run behind it, and its files beside those of the theme.

The files lie in book/draw and not in book/_static: each script that is there, every page would load.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "book/draw"
PAGE, MODEL = "draw", FOLDER / "model.js"
SHIPPED = ("draw.css", "model.js", "net.js", "ink.js", "page.js")
START = "window.cdlmModel = "


def read_model() -> dict:
    """What stands in model.js, which book/tools/draw_model.py writes."""
    return json.loads(MODEL.read_text(encoding="utf-8").partition(START)[2].rstrip().removesuffix(";"))


def percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def sentences(model: dict, record: dict) -> list[str]:
    """What is to be known of the model, each number from the record or from the file of the model: lines of a list."""
    spec, runs = record["spec"], record["runs"]
    one = next(run for run in runs if run["seed"] == model["seed"])
    others = [percent(run["target_accuracy"]) for run in runs if run is not one]
    again = (f"The same training with {'another seed' if len(others) == 1 else 'other seeds'} gave {' and '.join(others)} on the "
             "optical digits; the first seed is shown, as was settled before." if others else "")
    changes = ", ".join(f"{name} {value:g}" for name, value in spec["augment"].items())
    paths = ", ".join(f"{percent(model['paths'][path])} from :math:`{symbol}`"
                      for path, symbol in (("x_t", "x_t"), ("x_tilde_t", r"\tilde x_t"), ("x_hat_ts", r"\hat x_{ts}")))
    digest = hashlib.sha256(MODEL.read_bytes()).hexdigest()
    made = one["provenance"]
    return [
        f"- **The run**: method ``{spec['method']}``, {spec['source']} to {spec['target']}, {spec['steps']} steps of "
        f"{spec['batch_size']} images of each domain, seed {one['seed']}, images changed at random ({changes}), last weights; "
        f"{one['seconds'] / 60:.0f} minutes on {made['threads']} thread{'s' if made['threads'] > 1 else ''}, with "
        f"torch {made['packages']['torch']}. Its record is ``book/results/{model['record']}.json``.",
        f"- **How good it is**: it reads {percent(one['target_accuracy'])} of the {model['tested']['target']} optical digits "
        f"of the test right from their translations, and {percent(one['source_accuracy'])} of the {model['tested']['source']} "
        f"digits of MNIST. {again}",
        f"- **On this page** its weights are rounded to half precision. With these PyTorch finds {paths} "
        f"(each image paired with a random source image), and {percent(model['rounded']['source_accuracy'])} on MNIST.",
        f"- **The map** has the first {model['embedded']} test images of each class and domain, and shows "
        f"{percent(model['share'])} of the variance of their features.",
        f"- **The file** ``model.js`` has the SHA-256 checksum ``{digest}``.",
    ]  # fmt: skip


class DrawDirective(Directive):
    """``.. cdlm-draw::`` is the sheet to draw on, with all that answers."""

    def run(self) -> list[nodes.Node]:
        for file in SHIPPED:
            self.state.document.settings.env.note_dependency(str(FOLDER / file))
        self.state.document.settings.env.note_dependency(str(FOLDER / "page.html"))
        return [nodes.raw("", (FOLDER / "page.html").read_text(encoding="utf-8"), format="html")]


class DrawModelDirective(Directive):
    """``.. cdlm-draw-model::`` tells of the model of the page, from its record."""

    def run(self) -> list[nodes.Node]:
        model = read_model()
        record = ROOT / f"book/results/{model['record']}.json"
        for path in (MODEL, record):
            self.state.document.settings.env.note_dependency(str(path))
        lines = sentences(model, json.loads(record.read_text(encoding="utf-8")))
        self.state_machine.insert_input(StringList([*lines, ""], source="cdlm-draw-model"), "cdlm-draw-model")
        return []


def ship(app, exception: Exception | None) -> None:
    """Put the page's files beside those of the theme, in a build that has the page."""
    if exception is None and app.builder.format == "html" and PAGE in app.env.found_docs:
        to = Path(app.outdir, "_static", PAGE)
        to.mkdir(parents=True, exist_ok=True)
        for file in SHIPPED:
            shutil.copyfile(FOLDER / file, to / file)


def setup(app):
    app.connect("build-finished", ship)
    app.add_directive("cdlm-draw", DrawDirective)
    app.add_directive("cdlm-draw-model", DrawModelDirective)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
