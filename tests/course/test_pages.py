"""The pages for teachers: minutes add up, cells that are named exist, the sheet says what the package does."""

from __future__ import annotations

import re

import course
import pytest
from conftest import ROOT

from cdlm.methods.cdlm import CDLMConfig, reach_table
from chapters import read_text

TEACHING = (ROOT / "book/teaching.md").read_text(encoding="utf-8")
SHEET = (ROOT / "book/cheatsheet.md").read_text(encoding="utf-8")


def chapter(name: str) -> str:
    return (ROOT / f"book/src/{name}.md").read_text(encoding="utf-8")


def rows(text: str) -> list[list[str]]:
    """Cells of all rows of tables, heads left out."""
    lines = re.findall(r"^\| (.+) \|$", text, flags=re.M)
    return [[cell.strip() for cell in line.split(" | ")] for line in lines]


@pytest.mark.parametrize("plan", ["Four", "Eight", "Twelve"])
def test_minutes_are_those_of_the_chapters(plan: str) -> None:
    part = re.search(rf"^### {plan} sessions.*?(?=^##)", TEACHING, flags=re.S | re.M)[0]
    sessions = [row for row in rows(part) if row[0].isdigit()]
    assert len(sessions) == {"Four": 4, "Eight": 8, "Twelve": 12}[plan]
    for _, read, minutes, after in sessions:
        names = re.findall(r"\((\d\d_\w+)\.ipynb\)", read)
        stated = [int(re.search(r"Reading: (\d+) minutes", chapter(name))[1]) for name in names]
        assert int(minutes) == sum(stated), read
        assert all((course.TEXTS / f"{name}.md").exists() for name in re.findall(r"`(\w+)`", after))


def test_cells_that_dispel_a_belief_exist() -> None:
    part = TEACHING.split("## What is commonly misunderstood")[1].split("\n## ")[0]
    found = re.findall(r"\((\d\d_\w+)\.ipynb\), `(\w+)`", part)
    assert len(found) == 10
    for name, cell in found:
        assert re.search(rf"^(def|class) {cell}\b|^{cell} = ", chapter(name), flags=re.M), (name, cell)


def test_table_of_assignments_has_all_with_their_points() -> None:
    listed = {row[0].partition(":")[0].strip("`"): (row[2], row[3]) for row in rows(TEACHING) if re.match(r"`\w+`: ", row[0])}
    points = {path.stem: sum(case.points for group in course.cases(read_text(path)).values() for case in group)
              for path in course.texts()}
    assert {name: int(machine) for name, (machine, _) in listed.items()} == points
    assert {name for name, (_, hand) in listed.items() if hand != "–"} == {"ablation"}


def test_sheet_says_who_is_reached_as_the_package_does() -> None:
    table = reach_table(CDLMConfig())
    stated = {row[0]: row[1:] for row in rows(SHEET) if row[0] in table}
    assert set(stated) == set(table)
    for name, cells in stated.items():
        for learner, cell in zip(("phi", "theta", "theta_T", "xi"), cells):
            weight = 0.0 if cell == "–" else float(cell.partition(",")[0])
            assert weight == table[name].get(learner, 0.0), (name, learner)
    assert "reversed" in stated["adv"][0]


def test_sheet_has_the_defaults_of_the_package() -> None:
    config = CDLMConfig()
    for value, text in ((config.weights.gamma1, r"\gamma_1 = 1$"), (config.weights.gamma2, r"\gamma_2 = 0.1$"),
                        (config.weights.beta1, r"\beta_1 = 0.1$"), (config.weights.beta2, r"\beta_2 = 0.01$"),
                        (config.reach.reversal, "grows to 0.15"), (config.updates.lr_phi, "(rate 0.05)"),
                        (config.updates.lr_theta, "(0.001)")):
        assert text in SHEET and f"{value:g}" in text
    assert config.weights.lambda1 == config.weights.lambda2 == 1e-4
