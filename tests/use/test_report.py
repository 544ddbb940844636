"""What is told of a run: the same in both forms, true to the run, readable by everybody, and changed by no name of a file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml
from bs4 import BeautifulSoup
from folders import content_of, copied, noise_pictures
from markdown_it import MarkdownIt
from pages import CHROMIUM, QUIET

from cdlm.files import RunError, read_json
from cdlm.runs.run import run
from cdlm.runs.spec import RunSpec
from cdlm.use.card import card_of, share_between, tell_run
from cdlm.use.pages import Page, Paragraph, Picture, Points, Section, Table, new_folder, write_page, written
from cdlm.use.report import confusion_section, labeled_rows, report_of, store_report
from cdlm.use.trust import RULE

HOSTILE = ("<script>alert(1)<", "a|b *c* [d](http:", "&amp; `e` \u202ef \u0007 $g$")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of CDLM between labeled digits, of two steps."""
    place = tmp_path_factory.mktemp("runs") / "digits"
    run(RunSpec("cdlm", "mnist", "optdigits", steps=2, batch_size=8, settings={"width": 4}), place, log_every=1)
    return place


@pytest.fixture(scope="module")
def unlabeled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from classes with hostile names to images without classes."""
    place = tmp_path_factory.mktemp("own")
    source = noise_pictures(place / "photographs & <b>more", HOSTILE, 15)
    target = noise_pictures(place / "others", ("x",), 30, seed=1)
    run(RunSpec("source", str(source), str(target / "x"), steps=1, batch_size=4), place / "run", log_every=1)
    return place / "run"


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return report_of(tell_run(folder))


@pytest.fixture(scope="module")
def hostile(unlabeled: Path) -> Page:
    return report_of(tell_run(unlabeled))


def soup(page: Page) -> BeautifulSoup:
    return BeautifulSoup(written(page, "html"), "html.parser")


def section(page: Page, title: str) -> Section:
    return next(part for part in page.sections if part.title == title)


def cells(page: Page) -> list[str]:
    return [cell for part in page.sections for table in part.parts if table.kind == "table" for row in table.rows for cell in row]


# Both forms


def as_html(page: Page) -> BeautifulSoup:
    """What a reader of Markdown makes of it."""
    body = written(page, "md").split("---\n", 2)[2]
    return BeautifulSoup(MarkdownIt("gfm-like", {"linkify": False}).render(body), "html.parser")


@pytest.mark.parametrize("name", ["page", "hostile"])
def test_both_forms_say_the_same(name: str, request: pytest.FixtureRequest) -> None:
    page = request.getfixturevalue(name)
    one, other = soup(page), as_html(page)
    for tag in ("h1", "h2", "td", "li"):
        mine = [part.get_text() for part in one.find_all(["td", "th"] if tag == "td" else tag)]
        theirs = [part.get_text() for part in other.find_all(["td", "th"] if tag == "td" else tag)]
        assert mine == theirs and len(mine) > 0
    # of an alternative text this reader of Markdown leaves out escaped characters
    alts, others = ([re.sub(r"\W|_", "", image["alt"]) for image in form.find_all("img")] for form in (one, other))
    assert alts == others and len(alts) == 2


def test_no_name_of_a_file_changes_the_page(hostile: Page) -> None:
    document, markdown = soup(hostile), as_html(hostile)
    assert document.find("script") is None and document.find("b") is None and "http:" not in str(document.find_all("a"))
    assert markdown.find(["script", "b", "em", "a"]) is None
    texts = [part.get_text() for part in document.find_all(["th", "td"])]
    assert {HOSTILE[0], HOSTILE[1]} <= set(texts)
    assert r"&amp; `e` \u202ef \x07 $g$" in texts, "what no page should get is an escape"
    rows = [row for table in markdown.find_all("table") for row in table.find_all("tr")]
    assert all(len(row.find_all(["td", "th"])) == len(row.find_parent("table").find("tr").find_all("th")) for row in rows)


@pytest.mark.parametrize("name", ["page", "hostile"])
def test_the_page_needs_nothing_and_runs_nothing(name: str, request: pytest.FixtureRequest) -> None:
    document = soup(request.getfixturevalue(name))
    assert document.find(["script", "link", "iframe", "object", "embed"]) is None
    addresses = [image["src"] for image in document.find_all("img")]
    assert all(address.startswith(("data:image/png;base64,", "data:image/svg+xml;base64,")) for address in addresses)
    assert not [tag for tag in document.find_all(True) if any(name.startswith("on") for name in tag.attrs)]
    policy = document.find("meta", {"http-equiv": "Content-Security-Policy"})["content"]
    assert policy.startswith("default-src 'none'") and "script" not in policy


@pytest.mark.parametrize("name", ["page", "hostile"])
def test_the_page_can_be_heard(name: str, request: pytest.FixtureRequest) -> None:
    document = soup(request.getfixturevalue(name))
    assert document.html["lang"] == "en" and document.title.get_text() and len(document.find_all("h1")) == 1
    assert all(len(image["alt"]) > 20 for image in document.find_all("img")) and len(document.find_all("img")) == 2
    for table in document.find_all("table"):
        assert table.caption.get_text() and table.parent["tabindex"] == "0" and table.parent["aria-label"]
        assert all(head["scope"] == "col" and head.get_text() for head in table.thead.find_all("th"))
        assert all(row.th["scope"] == "row" for row in table.tbody.find_all("tr"))
    for part in document.find_all("section"):
        assert document.find(id=part["aria-labelledby"]).name == "h2"


def luminance(color: str) -> float:
    """By the guidelines for web content (WCAG 2)."""
    digits = color.lstrip("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    parts = [int(digits[i:i + 2], 16) / 255 for i in (0, 2, 4)]
    return sum(weight * (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4)
               for weight, part in zip((0.2126, 0.7152, 0.0722), parts))  # fmt: skip


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def mixed(color: str, paper: str, share: float) -> str:
    one, other = ([int(("".join(2 * d for d in c[1:]) if len(c) == 4 else c[1:])[i:i + 2], 16) for i in (0, 2, 4)]
                  for c in (color, paper))  # fmt: skip
    return "#" + "".join(f"{round(share * a + (1 - share) * b):02x}" for a, b in zip(one, other))


def test_text_stands_out_from_its_ground(page: Page) -> None:
    style = soup(page).style.get_text()
    for colors in (dict(re.findall(r"--(\w+): (#\w+)", scheme)) for scheme in style.split("@media", 1)):
        assert set(colors) == {"paper", "ink", "soft", "line", "well"}
        assert contrast(colors["ink"], colors["paper"]) > 7 and contrast(colors["ink"], colors["well"]) > 7
        assert contrast(colors["soft"], colors["paper"]) > 4.5
        assert contrast(colors["ink"], mixed("#0072B2", colors["paper"], 0.45)) > 4.5, "the darkest shade of a table"


# What it says


def test_the_front_matter_is_what_the_hub_reads(page: Page, folder: Path) -> None:
    front = yaml.safe_load(written(page, "md").split("---\n")[1])
    known = {"license", "library_name", "pipeline_tag", "tags", "metrics", "model-index"}
    assert set(front) == known and front["license"] == "unknown" and "&id" not in written(page, "md").split("---\n")[1]
    results = front["model-index"][0]["results"]
    stored = read_json(folder / "metrics.json")
    assert [one["metrics"][0]["value"] for one in results] == [stored["source_accuracy"], stored["target_accuracy"]]
    assert all({"type", "name"} <= set(one["dataset"]) and one["task"]["type"] == "image-classification" for one in results)


def test_checksums_versions_and_settings_are_on_the_card(page: Page, folder: Path) -> None:
    stored, told = read_json(folder / "metrics.json"), cells(page)
    assert set(stored["data"].values()) <= set(told)
    assert {stored["provenance"]["code"], "width = 4", "CC BY-SA 3.0", "CC BY 4.0", "x_tilde_t"} <= set(told)


def test_the_confusion_is_that_of_the_run(page: Page, folder: Path) -> None:
    counts = [[int(cell) for cell in row[1:]] for row in section(page, "Confusion").parts[0].rows]
    right = sum(counts[i][i] for i in range(10))
    assert sum(map(sum, counts)) == 500
    assert right / 500 == pytest.approx(read_json(folder / "metrics.json")["target_accuracy"], abs=0.004)


def test_signs_stand_on_their_side_and_a_bad_run_is_warned_about(page: Page) -> None:
    trust = section(page, "What speaks for and against trusting it")
    table = next(part for part in trust.parts if part.kind == "table")
    limits = {rule.limit: rule.above for rule in RULE}
    assert len(table.rows) >= 5
    for _, value, limit, verdict in table.rows:
        word, number = limit.split()
        beyond = float(value) > float(number) if word == "above" else float(value) < float(number)
        assert limits[float(number)] == (word == "above") and (verdict == "against") == beyond
    assert trust.parts[0].text.startswith("Warning"), "two steps are no training"


def test_without_labels_nothing_is_said_to_be_known(hostile: Page) -> None:
    titles = [part.title for part in hostile.sections]
    assert "Confusion" not in titles and "Classes" in titles
    assert section(hostile, "Results").parts[0].rows[1][1:3] == ["–", "–"]
    assert "no labels" in section(hostile, "Limits").parts[0].lines[0]
    assert len(hostile.front["model-index"][0]["results"]) == 1
    shares = [float(row[2]) for row in section(hostile, "Classes").parts[0].rows]
    assert sum(shares) == pytest.approx(1, abs=0.01)


def test_rows_of_classes_by_hand() -> None:
    counts = torch.tensor([[3, 1, 0], [0, 0, 0], [2, 0, 2]])
    assert labeled_rows("abc", counts) == [
        ["a", "4", "0.750", "0.600", "b (1)"], ["b", "0", "–", "0.000", "–"], ["c", "4", "0.500", "1.000", "a (2)"],
    ]  # fmt: skip


def test_of_many_classes_the_most_frequent_errors_are_shown() -> None:
    counts = torch.eye(30, dtype=torch.int64) * 5
    counts[3, 7] = 4
    rows = confusion_section([f"class {i}" for i in range(30)], counts).parts[0].rows
    assert rows == [["class 3 for class 7", "4", "0.444"]]


def test_wilsons_interval_is_that_of_the_books() -> None:
    assert share_between(0.9, 50) == pytest.approx((0.786, 0.957), abs=1e-3)
    assert share_between(1.0, 10)[1] == 1.0 and share_between(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)


def test_the_same_run_gives_the_same_page(folder: Path, page: Page) -> None:
    assert written(report_of(tell_run(folder)), "html") == written(page, "html")


# Whole or not at all


def test_the_report_is_a_page_and_a_card_with_its_pictures(folder: Path, tmp_path: Path, page: Page) -> None:
    out = store_report(folder, tmp_path / "deep/report")
    assert set(content_of(out)) == {"report.html", "README.md", "figures/losses.svg", "figures/translations.png"}
    assert (out / "report.html").read_text(encoding="utf-8") == written(page, "html")
    for link in re.findall(r"\]\((figures/[^)]+)\)", (out / "README.md").read_text(encoding="utf-8")):
        assert (out / link).is_file()


def test_a_place_that_is_taken_and_images_that_are_others_are_refused(folder: Path, tmp_path: Path, pair) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/mine.txt").write_text("mine")
    with pytest.raises(RunError, match="exists already"):
        store_report(folder, tmp_path / "taken")
    with pytest.raises(RunError, match="images are not those"):
        store_report(folder, tmp_path / "report", target="mnist")
    assert content_of(tmp_path) == {"taken/mine.txt": b"mine"}


def test_what_fails_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    for error, seen in ((OSError(28, "No space left on device"), RunError), (KeyboardInterrupt(), KeyboardInterrupt)):
        with pytest.raises(seen), new_folder(tmp_path / "out") as place:
            (place / "half").write_text("half")
            raise error
        assert list(tmp_path.iterdir()) == []


def test_a_page_of_every_part_is_written(tmp_path: Path) -> None:
    page = Page("All", [Section("Parts", [
        Paragraph("a < b"), Paragraph("a < b\nc = 1\n", verbatim=True), Points(["one", "two"]),
        Picture("dot", b"<svg/>", "svg", "a dot that is not there", "A dot."), Table("None", ["name", "value"], []),
    ])], {"license": "unknown"})  # fmt: skip
    document = soup(page)
    assert document.pre.get_text() == "a < b\nc = 1\n" and document.p.get_text() == "a < b"
    write_page(page, tmp_path)
    assert (tmp_path / "figures/dot.svg").read_bytes() == b"<svg/>"


def test_a_card_takes_no_labels_that_there_are_not(unlabeled: Path) -> None:
    assert [part.title for part in card_of(tell_run(unlabeled)).sections][:4] == ["Model", "Intended use", "Limits", "Results"]


def test_a_damaged_run_is_refused(folder: Path, tmp_path: Path) -> None:
    bad = copied(folder, tmp_path / "bad")
    (bad / "metrics.json").write_text("{}")
    with pytest.raises(RunError, match="damaged"):
        store_report(bad, tmp_path / "report")


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("scheme, ground", [("light", "rgb(255, 255, 255)"), ("dark", "rgb(13, 17, 23)")])
def test_a_browser_shows_it_on_a_phone_in_light_and_dark(hostile: Page, tmp_path: Path, scheme: str, ground: str) -> None:
    from playwright.sync_api import sync_playwright

    (tmp_path / "report.html").write_text(written(hostile, "html"), encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        view, asked, said = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme), [], []
        view.on("request", lambda request: asked.append(request.url))
        view.on("console", lambda message: said.append(message.text))
        view.goto((tmp_path / "report.html").as_uri())
        assert view.evaluate("document.documentElement.scrollWidth") <= 390
        assert view.evaluate("getComputedStyle(document.body).backgroundColor") == ground
        assert view.evaluate("[...document.images].every(image => image.naturalWidth > 50)")
        browser.close()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == [] and said == []
