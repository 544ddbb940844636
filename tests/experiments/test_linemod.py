"""The column of LineMod: its runs, its split, its numbers beside the paper's."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pytest
from shell import assert_one_line, here
from toy_bop import toy_bop

from cdlm.domains.linemod import bop_parts
from cdlm.evaluation.selection import RULES
from cdlm.experiments import findings, plan
from cdlm.experiments.claims import Claim
from cdlm.experiments.claims import findings as judge
from cdlm.experiments.linemod import (
    LINEMOD_BUDGETS,
    linemod_job,
    linemod_jobs,
    linemod_rows,
    paper_linemod,
)
from cdlm.experiments.paper import LINEMOD, PAPER_LINEMOD
from cdlm.experiments.plan import TABLE_TASKS, Variant, jobs
from cdlm.experiments.results import result_rows
from cdlm.experiments.tables import PATHS, linemod_accuracies, linemod_runs
from cdlm.files import RunError, read_json
from cdlm.methods.registry import METHODS, build_config
from cdlm.runs.run import check_work
from cdlm.training.team import Team

ROOT = Path(__file__).resolve().parents[2]
RECORDS = sorted((ROOT / "book/results/runs").glob(f"{LINEMOD}_*.json"))
MEASURED = sorted((ROOT / "book/results/measurements").glob("*_linemod_*.json"))
VARIANTS = {variant.name: variant for *_, variant in plan.table_rows()["table2"]}
each_variant = pytest.mark.parametrize("name", VARIANTS)
BARE = ("faithful", "source-only-bare", "adversarial-bare")


def store(folder: Path, variant: Variant, accuracies: Mapping[int, float]) -> None:
    """Records of a variant, as the queue would have written them, with these accuracies by seed."""
    rest = dict.fromkeys(("config", "a_distance", "data", "provenance"), {}) | {"log": [], "seconds": 0.0}
    for seed, value in accuracies.items():
        work = linemod_job(variant, seed)
        shot = {"step": 10, "target_accuracy": value}
        selected = dict.fromkeys(("last", *RULES, "oracle"), shot)
        found = {"selected": selected, "snapshots": [shot | {"seconds": 1.0, "scores": {}}], "target_accuracy": value,
                 "source_accuracy": value}
        found["paths"] = dict.fromkeys(PATHS, value) | {"x_t": value + 0.1}
        (folder / f"{work.name}.json").write_text(json.dumps(rest | {"spec": asdict(work.spec)} | found), encoding="utf-8")


# The plan


@each_variant
def test_a_run_goes_from_renders_to_photographs_by_the_rule_of_color(name: str) -> None:
    """Standardized, recolored, no self-training; bare variants as they are: the rule of the other columns, and no label in it."""
    variant, bare = VARIANTS[name], name in BARE
    spec = linemod_job(variant, 2).spec
    assert (spec.source, spec.target) == ("linemodreal" if name == "target-only" else "linemod3d", "linemodreal")
    assert spec.augment == ({} if bare else plan.COLOR) and spec.strong == {}
    wanted = {"width": LINEMOD_BUDGETS["full"]["width"]} | variant.settings | ({} if bare else plan.COLOR_SETTINGS)
    assert spec.settings == wanted and (spec.size, spec.precision, spec.seed) == ("full", "float32", 2)
    assert not METHODS[spec.method][0].needs_second_view(build_config(spec.method, spec.settings))
    check_work(spec, Team())


@each_variant
def test_recipes_are_those_of_the_other_tasks_in_color(name: str) -> None:
    """But for domains and budget, a run differs in nothing from one on MNIST-M."""
    ours, other = (asdict(made.spec) for made in (linemod_job(VARIANTS[name], 1), plan.job(VARIANTS[name], "mnist-mnistm", 1)))
    budget = ("source", "target", "steps", "batch_size", "precision")
    for spec in (ours, other):
        spec["settings"].pop("width")
        for field in budget:
            spec.pop(field)
    assert ours == other


def test_all_rows_have_one_budget() -> None:
    specs = [made.spec for made in linemod_jobs("linemod", [1, 2])]
    assert len({(spec.steps, spec.batch_size, spec.settings["width"]) for spec in specs}) == 1


def test_jobs_come_seed_by_seed_and_figure_6_asks_for_no_others() -> None:
    found = [made.name for made in linemod_jobs("linemod", [1, 2, 3])]
    assert found == [f"{LINEMOD}_{name}_s{seed}" for seed in (1, 2, 3) for name in VARIANTS] and len(set(found)) == 24
    figure = [made.name for made in linemod_jobs("fig6", [1])]
    assert figure == [f"{LINEMOD}_faithful_s1", f"{LINEMOD}_improved_s1"] and set(figure) <= set(found)


def test_what_is_not_of_linemod_is_refused() -> None:
    with pytest.raises(RunError, match="'table2' is not of LineMod; there are linemod, fig6"):
        linemod_jobs("table2", [1])
    with pytest.raises(RunError, match="profile 'huge'; there are smoke, book, full, gpu"):
        linemod_job(plan.FAITHFUL, 1, "huge")


def test_no_other_table_asks_for_linemod() -> None:
    assert not any("linemod" in work.name for table in TABLE_TASKS for work in jobs(table, [1]))


# No leak


def test_frames_to_test_come_after_those_to_train(tmp_path: Path) -> None:
    _, train, test = bop_parts(toy_bop(tmp_path / "lmo"))
    last, first = max(view.frame for view in train), min(view.frame for view in test)
    between = [path for path in last.parent.iterdir() if last < path < first]
    assert last < first and len(between) == 5, "a gap of five frames"


@pytest.mark.skipif(not os.environ.get("CDLM_DATA"), reason="needs LineMod-Occlusion: set CDLM_DATA to the folder that has lmo/")
def test_frames_of_the_real_film_are_split_so_too() -> None:
    _, train, test = bop_parts(Path(os.environ["CDLM_DATA"]) / "lmo")
    assert max(view.frame for view in train) < min(view.frame for view in test)
    assert not {view.frame for view in train} & {view.frame for view in test}
    assert (len(train), len(test), len({view.frame for view in (*train, *test)})) == (892, 318, 195)


# Numbers


def test_rows_stand_beside_the_numbers_of_the_paper(tmp_path: Path) -> None:
    rows = linemod_rows(tmp_path)
    assert [list(row) for row in rows] == [list(result_rows(tmp_path)[0])] * len(VARIANTS)
    assert all((row["table"], row["task"], row["mean"], row["seeds"]) == ("linemod", LINEMOD, None, []) for row in rows)
    assert [row["paper"] for row in rows] == [0.632, 0.832, 0.984, 0.632, 0.832, None, 0.984, 0.998]
    assert paper_linemod("CDLM improved") == PAPER_LINEMOD["CDLM"] and paper_linemod("CDLMs") is None


def test_means_and_deviations_are_those_of_the_records(tmp_path: Path) -> None:
    store(tmp_path, plan.IMPROVED, {1: 0.5, 2: 0.7})
    store(tmp_path, plan.SOURCE_ONLY, {3: 0.4})
    rows = {(row["method"], row["recipe"]): row for row in linemod_rows(tmp_path)}
    best, single = rows["CDLM", "improved"], rows["source only", "improved"]
    assert (best["mean"], best["std"], best["seeds"]) == (pytest.approx(0.6), pytest.approx(0.02**0.5), [1, 2])
    assert (single["mean"], single["std"], single["seeds"]) == (0.4, None, [3])
    assert linemod_accuracies(tmp_path)["CDLM improved"] == {LINEMOD: {1: 0.5, 2: 0.7}}
    assert [run["spec"]["seed"] for run in linemod_runs(tmp_path)["CDLM improved"].values()] == [1, 2]


def test_claims_about_linemod_are_judged_like_others(tmp_path: Path) -> None:
    store(tmp_path, plan.IMPROVED, {1: 0.70, 2: 0.71, 3: 0.72})
    store(tmp_path, plan.ADVERSARIAL, {1: 0.50, 2: 0.49, 3: 0.51})
    [(task, judged)] = judge(Claim("w", "LineMod", "linemod", "CDLM improved", "DANN"), tmp_path).items()
    assert (task, judged.verdict) == (LINEMOD, "holds") and judged.paper == pytest.approx(0.984 - 0.832)
    [other] = judge(Claim("w", "LineMod", "linemod", "DANN", "CDLM improved"), tmp_path).values()
    assert other.verdict == "opposite"
    [none] = judge(Claim("w", "LineMod", "linemod", "CDLM faithful", "DANN"), tmp_path).values()
    assert none.verdict == "no runs"


def test_findings_say_how_far_a_goal_was_missed(tmp_path: Path) -> None:
    assert findings.linemod_column(tmp_path) == ("LineMod, renders to photographs: no runs on record yet.",)
    store(tmp_path, plan.IMPROVED, {1: 0.50, 2: 0.51, 3: 0.52})
    store(tmp_path, plan.SOURCE_ONLY, {1: 0.40, 2: 0.41, 3: 0.42})
    store(tmp_path, plan.ADVERSARIAL, {1: 0.45, 2: 0.46, 3: 0.44})
    said = "\n".join(findings.linemod_column(tmp_path))
    assert "the highest row is CDLM improved, 0.510 ± 0.010 (3)" in said
    assert "CDLM improved is 10.0 points above source only (above); the goal, more than 20 points above, is missed by 10.0." in said
    assert "CDLM improved is 6.0 points above DANN (above); the goal, above it, is reached." in said
    assert "CDLM faithful beside DANN without augmentation: no runs on record yet." in said
    assert "Of held-out renders the rows read 0.410 (source only) to 0.510 (CDLM improved) right; at this length" in said
    assert "reads 0.610 ± 0.010 (3) of the photographs themselves right, and only 0.510 ± 0.010 (3) of what the model draws" in said


def test_commands_know_the_column(tmp_path: Path) -> None:
    done = here("reproduce", "linemod", "--list", "--results", tmp_path, "--work", tmp_path)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 24 and f"todo {LINEMOD}_improved_s1" in done.stdout
    assert len(here("reproduce", "fig6", "--list", "--seeds", "1", "--results", tmp_path).stdout.splitlines()) == 2
    told = json.loads(here("results", "--json", "--results", tmp_path).stdout)
    assert [row["table"] for row in told].count("linemod") == 8


def test_without_the_data_a_run_says_where_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDLM_DATA", str(tmp_path))
    monkeypatch.setenv("CDLM_CACHE", str(tmp_path / "cache"))
    done = here("reproduce", "linemod", "--profile", "smoke", "--job", "0", "--workers", "1", "--work", tmp_path / "work")
    assert done.returncode == 1 and "LineMod (BOP layout)" in done.stderr and "Traceback" not in done.stderr
    assert_one_line(here("reproduce", "linemod", "--job", "24", "--work", tmp_path), "there are 24 runs, numbered from 0; not 24")


# What is shipped


@pytest.mark.parametrize("path", [*RECORDS, *MEASURED], ids=lambda path: path.stem)
def test_records_hold_numbers_and_no_image(path: Path) -> None:
    """No crop, no render, no drawing: nothing long that is not a number, and no path."""
    def texts(value: object) -> list[str]:
        if isinstance(value, dict):
            return [text for part in value.values() for text in texts(part)]
        return [text for part in value for text in texts(part)] if isinstance(value, list) else [value] * isinstance(value, str)
    found = texts(read_json(path))
    assert all(len(text) < 200 for text in found) and path.stat().st_size < 100_000
    assert not any(re.search(r"base64|^/|[A-Z]:\\", text) for text in found)
