"""The chapters as readers get them: no drift, every cell runs, and the form that all of them share."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import check
import export
import nbformat
import pytest
import verify
import yaml
from conftest import ROOT
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from verified import current_record, is_strict, ran_here, read_records

import chapters

BOOK = ROOT / "book"
TEXTS = sorted((BOOK / "src").glob("*.md"))
PAGES = [*TEXTS, *sorted(BOOK.glob("*.md")), *sorted(ROOT.glob("*.md"))]
URL = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]
LONGEST_CELL = 25  # lines that are neither empty nor part of a docstring
WIDEST_LINE = 95  # characters that the column of a page holds: see book/_static/book.css
FEWEST_EXERCISES = 5

# Pages on the tools, called "Workshop: ..." in their titles. A reader may skip them, so chapters may use what later ones define.
WORKSHOP = {text.stem for text in TEXTS if re.search(r"^# Workshop: ", text.read_text(encoding="utf-8"), flags=re.M)}

each_text = pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.stem)
each_chapter = pytest.mark.parametrize(
    "text", [path for path in TEXTS if path.stem not in {"00_preface", *WORKSHOP}], ids=lambda path: path.stem
)


def read(text: Path) -> NotebookNode:
    notebook = BOOK / f"{text.stem}.ipynb"
    assert notebook.exists(), "no notebook; `make sync`"
    return nbformat.read(notebook, as_version=4)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(text: Path) -> str:
    """The text without code cells, without their options, and without inline code and formulas."""
    content = text.read_text(encoding="utf-8")
    content = re.sub(r"^---\n.*?\n---\n", "", content, flags=re.S)
    content = re.sub(r"^(```+|~~~+)(?!\{(?!code)).*?^\1", "", content, flags=re.S | re.M)
    return re.sub(r"\$\$.*?\$\$|\$[^$\n]+\$|`[^`\n]*`", " ", content, flags=re.S)


# Text, notebook and package are one thing


def test_no_drift() -> None:
    assert check.problems() == []


@pytest.mark.slow
def test_check_is_a_command_that_agrees() -> None:
    run = subprocess.run([sys.executable, BOOK / "tools/check.py"], capture_output=True, text=True, cwd=ROOT)
    assert (run.returncode, run.stderr) == (0, "")


# Every cell runs


def runs(text: Path, profile: str) -> None:
    if not code_cells(read(text)):
        pytest.skip("no code in this chapter")
    status, printed = verify.nbval(BOOK / f"{text.stem}.ipynb", profile, strict=is_strict(text.stem))
    assert status == 0, printed[-6000:]


@each_text
def test_every_cell_runs_in_the_smallest_size(text: Path, request: pytest.FixtureRequest) -> None:
    """`make test` spares a chapter that ran in the book's size, as it is and with the versions that are installed here."""
    if "not slow" in request.config.getoption("markexpr") and ran_here(text, read_records()):
        pytest.skip("on record, in the book's size and with these versions; `make test-all` runs it in any case")
    runs(text, "smoke")


@pytest.mark.slow
@each_text
def test_every_cell_runs_in_the_size_of_the_book(text: Path, request: pytest.FixtureRequest) -> None:
    """With the assertions on results that the smallest size leaves out; not again where that is on record."""
    if not request.config.getoption("everything") and (record := current_record(text, read_records())):
        versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
        pytest.skip(f"verified already, with {versions}; `make test-everything` runs it again")
    runs(text, "book")


@pytest.mark.slow
def test_strict_cells_are_really_compared(tmp_path: Path) -> None:
    """A doctored output fails where the tag asks for a comparison, and there only; an error fails anywhere."""
    for name, tag, source, shown in [
        ("strict", "nbval-check-output", "print(6 * 7)", 42),
        ("doctored", "nbval-check-output", "print(6 * 7)", 43),
        ("free", "hide-input", "print(6 * 7)", 43),
        ("fails", "hide-input", "assert 6 == 7", 42),
    ]:
        output = new_output("stream", name="stdout", text=f"{shown}\n")
        cell = new_code_cell(source, execution_count=1, outputs=[output], metadata={"tags": [tag]})
        nbformat.write(new_notebook(cells=[cell], metadata={"kernelspec": chapters.KERNEL}), tmp_path / f"{name}.ipynb")
    status, printed = verify.nbval(tmp_path, "smoke", "-rA")
    assert status == 1
    verdicts = {name: verdict for verdict, name in re.findall(r"^(PASSED|FAILED) .*?(\w+)\.ipynb", printed, flags=re.M)}
    assert verdicts == {"strict": "PASSED", "doctored": "FAILED", "free": "PASSED", "fails": "FAILED"}
    assert "mismatch" in printed


@each_text
def test_strict_cells_have_something_to_compare(text: Path) -> None:
    cells = code_cells(read(text))
    strict = [cell for cell in cells if "nbval-check-output" in cell.metadata.get("tags", [])]
    assert strict or len(cells) < 5, "no cell of this chapter is compared"
    silent = [cell.source for cell in strict if not cell.outputs]
    assert silent == []


# The form that chapters share


def test_toc_lists_every_chapter_once_in_order() -> None:
    toc = yaml.safe_load((BOOK / "_toc.yml").read_text(encoding="utf-8"))
    listed = [toc["root"]] + [entry["file"] for part in toc["parts"] for entry in part["chapters"]]
    for name in listed:
        assert (BOOK / f"{name}.ipynb").exists() or (BOOK / f"{name}.md").exists(), name
    numbered = [name for name in listed if re.match(r"\d\d[a-z]?_", name)]
    assert numbered == [text.stem for text in TEXTS]


@each_text
def test_install_cell_comes_first(text: Path) -> None:
    cells = code_cells(read(text))
    if not cells:
        pytest.skip("no code in this chapter")
    first = cells[0]
    assert f'%pip install -q "cdlm @ git+{URL}"' in first.source
    assert 'importlib.util.find_spec("cdlm") is None' in first.source
    assert "remove-cell" in first.metadata.tags
    assert not any("%pip" in cell.source or "!pip" in cell.source for cell in cells[1:])


def test_install_cells_are_all_the_same() -> None:
    cells = [code_cells(chapters.generate(text)) for text in TEXTS]
    assert len({first[0].source for first in cells if first}) == 1


def figures(notebook: NotebookNode) -> list[NotebookNode]:
    return [
        cell
        for cell in code_cells(notebook)
        if any(kind.startswith("image/") for output in cell.outputs for kind in output.get("data", {}))
    ]


@each_text
def test_figures_have_caption_name_and_alternative_text(text: Path) -> None:
    for cell in figures(read(text)):
        meta = cell.metadata.get("mystnb", {})
        figure, alt = meta.get("figure", {}), meta.get("image", {}).get("alt", "")
        assert len(figure.get("caption", "")) > 20 and figure.get("name", "").startswith("fig-"), cell.source
        assert len(alt) > 20 and alt != figure["caption"], cell.source
        images = [k for o in cell.outputs for k in o.get("data", {}) if k.startswith("image/")]
        assert len(images) == 1, "one figure to a cell: only the first would get the caption"


def test_figure_names_are_unique() -> None:
    names = Counter(cell.metadata.mystnb.figure.name for text in TEXTS for cell in figures(read(text)))
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_images_in_text_exist_and_have_alternative_text(page: Path) -> None:
    content = page.read_text(encoding="utf-8")
    place = BOOK if page.parent == BOOK / "src" else page.parent  # a notebook's links are seen from the notebook
    images = re.findall(r"!\[([^\]]*)\]\(([^)\s]+)\)", content)
    for body, target, options in re.findall(r"^(`{3,}|:{3,})\{(?:figure|image)\} (\S+)\n(.*?)^\1", content, flags=re.S | re.M):
        alt = re.search(r"^:alt: (.+)$|^alt: (.+)$", options, flags=re.M)
        images.append((alt[0] if alt else "", target))
        assert body
    for alt, target in images:
        assert len(alt) > 10, f"{target} has no alternative text"
        assert (place / target).resolve().is_file(), f"{target} does not exist"


def code_lines(source: str) -> int:
    lines = {number for number, line in enumerate(source.splitlines(), start=1) if line.strip()}
    for node in ast.walk(ast.parse(chapters.without_magics(source))):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines -= set(range(node.lineno, node.end_lineno + 1))
    return len(lines)


@each_text
def test_code_cells_are_short(text: Path) -> None:
    lengths = {cell.source.splitlines()[0]: code_lines(cell.source) for cell in code_cells(chapters.generate(text))}
    assert {first: length for first, length in lengths.items() if length > LONGEST_CELL} == {}


@each_text
def test_lines_of_code_fit_into_the_column(text: Path) -> None:
    lines = [line for cell in code_cells(chapters.read_text(text)) for line in cell.source.splitlines()]
    assert [line for line in lines if len(line) > WIDEST_LINE] == []


@each_text
def test_imports_say_what_the_chapter_is_about(text: Path) -> None:
    """The first cells that consist of imports are folded, but for a few lines from the package: the chapter's subject."""
    for cell in code_cells(chapters.read_text(text))[1:4]:
        nodes = ast.parse(chapters.without_magics(cell.source)).body
        imports = [node for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom))]
        if len(imports) > 3 and "hide-input" not in cell.metadata.get("tags", []):
            assert {getattr(node, "module", "").partition(".")[0] for node in imports} == {"cdlm"} and len(imports) <= 4


@each_text
def test_outputs_are_short_and_quiet(text: Path) -> None:
    """No progress bars, no warnings, no walls of numbers."""
    for cell in code_cells(read(text)):
        for output in cell.outputs:
            assert output.get("name") != "stderr", f"{cell.source.splitlines()[0]}: {output.text[:300]}"
            assert len(str(output.get("text", "")).splitlines()) <= 40, cell.source.splitlines()[0]
            assert "\r" not in str(output.get("text", ""))


def labels(kind: str, content: str) -> list[str]:
    """Labels of exercises, or of the exercises that solutions answer."""
    if kind == "solution":
        return re.findall(r"^[:`]{3,}\{solution(?:-start)?\} *(\S+)", content, flags=re.M)
    starts = re.finditer(r"^[:`]{3,}\{exercise(?:-start)?\}[^\n]*\n(?P<options>(?::[^\n]*\n)*)", content, flags=re.M)
    return [re.search(r"^:label: *(\S+)", start["options"], flags=re.M)[1] for start in starts]


@each_text
def test_every_exercise_has_one_folded_solution(text: Path) -> None:
    content = text.read_text(encoding="utf-8")
    exercises, solutions = labels("exercise", content), labels("solution", content)
    assert sorted(exercises) == sorted(solutions)
    assert len(set(exercises)) == len(exercises)
    blocks = re.findall(r"^[:`]{3,}\{solution(?:-start)?\} *\S+\n((?::[^\n]*\n)*)", content, flags=re.M)
    assert all(":class: dropdown" in options for options in blocks)


@each_chapter
def test_chapters_have_exercises(text: Path) -> None:
    assert len(labels("exercise", text.read_text(encoding="utf-8"))) >= FEWEST_EXERCISES


def test_labels_of_the_whole_book_are_unique() -> None:
    content = "\n".join(text.read_text(encoding="utf-8") for text in TEXTS)
    equations = re.findall(r"^\$\$ *\((eq-[\w-]+)\)", content, flags=re.M)
    found = Counter(equations + labels("exercise", content) + re.findall(r"^\(([\w-]+)\)=$", content, flags=re.M))
    assert [label for label, count in found.items() if count > 1] == []


@each_chapter
def test_chapters_have_the_parts_that_readers_expect(text: Path) -> None:
    content = prose(text)
    assert "you can" in content, "goals"
    assert re.search(r"Reading: .+Running: ", content), "time to read and to run"
    headings = [line.lower() for line in re.findall(r"^##+ +(.+)$", content, flags=re.M)]
    for part in ("summary", "exercises", "further reading"):
        assert any(part in heading for heading in headings), part
    assert len(re.findall(r"^# ", content, flags=re.M)) == 1


@each_text
def test_links_between_chapters_name_notebooks_that_exist(text: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+\.[^)#\s]+)", prose(text))  # the rest are labels
    for target in targets:
        assert (BOOK / target).resolve().exists(), target
        assert not re.fullmatch(r"\d\d[a-z]?_\w+\.md", target), f"{target}: link to the notebook"


# The order of chapters

# Where a chapter shows at work what a later one builds: a whole before its parts. All else is defined before it is used, but
# for what workshop pages hold, which a reader may skip.
AHEAD = {
    ("00_preface", "30_transfer_latent_space"),  # modulate
    ("00_preface", "81_digits"),  # as_stated, control_unbeaten, improved_beside_dann, say
    ("10_domain_shift", "12_engine"),  # Learner, Method, Now, Trainer
    ("10_domain_shift", "70_networks"),  # ChunkedBatchNorm
    ("12_engine", "76_evaluation"),  # in_batches
    ("30_transfer_latent_space", "70_networks"),  # PCAFeatures, feature_activation, tap_place
    ("35_adversary", "55_alignment"),  # coral_distance, median_width, mmd_squared
    ("40_cdlm", "71_losses"),  # CDLM, CDLMConfig, objectives, reach_table
    ("40_cdlm", "72_algorithm"),  # literal_losses
    ("40_cdlm", "81_digits"),  # say, stands
    ("51_moments", "70_networks"),  # facing
    ("54_objective", "71_losses"),  # CDLM, CDLMConfig, cdlm_losses, objectives, reach_table
    ("60_data", "61_pictures"),  # LINEMOD_RECIPES, PAIR_RECIPES
    ("60_data", "71_losses"),  # CDLM, CDLMConfig
    ("71_losses", "72_algorithm"),  # fused_losses, literal_losses
    ("79_results", "81_digits"),  # compare_rows, mean_of, say, table_sheet and others of the tables
    ("79_results", "85_verdicts"),  # findings
}


def forward_imports() -> dict[tuple[str, str], set[str]]:
    """Names that a chapter imports and a later one defines, by both; workshop pages are left out."""
    home = {
        name: text.stem for text in TEXTS for _, block in export.read_cells(text)[0]
        for name in export.defined_names(ast.parse(block.source))
    }  # fmt: skip
    found: dict[tuple[str, str], set[str]] = {}
    for text in TEXTS:
        code = "\n".join(chapters.without_magics(cell.source) for cell in code_cells(chapters.read_text(text)))
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("cdlm"):
                for name in (alias.name for alias in node.names):
                    if home.get(name, "") > text.stem and not {text.stem, home[name]} & WORKSHOP:
                        found.setdefault((text.stem, home[name]), set()).add(name)
    return found


@pytest.mark.slow
def test_no_chapter_imports_what_a_later_one_defines() -> None:
    assert {pair: names for pair, names in forward_imports().items() if pair not in AHEAD} == {}
    assert set(AHEAD) <= set(forward_imports()), "a permission that nobody needs"


# Language

BRITISH = (
    r"colou?r(?<!color)\w*|behaviour\w*|neighbour\w*|favour\w*|honour\w*|flavour\w*|rigour|labell(ed|ing)|modell(ed|ing|er)\w*"
    r"|travell(ed|ing)|cancell(ed|ing)|signall(ed|ing)|centred?|centring|grey\w*|metres?|fibres?|whilst|amongst|learnt|artefacts?"
    r"|judgement\w*|defence|offence|licence\w*|fulfil|catalogue\w*|programmes?|analys(ed?|ing)|sceptic\w*|maths"
    r"|\w*(normal|regular|optim|initial|visual|general|organ|real|recogn|summar|maxim|minim|parametr|parameter|factor|vector"
    r"|discret|penal|standard|random|equal|quant|stabil|character|emphas|util|special|marginal|synthes|categor|symmetr|central"
    r"|local|linear|ideal|memor|formal|serial|token|binar|polar|item|final)is(e[drs]?|ers|ing|ation|ations|able)"
)


def british(content: str) -> list[str]:
    return [found[0] for found in re.finditer(rf"\b({BRITISH})\b", content, flags=re.I)]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_spelling_is_american(page: Path) -> None:
    content = re.sub(r"https?://\S+|\{cite[^}]*\}`[^`]*`", "", page.read_text(encoding="utf-8"))
    assert british(content) == []


def test_british_words_are_found() -> None:
    words = "colour Behaviour optimiser normalised unnormalised generalisation labelled centre grey analyse modelling"
    assert british(words) == words.split()
    fine = "color exercise otherwise noise precise supervised raise comprise analysis center gray labeled realistic optimism"
    assert british(fine + " analyses parameters minimizer finalist visual specialist organism normal metric parameterization") == []


@each_text
def test_measured_shares_are_not_typed_into_sentences(text: Path) -> None:
    """A share with decimals was measured: print it, glue it, or say whose it is."""
    for paragraph in re.split(r"\n\s*\n", prose(text)):
        if re.search(r"\d\.\d+ ?(%|\\%|percent)", paragraph):
            assert re.search(r"paper|\{cite|report", paragraph, flags=re.I), paragraph


def test_prose_is_found_and_code_is_not() -> None:
    text = ROOT / "book/src/01_toolbox.md"
    assert "environment variable" in prose(text) and "def profile" not in prose(text) and "linspace" not in prose(text)


def test_a_markdown_only_notebook_has_no_figures() -> None:
    assert figures(new_notebook(cells=[new_markdown_cell("![x](y)")])) == []
