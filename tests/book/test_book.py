"""The book as it is built: without a warning, without torch, without network, and whole."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from bs4 import BeautifulSoup
from conftest import ROOT, copy_of_repository
from pages import CHROMIUM, QUIET, barriers, built_alone

# What a reader who only builds the book does not install: see book/requirements.txt.
ABSENT = """torch torchvision numpy scipy pandas sklearn skimage mlxtend matplotlib seaborn sympy safetensors tqdm typer
jupytext jupyterlab nbval hypothesis pytest playwright""".split()
SITECUSTOMIZE = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""
pytestmark = pytest.mark.slow       # the whole book is built
OLD_PAGES = tomllib.loads((ROOT / "book/_ext/old_pages.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def bare_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment variables under which Python finds nothing but what building the book needs."""
    folder = tmp_path_factory.mktemp("absent")
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "PYTEST"))}
    return inherited | {"PYTHONPATH": str(folder), "NO_COLOR": "1", "https_proxy": "http://127.0.0.1:9"}


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory, bare_environment: dict[str, str]) -> subprocess.CompletedProcess:
    """``make book`` with every warning an error, in a copy of the repository whose path has spaces."""
    copy = copy_of_repository(tmp_path_factory.mktemp("copy") / "a book to build")
    environment = copy / ".venv"  # the one we run in, under the name that the Makefile uses
    environment.mkdir()
    programs = Path(sys.executable).parent
    (environment / programs.name).symlink_to(programs, target_is_directory=True)
    for stamp in (".made", ".book"):
        (environment / stamp).touch()
    command = ["make", "book", "BOOK_ARGS=-W -n --all --keep-going"]
    if shutil.which("make") is None:
        command = [programs / "jupyter-book", "build", "-W", "-n", "--all", "--keep-going", "book/"]
    before = files(copy)
    run = subprocess.run(command, cwd=copy, env=bare_environment, capture_output=True, text=True, timeout=600)
    run.html = copy / "_build/html"
    run.copy, run.before = copy, before
    return run


@pytest.fixture(scope="session")
def pages(build: subprocess.CompletedProcess) -> dict[Path, BeautifulSoup]:
    found = sorted(path for path in build.html.rglob("*.html") if "_static" not in path.parts)
    assert found, build.stdout[-3000:] + build.stderr[-3000:]
    return {path: BeautifulSoup(path.read_bytes(), "html.parser") for path in found}


def chapters_of(pages: dict[Path, BeautifulSoup]) -> dict[str, BeautifulSoup]:
    return {path.stem: page for path, page in pages.items() if re.match(r"\d\d[a-z]?_", path.stem) and path.stem not in OLD_PAGES}


def words(page: BeautifulSoup) -> str:
    """What stands in the article as prose: without code, formulas and signatures."""
    article = BeautifulSoup(str(page.select_one("article")), "html.parser")
    for part in article.select("pre, code, .math, dt.sig, script, style"):
        part.replace_with(" … ")
    return article.get_text(" ")


def test_build_has_no_warning(build: subprocess.CompletedProcess) -> None:
    lines = [line for line in build.stderr.splitlines() if "WARNING" in line or "ERROR" in line]
    assert not lines and build.returncode == 0, "\n".join(lines) or build.stdout[-3000:] + build.stderr[-3000:]


def test_build_had_no_torch(bare_environment: dict[str, str]) -> None:
    for name in ("torch", "numpy", "matplotlib.pyplot"):
        run = subprocess.run([sys.executable, "-c", f"import {name}"], env=bare_environment, capture_output=True, text=True)
        assert run.returncode == 1 and "ModuleNotFoundError" in run.stderr


def test_build_leaves_the_sources_alone(build: subprocess.CompletedProcess) -> None:
    """What it writes, it writes into _build, which version control ignores."""
    new = {path for path in files(build.copy) - build.before if path.parts[0] != "_build" and "__pycache__" not in path.parts}
    assert build.before and new == set()


def test_every_chapter_is_a_page(pages: dict[Path, BeautifulSoup]) -> None:
    texts = [path.stem for path in sorted((ROOT / "book/src").glob("*.md"))]
    assert sorted(chapters_of(pages)) == texts
    assert not [path for path in pages if "src" in path.parts]


def test_works_that_are_cited_are_items_of_a_list(pages: dict[Path, BeautifulSoup]) -> None:
    page = next(page for path, page in pages.items() if path.name == "bibliography.html")
    items = page.select("article [role=list] > .citation")
    assert items and {item["role"] for item in items} == {"listitem"}


def test_titles(pages: dict[Path, BeautifulSoup]) -> None:
    titles = {name: page.select_one("article h1") for name, page in chapters_of(pages).items()}
    assert all(titles.values())
    assert len({title.get_text() for title in titles.values()}) == len(titles)


def without_jupyter_book(environment: dict[str, str], folder: Path) -> dict[str, str]:
    """The environment in which Jupyter Book is out of reach, too; ``folder`` is for what does that."""
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE.replace("'torch'", "'torch', 'jupyter_book'", 1))
    bare = environment | {"PYTHONPATH": str(folder)}
    assert subprocess.run([sys.executable, "-c", "import jupyter_book"], env=bare, capture_output=True).returncode == 1
    return bare


def differing(root: Path, environment: dict[str, str], *words: str) -> list[Path]:
    """Pages of a book below ``root`` that `make book-sphinx`, with words to Sphinx, builds otherwise than `make book` has."""
    commands = [["book/tools/sphinx_conf.py", "_build/sphinx"],
                ["-m", "sphinx", "-b", "html", *words, "-c", "_build/sphinx", "-d", "_build/sphinx/doctrees",
                 "book", "_build/sphinx/html"]]  # fmt: skip
    for command in commands:
        run = subprocess.run([sys.executable, *command], cwd=root, env=environment, capture_output=True, text=True, timeout=900)
        assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    ours, theirs = root / "_build/html", root / "_build/sphinx/html"
    pages = [{path for path in files(folder) if path.suffix == ".html"} for folder in (ours, theirs)]
    assert pages[0] == pages[1]
    return [path for path in sorted(pages[0]) if (ours / path).read_bytes() != (theirs / path).read_bytes()]


def test_sphinx_alone_builds_the_same_few_pages(bare_environment: dict[str, str], tmp_path: Path) -> None:
    """Sliders, a quiz, formulas and sheets among them; byte for byte."""
    root = tmp_path / "a book"
    built_alone(root, "cheatsheet.md", "51_moments.ipynb", "draw.md")
    assert differing(root, without_jupyter_book(bare_environment, tmp_path)) == []


@pytest.mark.everything
def test_sphinx_alone_builds_the_same_pages(build: subprocess.CompletedProcess, bare_environment: dict[str, str],
                                            tmp_path: Path) -> None:
    """All of them, and every warning is an error."""
    assert differing(build.copy, without_jupyter_book(bare_environment, tmp_path), "-W", "-n", "--keep-going") == []


def test_no_broken_links(pages: dict[Path, BeautifulSoup], build: subprocess.CompletedProcess) -> None:
    anchors = {path: {tag["id"] for tag in page.select("[id]")} for path, page in pages.items()}
    broken = []
    for path, page in pages.items():
        for tag, attribute in [("a", "href"), ("link", "href"), ("script", "src"), ("img", "src")]:
            for found in page.select(f"{tag}[{attribute}]"):
                url = urlsplit(found[attribute])
                if url.scheme or url.netloc:
                    continue
                target = (path.parent / unquote(url.path)).resolve() if url.path else path
                if not target.is_file() or not target.is_relative_to(build.html):
                    broken.append((path.name, found[attribute]))
                elif url.fragment and target in anchors and unquote(url.fragment) not in anchors[target]:
                    broken.append((path.name, found[attribute]))
    assert broken == []


# What a browser gets by itself when it shows a page; the canonical address and links to others it does not.
LOADED = {"src": "script, img, iframe, embed, audio, video, source, track, input", "srcset": "img, source", "data": "object",
          "poster": "video", "background": "*", "href": "link, image, use"}
NOT_LOADED = {"canonical", "next", "prev", "search", "index", "license", "author"}


def loaded(page: BeautifulSoup) -> set[str]:
    """Addresses of other machines that a page loads from: in its tags, and in its own styles."""
    found = [tag[attribute] for attribute, tags in LOADED.items() for tag in page.select(tags)
             if tag.has_attr(attribute) and not NOT_LOADED & set(tag.get("rel") or [])]
    styles = [tag.get_text() for tag in page.select("style")] + [tag["style"] for tag in page.select("[style]")]
    return {address for address in found if urlsplit(address.strip()).netloc} | set(remote_styles("\n".join(styles)))


def remote_styles(css: str) -> list[str]:
    css = re.sub(r"/\*.*?\*/", "", css, flags=re.S)
    return re.findall(r"""(?:url\(|@import)\s*["']?((?:https?:)?//[^"')\s]+)""", css)


def test_pages_load_nothing_from_the_network(pages: dict[Path, BeautifulSoup]) -> None:
    """Live code loads its script when a reader asks for it."""
    assert set().union(*map(loaded, pages.values())) == set()


def test_styles_load_nothing_from_the_network(build: subprocess.CompletedProcess, pages: dict[Path, BeautifulSoup]) -> None:
    files = sorted(build.html.rglob("*.css"))
    assert files and [(path.name, found) for path in files if (found := remote_styles(path.read_text(encoding="utf-8")))] == []


def test_what_is_loaded_is_recognized() -> None:
    remote = """<script src="https://a/x.js"></script><img src="//b/x.png"><link rel="preload" href="https://c/x.woff">
        <img srcset="https://d/x.png 2x"><object data="http://e/x"></object><div style="background: url('https://f/x')"></div>
        <style>@import "https://g/x.css"; /* url(https://h/x) */</style>"""
    harmless = """<link rel="canonical" href="https://z/"><a href="https://y/">y</a><img src="_images/x.png"><script>1</script>
        <link rel="stylesheet" href="_static/x.css"><img src="data:image/png;base64,//x">"""
    assert {urlsplit(address).netloc or address for address in loaded(BeautifulSoup(remote, "html.parser"))} == set("abcdefg")
    assert loaded(BeautifulSoup(harmless, "html.parser")) == set()


def test_mathjax_is_local(pages: dict[Path, BeautifulSoup]) -> None:
    for path, page in pages.items():
        if not page.select("article .math"):
            continue
        scripts = [tag["src"] for tag in page.select("script[src]") if "mathjax" in tag["src"].lower()]
        assert len(scripts) == 1, path.name
        assert not urlsplit(scripts[0]).netloc
        script = path.parent / unquote(urlsplit(scripts[0]).path)
        assert script.stat().st_size > 100_000
        fonts = list(script.parent.rglob("*.woff")) or "svg" in script.name
        assert fonts, "formulas need their fonts"


def test_old_addresses_lead_to_the_pages_of_today(pages: dict[Path, BeautifulSoup], build: subprocess.CompletedProcess) -> None:
    for old, new in OLD_PAGES.items():
        page = pages[build.html / f"{old}.html"]
        assert page.select_one("meta[http-equiv=refresh]")["content"] == f"0; url={new}.html"
        assert page.select_one("a[href]")["href"] == page.select_one("link[rel=canonical]")["href"] == f"{new}.html"
        assert (build.html / f"{new}.html").is_file() and new not in OLD_PAGES
        assert not (ROOT / f"book/{old}.ipynb").exists()


# What stands on the pages

RAW = re.compile(
    r":{3,}|`{3}|\{(?:numref|eq|cite|ref|doc|term|glue|prf|exercise|solution|math|figure|image|note|tip|code-cell)[:}\w-]*"
    r"|\[\[?[^\]]*\]\]?\([^)]*\)|^\s*:(?:label|class|name|alt|tags):",
    flags=re.M,
)


def test_raw_markup_is_recognized() -> None:
    for left in ("::: note", "```{note}", "see {numref}`fig-a`", "{eq}`x`", "{cite:t}`a`", "[a](b.ipynb)", ":label: ex-1"):
        assert RAW.search(left), left
    for fine in ("a: b", "x {1, 2}", "f(x) [1] (2)", "a `b` c", "12:30"):
        assert not RAW.search(fine), fine


def test_no_markup_is_left_in_the_text(pages: dict[Path, BeautifulSoup]) -> None:
    left = {path.name: RAW.findall(words(page)) for path, page in pages.items() if page.select_one("article")}
    assert {name: found for name, found in left.items() if found} == {}


def test_no_reference_is_open(pages: dict[Path, BeautifulSoup]) -> None:
    for name, page in chapters_of(pages).items():
        assert not re.search(r"\?\?|\[\?\]|\bUnknown\b", words(page)), name
        assert not page.select(".problematic, .system-message"), name


def test_images_have_alternative_text(pages: dict[Path, BeautifulSoup]) -> None:
    silent = [(path.name, str(image)[:200]) for path, page in pages.items() for image in page.select("img")
              if not image.get("alt", "").strip() or image["alt"].strip() == image.get("src")]  # fmt: skip
    assert silent == []


def test_figures_are_numbered_and_shown(pages: dict[Path, BeautifulSoup]) -> None:
    for name, page in chapters_of(pages).items():
        notebook = nbformat.read(ROOT / f"book/{name}.ipynb", as_version=4)
        names = [cell.metadata.get("mystnb", {}).get("figure", {}).get("name") for cell in notebook.cells]
        for figure in filter(None, names):
            shown = page.find(id=figure)
            assert shown is not None and shown.select_one("img"), f"{name}: {figure} is not shown"
            assert re.match(r"Fig\. \d", shown.select_one("figcaption .caption-number").get_text()), figure


def test_outputs_are_whole(pages: dict[Path, BeautifulSoup]) -> None:
    for name, page in chapters_of(pages).items():
        assert not page.select(".output.traceback, .output.stderr"), name
        assert "%pip" not in page.select_one("article").get_text(), f"{name}: the install cell is for Colab only"


def test_solutions_are_there_and_folded(pages: dict[Path, BeautifulSoup]) -> None:
    for name, page in chapters_of(pages).items():
        exercises, solutions = page.select("div.exercise"), page.select("div.solution")
        assert len(exercises) == len(solutions), name
        assert all("dropdown" in solution["class"] for solution in solutions), name
        # A proof of this class stops the script that folds, and every solution on the page stays open.
        assert not page.select(".proof.dropdown"), name


def test_solutions_hold_their_code(pages: dict[Path, BeautifulSoup]) -> None:
    for name, page in chapters_of(pages).items():
        for solution in page.select("div.solution"):
            assert len(solution.select_one(".section, section, #solution-content").get_text().split()) > 3, name


def test_bibliography_answers_every_citation(pages: dict[Path, BeautifulSoup]) -> None:
    cited = Counter(
        link["href"].partition("#")[2] for page in pages.values() for link in page.select('article a.reference[href*="#id"]')
        if link.find_parent(class_="citation") is None
    )  # fmt: skip
    entries = {tag["id"]: tag for page in pages.values() for tag in page.select(".citation[id]")}
    assert entries, "no bibliography"
    for entry in entries.values():
        assert re.search(r"\b(19|20)\d\d\b", entry.get_text()), entry.get_text()
    keys = set(re.findall(r"^@\w+\{([^,\s]+)", (ROOT / "book/references.bib").read_text(encoding="utf-8"), flags=re.M))
    texts = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "book/src").glob("*.md"))
    used = {key.strip() for group in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", texts) for key in group.split(",")}
    assert used <= keys
    assert len(entries) == len(used), "the bibliography lists what is cited"
    assert cited


def test_page_of_the_package_documents_every_public_name(pages: dict[Path, BeautifulSoup]) -> None:
    page = next((page for path, page in pages.items() if path.stem == "api"), None)
    if page is None:
        pytest.skip("book/api.md is not written yet")
    documented = {tag["id"] for tag in page.select("[id]")}
    missing = []
    for module in tomllib.loads((ROOT / "book/tools/modules.toml").read_text(encoding="utf-8"))["modules"]:
        path = ROOT.joinpath("cdlm", *module.split(".")).with_suffix(".py")
        if not path.exists():
            continue
        if f"module-cdlm.{module}" not in documented:
            missing.append(module)
        body = ast.parse(path.read_text(encoding="utf-8")).body
        offered = next(ast.literal_eval(node.value) for node in body if ast.unparse(node).startswith("__all__ = "))
        for node in body:
            public = isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name in offered
            if public and f"cdlm.{module}.{node.name}" not in documented:
                missing.append(f"{module}.{node.name}")
    assert missing == []


# What is wider than the screen and cannot be pushed sideways, with all that is folded opened first. A formula is as wide as
# what MathJax draws, which the theme would cut at the edge of its box.
TOO_WIDE = """async () => {
    if (window.MathJax?.startup) await MathJax.startup.promise;
    for (const details of document.querySelectorAll('details')) details.open = true;
    for (const folded of document.querySelectorAll('.toggle-hidden')) folded.classList.remove('toggle-hidden');
    const pushed = part => ['auto', 'scroll'].includes(getComputedStyle(part).overflowX)
        && part.getBoundingClientRect().right <= window.innerWidth + 1;
    const inside = part => {
        for (let p = part; p && p !== document.body; p = p.parentElement) if (pushed(p)) return true;
        return part.getBoundingClientRect().right <= window.innerWidth + 1;
    };
    const uncut = part => {
        const box = part.closest('.math');
        return !box || pushed(box) || pushed(part.parentElement)
            || part.getBoundingClientRect().right <= box.getBoundingClientRect().right + 2;
    };
    // a picture in a picture is cut at its own edge
    const kinds = ':is(h1, h2, h3, p, li, dt, dd, td, th, code, pre, table, img, svg:not(svg svg), video)';
    const parts = [...document.querySelectorAll(`article ${kinds}`)];
    const drawn = [...document.querySelectorAll('article mjx-container > mjx-math')];
    return {
        page: document.documentElement.scrollWidth, formulas: drawn.length,
        wide: [...parts.filter(part => part.checkVisibility() && !part.closest('mjx-container') && !inside(part)),
               ...drawn.filter(part => part.checkVisibility() && !(inside(part) && uncut(part)))]
            .map(part => `${part.tagName} ${part.textContent.trim().slice(0, 80)}`),
    };
}"""
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1400, "height": 900}


@pytest.fixture(scope="module")
def browser() -> Iterator:
    if CHROMIUM is None or importlib.util.find_spec("playwright") is None:
        pytest.skip("no Chromium or no playwright")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def phone(browser):
    """A page of a browser as wide as that of a telephone."""
    return browser.new_page(viewport=PHONE)


@pytest.mark.everything
@pytest.mark.browser
def test_no_page_has_a_barrier(pages: dict[Path, BeautifulSoup], browser) -> None:
    """WCAG 2.2, levels A and AA, as far as axe-core can tell, with all that is folded opened."""
    tab, found = browser.new_page(viewport=DESK), {}
    for path, page in pages.items():
        if page.select_one("article"):              # not an old address, which leads on
            tab.goto(path.as_uri(), wait_until="load", timeout=180_000)
            found[path.name] = barriers(tab)
    assert len(found) > 50
    assert {name: faults for name, faults in found.items() if faults} == {}


@pytest.mark.browser
def test_no_page_is_wider_than_a_telephone_and_nothing_is_cut(pages: dict[Path, BeautifulSoup], phone) -> None:
    """Wide tables, displayed formulas and what cells print can be pushed sideways, each by itself; all else fits."""
    wide, formulas = {}, 0
    for path, page in pages.items():
        if page.select_one("article") is None:      # an old address, which leads on
            continue
        phone.goto(path.as_uri(), wait_until="load", timeout=180_000)
        seen = phone.evaluate(TOO_WIDE)
        formulas += seen["formulas"]
        if seen["page"] != PHONE["width"] or seen["wide"]:
            wide[path.name] = (seen["page"], seen["wide"])
    assert formulas > 1000, "MathJax has drawn them"
    assert wide == {}


@pytest.mark.browser
@pytest.mark.parametrize("content", [
    "<p>a <code>" + "long.name_" * 9 + "</code></p>", "<img src='' width='700'>", "<table><tr><td>" + "x" * 90 + "</table>",
    "<p><span class='math' style='display: inline-flex; max-width: 100%; overflow: hidden'><mjx-container><mjx-math "
    "style='white-space: nowrap'>" + "x + " * 40 + "</mjx-math></mjx-container></span></p>",
])  # fmt: skip
def test_what_is_too_wide_or_cut_is_seen(content: str, phone) -> None:
    phone.set_content(f"<article style='width: 350px'>{content}</article>")
    assert phone.evaluate(TOO_WIDE)["wide"] != []
    pushed = f"<div style='overflow-x: auto'>{content.replace('hidden', 'auto')}</div>"
    phone.set_content(f"<article style='width: 350px'>{pushed}</article>")
    assert phone.evaluate(TOO_WIDE)["wide"] == []
