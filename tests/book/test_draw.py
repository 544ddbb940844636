"""The page "Draw": the file of its model, and the page in a real browser, opened from a file and without a network."""

from __future__ import annotations

import base64
import hashlib
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import draw_model
import numpy as np
import pytest
import torch
from conftest import ROOT
from draw_page import read_model
from pages import CHROMIUM, QUIET, built_alone, in_a_browser
from torch import Tensor

from cdlm.data.batches import normalize
from cdlm.domains.samples import load_domain
from cdlm.methods.cdlm import CDLM
from cdlm.methods.registry import build_config
from cdlm.model.modulation import modulate
from cdlm.runs.record import read_record
from cdlm.runs.run import data_checksums, measure, same_data

pytestmark = pytest.mark.slow

FOLDER = ROOT / "book/draw"
MODEL = read_model()
RECORD = read_record(MODEL["record"], ROOT / "book/results")
MOST_BYTES = 2_000_000
CLOSE = {"rtol": 1e-3, "atol": 1e-3}
def marked(test):
    for mark in in_a_browser:
        test = mark(test)
    return test


def numbers(text: str) -> Tensor:
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), "<f2").astype(np.float32))


@pytest.fixture(scope="module")
def method() -> CDLM:
    """The networks in PyTorch, with the weights that stand in the page's file."""
    made = CDLM(build_config(RECORD["spec"]["method"], RECORD["spec"]["settings"]))
    shapes = dict(MODEL["tensors"])
    parts = numbers(MODEL["weights"]).split([math.prod(shape) for shape in shapes.values()])
    state = {name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts)}
    left = made.load_state_dict(state, strict=False)
    assert not left.unexpected_keys and all(name.startswith("discriminator") for name in left.missing_keys)
    return made.eval()


# The file


def test_the_model_is_of_a_recorded_run() -> None:
    seeds = [one["seed"] for one in RECORD["runs"]]
    assert MODEL["record"] == draw_model.RECORD and MODEL["seed"] == draw_model.SEED == min(seeds)
    assert all(one["selection"] == "last iteration" and one["log"][-1]["step"] == RECORD["spec"]["steps"] for one in RECORD["runs"])
    pair = (load_domain(RECORD["spec"][side]) for side in ("source", "target"))
    assert same_data(RECORD["runs"][0]["data"], data_checksums(*pair))
    weights = RECORD["config"]
    assert [MODEL[name] for name in ("width", "latent", "gamma1", "gamma2")] == [
        weights[name] for name in ("width", "latent", "gamma1", "gamma2")]


def test_the_accuracies_of_the_file_are_those_of_its_weights(method: CDLM) -> None:
    """Rounding may move an image or two over the border; another machine, too."""
    source, target = (load_domain(RECORD["spec"][side]) for side in ("source", "target"))
    found, one = measure(method, source, target), next(one for one in RECORD["runs"] if one["seed"] == MODEL["seed"])
    assert found == pytest.approx(MODEL["rounded"], abs=0.004)
    assert found["target_accuracy"] == pytest.approx(one["target_accuracy"], abs=0.01)
    assert MODEL["tested"] == {"source": len(source.test), "target": len(target.test)}


def test_the_file_is_what_its_weights_give(method: CDLM) -> None:
    """All but the weights is made again from these; on the machine that wrote it, to the byte."""
    told = {name: MODEL[name] for name in ("record", "seed", "run_weights")}
    source, target = (load_domain(RECORD["spec"][side]) for side in ("source", "target"))
    again = draw_model.content(method, source, target, told)
    assert list(again) == list(MODEL)
    torch.testing.assert_close(numbers(again["features"]), numbers(MODEL["features"]), rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(torch.tensor(again["axes"]), torch.tensor(MODEL["axes"]), rtol=0, atol=5e-3)
    assert again["paths"] == pytest.approx(MODEL["paths"], abs=0.008)
    vary = {"rounded", "paths", "features", "mean", "axes", "share"}
    assert {name: again[name] for name in again if name not in vary} == {name: MODEL[name] for name in MODEL if name not in vary}


def test_the_page_is_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < MOST_BYTES


def test_another_run_is_refused(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, ROOT / "book/tools/draw_model.py", tmp_path], capture_output=True, text=True)
    assert run.returncode == 1 and run.stdout == "" and run.stderr.count("\n") == 1
    assert run.stderr.startswith("error: ") and str(tmp_path) in run.stderr


# The page in a browser


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page as a book of its own, in the book's dress; links to chapters lead nowhere."""
    return built_alone(tmp_path_factory.mktemp("draw") / "a book", "draw.md")


@pytest.fixture(scope="module")
def browser() -> Iterator:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def opened(html: Path, browser) -> Iterator:
    """Opens the page from its file, offline; in the end nothing was asked of a network, and no script of the page has failed."""
    contexts, asked, failed = [], [], []

    def open_it(width: int = 1200, **options: object):
        context = browser.new_context(viewport={"width": width, "height": 900}, offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(180_000)       # on a busy machine, too
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: failed.append(str(error)) if "_static/draw/" in (error.stack or "") else None)
        page.goto((html / "draw.html").as_uri())
        if options.get("java_script_enabled", True):
            page.wait_for_function("() => cdlmDraw.seen")
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert asked and [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert failed == []


def settled(page) -> None:
    """Wait until what was asked for is computed and shown."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def stroke(page, *points: tuple[float, float]) -> None:
    """Draw a line through points of the unit square with the mouse."""
    page.locator("#draw-canvas").scroll_into_view_if_needed()
    box = page.locator("#draw-canvas").bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=4)
    page.mouse.up()
    settled(page)


def seen(page) -> dict:
    """What the page has computed last, and from what; arrays as tensors."""
    found = page.evaluate("""() => {
        const plain = (x) => ArrayBuffer.isView(x) || Array.isArray(x) ? Array.from(x)
            : x && typeof x === 'object' ? Object.fromEntries(Object.entries(x).map(([k, v]) => [k, plain(v)])) : x;
        return plain(cdlmDraw.seen);
    }""")
    def tensors(x):
        if isinstance(x, dict):
            return {name: tensors(value) for name, value in x.items()}
        return torch.tensor(x) if isinstance(x, list) else x
    return tensors(found)


SEVEN = ((0.25, 0.25), (0.72, 0.25), (0.45, 0.8))


def set_slider(page, name: str, value: float) -> None:
    page.locator(f"#draw-{name}").fill(str(value))
    settled(page)


@torch.no_grad()
def check_against_pytorch(found: dict, method: CDLM) -> None:
    x = normalize(found["bytes"].to(torch.uint8).reshape(1, 1, 28, 28))
    e_u, e_z, e_s = found["eps"].split(MODEL["latent"])
    g = found["gamma1"], found["gamma2"]
    t, h_s = method.encoder(x), found["partner"][None]
    codes = {"x_tilde_t": g[0] * t.h + g[1] * e_u, "x_hat_ts": modulate(t.mu, t.sigma, h_s, e_z, *g)}
    images = {"x_t": x} | {name: method.decoder(z) for name, z in codes.items()}
    for name, value in t._asdict().items():
        torch.testing.assert_close(found[name][None], value, **CLOSE)
    for name, image in images.items():
        torch.testing.assert_close(found["images"][name].reshape(image.shape), image, **CLOSE)
        torch.testing.assert_close(found["probabilities"][name][None], method.read(image).softmax(1), **CLOSE)
    torch.testing.assert_close(found["x_tilde_s"].reshape(x.shape), method.decoder(g[0] * h_s + g[1] * e_s), **CLOSE)
    axes, mean = torch.tensor(MODEL["axes"]), torch.tensor(MODEL["mean"])
    torch.testing.assert_close(found["place"], ((t.h - mean) @ axes.T)[0], **CLOSE)
    embedded = numbers(MODEL["features"]).reshape(-1, MODEL["latent"])
    far = torch.cdist(t.h, embedded)[0]
    torch.testing.assert_close(far[found["near"]], far.sort().values[:10], **CLOSE)


@marked
@pytest.mark.parametrize("look", ["mnist", "optical"])
def test_numbers_are_those_of_pytorch(opened, method: CDLM, look: str) -> None:
    page = opened()
    page.locator(f"input[value={look}]").check()
    stroke(page, *SEVEN)
    for gamma1, gamma2, partner in ((1, 0.1, 0), (0, 0.1, 3), (0.5, 0, 7), (2, 1, 9), (0, 0, 5)):
        set_slider(page, "gamma1", gamma1)
        set_slider(page, "gamma2", gamma2)
        page.locator("#draw-partner").select_option(str(partner))
        page.locator("#draw-noise").click()
        settled(page)
        found = seen(page)
        assert (found["gamma1"], found["gamma2"]) == (gamma1, gamma2)
        torch.testing.assert_close(found["partner"], numbers(MODEL["features"]).reshape(-1, MODEL["latent"])[30 * partner])
        check_against_pytorch(found, method)


@marked
def test_samples_are_the_images_that_the_networks_were_tested_on(opened, method: CDLM) -> None:
    page, test = opened(), load_domain("optdigits").test
    wanted = test.images[draw_model.first_of_each_class(test, MODEL["samples"])].reshape(10, MODEL["samples"], 784)
    for number in range(MODEL["samples"]):
        for label in range(10):
            page.get_by_role("button", name=f"Take optical digit {label}").click()
            settled(page)
            assert torch.equal(seen(page)["bytes"].to(torch.uint8), wanted[label, number])
        check_against_pytorch(seen(page), method)
        page.get_by_role("button", name="Others").click()
    page.get_by_label("Invert").check()
    page.get_by_role("button", name="Take optical digit 4").click()
    settled(page)
    assert torch.equal(255 - seen(page)["bytes"].to(torch.uint8), wanted[4, 0])
    check_against_pytorch(seen(page), method)


@marked
def test_a_stroke_becomes_an_image_wherever_it_is_drawn_and_however_large(opened) -> None:
    page = opened()
    for look in ("mnist", "optical"):
        page.locator(f"input[value={look}]").check()
        images = []
        for scale, shift in ((1, 0), (0.4, 0.05), (0.4, 0.55)):
            page.get_by_role("button", name="Clear").click()
            stroke(page, *((scale * x + shift, scale * y + shift) for x, y in SEVEN))
            images.append(seen(page)["bytes"].reshape(28, 28).double())
        for image in images[1:]:
            assert (image - images[0]).abs().mean() < 8         # the mouse has whole pixels
        rows, columns = ((images[0].sum(axis) > 0).nonzero()[:, 0] for axis in (1, 0))
        assert 19 <= rows.max() - rows.min() + 1 <= 22 and columns.max() - columns.min() <= rows.max() - rows.min()
        if look == "mnist":
            middle = torch.arange(28).double() + 0.5
            center = [float((image.sum(axis) * middle).sum() / image.sum()) for image in images for axis in (0, 1)]
            assert center == pytest.approx([14] * len(center), abs=0.05)
            assert len(images[0].unique()) > 20                  # smoothed edges
    page.get_by_role("button", name="Clear").click()
    stroke(page, (0.3, 0.3))
    assert seen(page)["bytes"].sum() > 0                         # a dot


@marked
def test_undo_clear_and_invert(opened) -> None:
    page = opened()
    undo, clear = (page.get_by_role("button", name=name) for name in ("Undo", "Clear"))
    assert undo.is_disabled() and "bytes" not in seen(page)
    stroke(page, *SEVEN)
    first = seen(page)["bytes"]
    stroke(page, (0.3, 0.5), (0.7, 0.5))
    both = seen(page)["bytes"]
    assert not torch.equal(first, both)
    for button, wanted in ((undo, first), (clear, None), (undo, first)):
        button.click()
        settled(page)
        found = seen(page).get("bytes")
        assert found is None if wanted is None else torch.equal(found, wanted)
    page.get_by_label("Invert").check()
    settled(page)
    assert torch.equal(seen(page)["bytes"], 255 - first)
    page.get_by_role("button", name="Take optical digit 2").click()
    undo.click()
    undo.click()
    settled(page)
    assert "bytes" not in seen(page) and undo.is_disabled()


@marked
def test_everything_can_be_done_by_keyboard_and_is_told(opened, method: CDLM) -> None:
    page = opened()
    board = page.get_by_role("application", name="Drawing area")
    board.focus()
    for key in ("Shift+ArrowUp", "Shift+ArrowUp", "Space", *["Shift+ArrowDown"] * 4, "Space"):
        page.keyboard.press(key)
    settled(page)
    drawn = seen(page)
    check_against_pytorch(drawn, method)
    rows, columns = ((drawn["bytes"].reshape(28, 28).sum(axis) > 0).nonzero()[:, 0] for axis in (1, 0))
    assert len(rows) >= 19 and len(columns) <= 5                # an upright line
    status = page.locator("#draw-status")
    likeliest = int(drawn["probabilities"]["x_tilde_t"].argmax())
    page.wait_for_function("() => document.getElementById('draw-status').textContent.startsWith('The translation')")
    assert status.get_attribute("aria-live") == "polite" and f"is read as {likeliest}," in status.inner_text()
    assert "nearest to yours" in status.inner_text()
    assert page.locator("#draw-x_tilde_t").get_attribute("aria-label").startswith(f"Translation x tilde t, read as {likeliest}")
    page.keyboard.press("Backspace")
    settled(page)
    assert "bytes" not in seen(page)

    page.get_by_role("button", name="Take optical digit 6").focus()
    page.keyboard.press("Enter")
    slider = page.get_by_role("slider", name="γ1, features")
    slider.focus()
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    settled(page)
    found = seen(page)
    assert found["gamma1"] == pytest.approx(0.8) and "bytes" in found
    assert page.locator("output[for=draw-gamma1]").inner_text() == "0.80"
    check_against_pytorch(found, method)


@marked
def test_every_control_has_a_name(opened) -> None:
    page = opened()
    nameless = page.evaluate("""() => [...document.querySelectorAll('#draw :is(button, input, select, canvas)')].filter(one =>
        !one.closest('button[aria-label]') && !(one.getAttribute('aria-label') || one.textContent.trim() || one.labels?.length))
        .map(one => one.outerHTML.slice(0, 80))""")
    assert nameless == []
    table = page.locator(".draw-table")
    assert table.locator("th[scope=row]").count() == 10 and table.locator("th[scope=col]").count() == 4
    assert "aria-describedby" in page.locator("#draw-canvas").evaluate("one => one.outerHTML")


@marked
def test_a_finger_draws_on_a_phone_and_nothing_is_wider_than_it(opened, method: CDLM) -> None:
    page = opened(390, has_touch=True, is_mobile=True, device_scale_factor=2)
    page.locator("#draw-canvas").scroll_into_view_if_needed()
    box = page.locator("#draw-canvas").bounding_box()
    session = page.context.new_cdp_session(page)
    places = [{"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]} for x, y in SEVEN]
    before = page.evaluate("window.scrollY")
    session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": places[:1]})
    for place in places[1:]:
        session.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [place]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    settled(page)
    assert page.evaluate("window.scrollY") == before, "the page moves under the finger"
    check_against_pytorch(seen(page), method)
    wide = page.evaluate("""() => [document.documentElement.scrollWidth, ...[...document.querySelectorAll('#draw *')]
        .map(one => Math.ceil(one.getBoundingClientRect().right))]""")
    assert max(wide) <= 390


@marked
def test_it_is_readable_in_light_and_dark(opened) -> None:
    """Words of the page against the page: a contrast of 4.5 at least, as WCAG asks."""
    contrast = """() => {
        const rgb = (color) => {
            const context = Object.assign(document.createElement('canvas'), {width: 1, height: 1}).getContext('2d');
            context.fillStyle = color; context.fillRect(0, 0, 1, 1);
            return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
        };
        const light = (color) => rgb(color).map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const behind = (one) => { for (let at = one; at; at = at.parentElement) {
            const color = getComputedStyle(at).backgroundColor;
            if (!/, 0\\)$/.test(color) && color !== 'transparent') return color; }
            return 'white'; };
        const words = 'p, label, legend, td, th, caption, figcaption, figcaption span, button, output';
        return [...document.querySelectorAll(`#draw :is(${words})`)].filter(one => one.textContent.trim()).map(one => {
                const [a, b] = [light(getComputedStyle(one).color), light(behind(one))];
                return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), one.textContent.trim().slice(0, 30)];
            }).filter(([ratio]) => ratio < 4.5);
    }"""
    page, shades = opened(), []
    page.get_by_role("button", name="Take optical digit 3").click()
    for theme in ("light", "dark"):
        page.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
        settled(page)
        page.wait_for_timeout(400)
        assert page.evaluate(contrast) == [], theme
        shades.append(page.evaluate("() => getComputedStyle(document.getElementById('draw-map')).backgroundColor"))
    assert shades[0] != shades[1]


@marked
def test_a_stroke_is_answered_at_once(opened) -> None:
    page = opened()
    page.get_by_role("button", name="Take optical digit 8").click()
    settled(page)
    times = page.evaluate("""() => {
        const nets = cdlmNet.networks(cdlmModel), x = cdlmInk.scaled(cdlmDraw.seen.bytes), times = [];
        for (let i = 0; i < 15; i++) {
            const start = performance.now();
            cdlmNet.look(nets, x, cdlmDraw.seen.partner, cdlmDraw.seen.eps.subarray(0, 64), 1, 0.1);
            times.push(performance.now() - start);
        }
        return times;
    }""")
    assert sorted(times)[3] < 100


@marked
def test_without_javascript_a_sentence_says_so(opened) -> None:
    sentence = "Where that does not run, as on paper"
    page = opened(java_script_enabled=False)
    assert page.get_by_text(sentence).is_visible() and not page.locator("#draw").is_visible()
    page = opened()
    assert page.locator("#draw").is_visible() and not page.get_by_text(sentence).is_visible()


@marked
def test_the_page_tells_checksum_and_accuracy_of_its_model(opened, html: Path) -> None:
    text = opened().locator("article").inner_text()
    shipped = html / "_static/draw/model.js"
    assert hashlib.sha256(shipped.read_bytes()).hexdigest() in text
    assert shipped.read_bytes() == (FOLDER / "model.js").read_bytes()
    for one in RECORD["runs"]:
        assert f"{100 * one['target_accuracy']:.1f}%" in text
    assert f"{100 * MODEL['paths']['x_t']:.1f}%" in text
    assert sum(path.stat().st_size for path in shipped.parent.iterdir()) < MOST_BYTES
    pages = [path for path in html.rglob("*.html") if "_static" not in path.parts]
    assert [path.name for path in pages if "_static/draw/" in path.read_text("utf-8")] == ["draw.html"], "no other page loads it"
