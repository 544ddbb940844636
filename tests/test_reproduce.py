"""The queue: from tables to runs, one record each, whatever is cut off, deleted, damaged or shared on the way."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from cdlm.cli import app, parse_seeds
from cdlm.paper import PAPER, TASKS
from cdlm.plan import (
    COLOR,
    CONTROL,
    FAITHFUL,
    FIGURE_TASKS,
    GRAY,
    IMPROVED,
    SOURCE_ONLY,
    TABLE_TASKS,
    TARGET_ONLY,
    Job,
    cells,
    in_color_domain,
    job,
    jobs,
    table_rows,
)
from cdlm.reproduce import (
    RECORDED,
    by_cause,
    by_dask,
    by_processes,
    carry_out,
    fitting_workers,
    is_valid,
    reproduce,
    selections,
    short,
    steps_done,
)
from cdlm.results import cell_values, paper_value, read_runs, result_rows
from cdlm.runs import CHECKPOINT, RunError, build_config, partial_of
from cdlm.selection import RULES

RUNS = ROOT / "book/results/runs"
VARIANTS = {cell.variant.name: cell.variant for table in TABLE_TASKS for cell in cells(table)}
posix = pytest.mark.skipif(os.name != "posix", reason="kill -9 of POSIX systems")


@pytest.fixture(autouse=True)
def only_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same data on every machine: those that come with packages."""
    monkeypatch.delenv("CDLM_DATA", raising=False)
    monkeypatch.setenv("CDLM_OFFLINE", "1")


def tiny(method: str = "plain", task: str = "mnist-mnistm", seed: int = 1, steps: int = 10) -> Job:
    """A job of seconds."""
    work = job({"plain": SOURCE_ONLY, "improved": IMPROVED}[method], task, seed, "smoke")
    return Job(work.name, replace(work.spec, steps=steps, settings=work.spec.settings | {"width": 2}))


def found_in(path: Path) -> dict:
    """What a record says was found, without when, where and how fast."""
    record = json.loads(path.read_text(encoding="utf-8"))
    record["snapshots"] = [{k: v for k, v in s.items() if k != "seconds"} for s in record["snapshots"]]
    return {k: v for k, v in record.items() if k not in ("seconds", "provenance")}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with "records" and "runs" of two jobs, one with a decoder."""
    folder = tmp_path_factory.mktemp("queue")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CDLM_DATA", raising=False)
        todo = [tiny(), tiny("improved")]
        assert reproduce(todo, folder / "records", folder / "runs", carry=by_processes(1), quiet=True) == []
    return folder


def cdlm(*words: object) -> subprocess.CompletedProcess:
    """The command, in this process."""
    done = CliRunner().invoke(app, [*map(str, words)])
    return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)


def refused(*words: object) -> str:
    """The one line by which the command refuses."""
    done = cdlm(*words)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and done.stderr.startswith("error: "), done.stderr
    return done.stderr


# The plan


def test_every_cell_that_the_paper_fills_is_ours_and_has_its_number() -> None:
    for table, rows in PAPER.items():
        ours = {(cell.row, cell.task) for cell in cells(table)}
        assert {(row, task) for row, by_task in rows.items() for task in by_task} <= ours
        assert set(TABLE_TASKS[table]) == {task for by_task in rows.values() for task in by_task}


def test_a_name_is_one_variant_and_one_run() -> None:
    for name, count in Counter(cell.variant.name for table in TABLE_TASKS for cell in cells(table)).items():
        same = [cell.variant for table in TABLE_TASKS for cell in cells(table) if cell.variant.name == name]
        assert len(same) == count and all(variant == same[0] for variant in same)
    specs = {}
    for work in (work for what in (*TABLE_TASKS, *FIGURE_TASKS) for work in jobs(what, [1, 2])):
        assert specs.setdefault(work.name, work.spec) == work.spec
    assert len({json.dumps(asdict(spec), sort_keys=True) for spec in specs.values()}) == len(specs), "two names for one run"


def test_runs_come_seed_by_seed_and_once() -> None:
    todo = jobs("table3", [5, 2])
    assert [work.spec.seed for work in todo] == [5] * 16 + [2] * 16 and len({work.name for work in todo}) == 32
    assert jobs("table3", [5, 5]) == jobs("table3", [5]) and jobs("fig9", []) == []
    assert {work.name for work in jobs("fig9", [1])} <= {work.name for work in jobs("table2", [1])}


@pytest.mark.parametrize("task", TASKS)
def test_the_rule_of_color(task: str) -> None:
    color = "mnistm" in task or "fashionm" in task
    assert in_color_domain(task) == color
    for variant in VARIANTS.values():
        spec = job(variant, task, 1).spec
        config = build_config(spec.method, spec.settings)
        assert spec.augment == ({} if variant.bare or not variant.augmented else COLOR if color else GRAY), variant.name
        assert bool(spec.strong) == (getattr(config, "self_training", 0) > 0)
        if color and not variant.bare:
            assert config.standardize and not config.self_training


def test_budgets_and_sides() -> None:
    small, full = (job(TARGET_ONLY, "usps-mnist", 3, profile).spec for profile in ("smoke", "full"))
    assert (small.source, small.target) == (full.source, full.target) == ("mnist", "mnist"), "trained where it is tested"
    assert small.steps < full.steps and small.settings["width"] < full.settings["width"] and full.size == "full"
    assert {(work.spec.steps, work.spec.settings["width"], work.spec.batch_size)
            for table in TABLE_TASKS for work in jobs(table, [1])} == {(full.steps, full.settings["width"], full.batch_size)}


def test_the_control_is_the_recipe_without_a_decoder() -> None:
    """What the control is set to is what ImprovedConfig has by default."""
    improved, control = build_config("improved", IMPROVED.settings), build_config("plain", CONTROL.settings)
    for name in ("domain_statistics", "conditional", "entropy", "self_training", "confidence", "reversal", "latent", "momentum"):
        assert getattr(improved, name) == getattr(control, name), name
    for task in TASKS:
        one, other = job(IMPROVED, task, 1).spec, job(CONTROL, task, 1).spec
        assert (one.augment, one.strong, one.steps, one.batch_size) == (other.augment, other.strong, other.steps, other.batch_size)
    assert not FAITHFUL.settings and FAITHFUL.bare and FAITHFUL.method == "cdlm", "the config's defaults and nothing else"


def test_what_is_not_in_the_plan_is_refused() -> None:
    with pytest.raises(RunError, match="nothing is called 'table4' here; there are table2"):
        jobs("table4", [1])
    with pytest.raises(RunError, match="'fig5' is no table of ours"):
        cells("fig5")
    with pytest.raises(RunError, match="profile 'tiny'; there are smoke, book, full"):
        job(IMPROVED, "mnist-usps", 1, "tiny")


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6))
def test_seeds_as_they_are_written(seeds: list[int]) -> None:
    assert parse_seeds(",".join(map(str, seeds))) == list(dict.fromkeys(seeds))
    low, high = min(seeds), max(seeds)
    assert parse_seeds(f"{low}-{high}") == list(range(low, high + 1))


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "3-1", "1,,2", "1.5", "1 2"])
def test_other_forms_of_seeds_are_refused(text: str) -> None:
    with pytest.raises(RunError, match="seeds have the form"):
        parse_seeds(text)


# Selection


def snapshots_of(accuracies: list[float], scores: list[float]) -> list[dict]:
    return [{"step": 10 * i, "target_accuracy": a, "scores": {rule: s * (1 + j) for j, rule in enumerate(RULES)}}
            for i, (a, s) in enumerate(zip(accuracies, scores))]


@given(st.permutations([0.1, 0.2, 0.3, 0.4]), st.permutations([1.0, 2.0, 3.0, 4.0]))
def test_no_rule_but_the_oracle_looks_at_target_accuracy(accuracies: list[float], scores: list[float]) -> None:
    found = selections(snapshots_of(accuracies, scores))
    assert list(found) == ["last", *RULES, "oracle"]
    assert found["last"]["step"] == 30 and found["oracle"]["target_accuracy"] == 0.4
    assert {found[rule]["step"] for rule in RULES} == {10 * scores.index(4.0)}, "the largest score, whatever the accuracies"
    assert all(found[name]["target_accuracy"] == accuracies[found[name]["step"] // 10] for name in found)


# Records


def test_a_record_says_what_was_asked_found_and_where(made: Path) -> None:
    for work in (tiny(), tiny("improved")):
        record = json.loads((made / "records" / f"{work.name}.json").read_text())
        assert RECORDED <= record.keys()
        assert record["spec"] == json.loads(json.dumps(asdict(work.spec))) | {"size": "sample"}, "which data the best were"
        settings = asdict(build_config(work.spec.method, work.spec.settings))
        assert set(settings) - set(record["config"]) == {"channels", "size", "classes"}, "the data decide on these"
        assert record["config"].items() <= settings.items()
        assert [s["step"] for s in record["snapshots"]] == list(range(1, 11)) and record["log"][-1]["step"] == 10
        assert {"python", "packages", "revision", "hardware"} <= record["provenance"].keys() and record["data"]
        assert record["selected"]["last"]["target_accuracy"] == pytest.approx(record["target_accuracy"], abs=1e-6)
        assert set(record["a_distance"]) == ({"pixels", "h", "codes"} if work.spec.method == "improved" else {"pixels", "h"})
    assert set(record["paths"]) == {"x_t", "x_hat_ts", "x_tilde_t", "h"}, "of the one with a decoder"


def test_numbers_are_cut_to_six_digits_however_deep() -> None:
    assert short({"a": [1 / 3, {"b": 123456789.0}], "c": 7, "d": "x", "e": None}) == {
        "a": [0.333333, {"b": 123457000.0}], "c": 7, "d": "x", "e": None}


def test_what_does_not_count_as_a_record(made: Path, tmp_path: Path) -> None:
    work = tiny()
    good = made / "records" / f"{work.name}.json"
    assert is_valid(good, work.spec)
    for other in (replace(work.spec, seed=2), replace(work.spec, steps=11), replace(work.spec, augment={}),
                  replace(work.spec, settings=work.spec.settings | {"width": 4})):
        assert not is_valid(good, other)
    text = good.read_text()
    for damaged in (text[:-50], "", "[]", "null", '{"spec": 3}', text.replace('"selected"', '"chosen"')):
        (tmp_path / "one.json").write_text(damaged)
        assert not is_valid(tmp_path / "one.json", work.spec)
    assert not is_valid(tmp_path / "absent.json", work.spec)
    assert is_valid(good, replace(work.spec, size="best")), "any size of the data is the best that there was"
    assert not is_valid(good, replace(work.spec, size="full"))


def test_a_damaged_record_is_made_again_without_training_again(made: Path, tmp_path: Path) -> None:
    work, records = tiny(), tmp_path / "records"
    shutil.copytree(made / "runs", tmp_path / "runs")
    records.mkdir()
    (records / f"{work.name}.json").write_text("{")
    stamp = (tmp_path / "runs" / work.name / "weights.safetensors").stat().st_mtime_ns
    assert reproduce([work], records, tmp_path / "runs", carry=by_processes(1), quiet=True) == []
    assert found_in(records / f"{work.name}.json") == found_in(made / "records" / f"{work.name}.json")
    assert (tmp_path / "runs" / work.name / "weights.safetensors").stat().st_mtime_ns == stamp
    assert [path.name for path in records.iterdir()] == [f"{work.name}.json"], "nothing half-written is left"


def test_a_folder_with_another_run_is_not_taken_for_ours(made: Path, tmp_path: Path) -> None:
    work = tiny()
    shutil.copytree(made / "runs", tmp_path / "runs")
    message = carry_out(Job(work.name, replace(work.spec, seed=9)), tmp_path, tmp_path / "runs")
    assert message.startswith(f"{work.name}: ") and "holds another run" in message and not list(tmp_path.glob("*.json"))


# The queue


def test_two_workers_make_the_records_of_one(made: Path, tmp_path: Path) -> None:
    todo = [tiny(), tiny("improved")]
    assert reproduce(todo, tmp_path / "records", tmp_path / "runs", carry=by_processes(2), quiet=True) == []
    for work in todo:
        assert found_in(tmp_path / "records" / f"{work.name}.json") == found_in(made / "records" / f"{work.name}.json")


def test_a_cluster_makes_the_same_record(made: Path, tmp_path: Path) -> None:
    pytest.importorskip("dask.distributed")
    work = tiny()
    assert reproduce([work], tmp_path / "records", tmp_path / "runs", carry=by_dask("local", 1), quiet=True) == []
    assert found_in(tmp_path / "records" / f"{work.name}.json") == found_in(made / "records" / f"{work.name}.json")


@pytest.mark.skipif(importlib.util.find_spec("dask") is None, reason="Dask is not installed")
def test_a_cluster_that_does_not_answer_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no Dask cluster answers at nowhere:1"):
        reproduce([tiny()], tmp_path / "records", tmp_path / "runs", carry=by_dask("nowhere:1", 1), quiet=True)


def test_without_dask_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask.distributed", None)
    with pytest.raises(RunError, match=r'pip install "cdlm\[cluster\]"'):
        by_dask("local", 1)


def test_one_bad_run_does_not_end_the_queue(tmp_path: Path) -> None:
    good = tiny(steps=2)
    bad = [Job(f"bad{i}_s1", replace(good.spec, target="mars")) for i in range(3)]
    unforeseen = Job("odd_s1", replace(good.spec, batch_size="many"))
    failed = reproduce([*bad, unforeseen, good], tmp_path / "records", tmp_path / "runs", carry=by_processes(1), quiet=True)
    assert len(failed) == 4 and all("\n" not in line for line in failed) and failed[0].startswith("bad0_s1: unknown domain 'mars'")
    assert failed[3].startswith("odd_s1: ") and [path.name for path in (tmp_path / "records").iterdir()] == [f"{good.name}.json"]
    lines = by_cause(failed)
    assert len(lines) == 2 and lines[0].startswith("bad0_s1, bad1_s1 and 1 more: unknown domain 'mars'")


def test_steps_done_are_read_off_from_records_and_logs(made: Path, tmp_path: Path) -> None:
    work = tiny()
    assert steps_done(work, made / "records", made / "runs") == 10
    assert steps_done(work, tmp_path, tmp_path) == 0
    partial = partial_of(tmp_path / work.name)
    partial.mkdir()
    (partial / "log.csv").write_text("step,task\n3,0.5\n6,0.4\n")
    assert steps_done(work, tmp_path, tmp_path) == 6


def test_no_more_workers_than_work_and_one_for_a_gpu() -> None:
    assert fitting_workers(0, "cpu") == fitting_workers(1, "cpu") == fitting_workers(9, "cuda") == 1
    assert 1 <= fitting_workers(10**6, "cpu") <= os.cpu_count()


def test_nothing_is_trained_that_cannot_be_stored(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write to .*name another folder"):
        reproduce([tiny()], tmp_path / "file" / "records", tmp_path / "runs", quiet=True)
    assert not (tmp_path / "runs").exists()


# The command


def smoke(folder: Path, *words: object) -> list[str]:
    return ["reproduce", "table2", "--profile", "smoke", "--seeds", "1", "--results", str(folder / "records"), "--work",
            str(folder / "runs"), *map(str, words)]


SMALL_JOB = [work.name for work in jobs("table2", [1], "smoke")].index("mnist-mnistm_source_s1")


@posix
def test_killed_resumed_deleted_and_made_again(tmp_path: Path) -> None:
    """kill -9 in the middle, the same command again; then the record and its run are thrown away and made anew."""
    words = [sys.executable, "-m", "cdlm", *smoke(tmp_path, "--job", SMALL_JOB)]
    path, partial = (tmp_path / "records/mnist-mnistm_source_s1.json"), partial_of(tmp_path / "runs/mnist-mnistm_source_s1")
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (partial / CHECKPOINT).exists():
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -9 and not path.exists(), "it had ended before it was killed"
    assert "1 runs are on record" in cdlm(*smoke(tmp_path, "--job", SMALL_JOB)).stdout
    resumed = found_in(path)
    path.unlink()
    shutil.rmtree(tmp_path / "runs")
    assert cdlm(*smoke(tmp_path, "--job", SMALL_JOB)).returncode == 0
    assert found_in(path) == resumed


def test_the_list_says_what_is_done(made: Path, tmp_path: Path) -> None:
    lines = cdlm(*smoke(tmp_path, "--list")).stdout.splitlines()
    assert len(lines) == len(jobs("table2", [1])) and all(line.split()[1] == "todo" for line in lines)
    assert lines[SMALL_JOB].split() == [str(SMALL_JOB), "todo", "mnist-mnistm_source_s1"]
    assert not (tmp_path / "records").exists(), "a list makes nothing"
    done = cdlm("reproduce", "table2", "--seeds", "1-3", "--list", "--results", RUNS).stdout.splitlines()
    assert len(done) == 144 and Counter(line.split()[1] for line in done) == {"done": 144}, "the records of the book"


def test_wrong_words_get_one_line(tmp_path: Path) -> None:
    assert "nothing is called 'table4' here" in refused("reproduce", "table4")
    assert "there are 48 runs, numbered from 0; not 48" in refused(*smoke(tmp_path, "--job", 48))
    assert "seeds have the form" in refused("reproduce", "table2", "--seeds", "x")
    assert "device 'tpu' cannot be used here" in refused(*smoke(tmp_path, "--device", "tpu"))
    (tmp_path / "file").write_text("")
    assert "cannot write to" in refused(*smoke(tmp_path / "file", "--job", SMALL_JOB))
    assert "selection is one of last" in refused("results", "--selection", "best")


def test_failures_are_told_by_cause_and_the_status_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """USPS is in no package: without data, the runs that need it fail, in one line for all of them."""
    todo = [tiny(task="mnist-usps", steps=2), tiny(task="usps-mnist", steps=2), tiny(steps=2)]
    monkeypatch.setattr("cdlm.cli.jobs", lambda *_: todo)
    done = cdlm(*smoke(tmp_path, "--workers", 1))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "mnist-usps_source_s1" in done.stderr and "usps" in done.stderr
    assert "2 of 3 runs failed; the same command tries them again" in done.stderr.splitlines()[-1]
    assert [path.name for path in (tmp_path / "records").iterdir()] == ["mnist-mnistm_source_s1.json"]


# Results


def test_rows_of_results_where_there_are_records_and_where_not(made: Path, tmp_path: Path) -> None:
    rows = result_rows(tmp_path)
    assert len(rows) == sum(len(cells(table)) for table in TABLE_TASKS)
    for row in rows:
        assert list(row) == ["table", "task", "method", "recipe", "paper", "mean", "std", "seeds", "selection"]
        assert row["mean"] is row["std"] is None and row["seeds"] == [] and row["selection"] == "last"
    for record in (made / "records").glob("*.json"):
        shutil.copy(record, tmp_path)
    row = next(row for row in result_rows(tmp_path, "oracle") if (row["table"], row["task"], row["method"]) == (
        "table2", "mnist-mnistm", "source only"))
    stored = found_in(made / "records/mnist-mnistm_source_s1.json")
    assert row["mean"] == pytest.approx(stored["selected"]["oracle"]["target_accuracy"]) and row["std"] is None
    assert row["seeds"] == [1] and row["selection"] == "oracle" and row["paper"] == PAPER["table2"]["source only"]["mnist-mnistm"]


def test_cell_values_by_rule_and_by_path(made: Path) -> None:
    runs = read_runs(IMPROVED, "mnist-mnistm", made / "records")
    assert cell_values(runs).tolist() == [runs[0]["selected"]["last"]["target_accuracy"]]
    assert cell_values(runs, path="h").tolist() == [runs[0]["paths"]["h"]] and cell_values([]).numel() == 0


def test_the_paper_has_one_number_for_rows_of_either_kind() -> None:
    for row in ("source only", "source only without augmentation"):
        assert paper_value("table2", row, "mnist-usps") == 0.634
    assert paper_value("table2", "CDLM faithful", "mnist-usps") == paper_value("table2", "CDLM", "mnist-usps") == 0.961
    assert paper_value("table6", "(1.0, 0)", "mnist-usps") == 0.961 and paper_value("table6", "(1.0, 0.1)", "mnist-usps") == 0.961
    for table, row, task in (("table2", "no decoder", "mnist-usps"), ("ingredients", "all", "mnist-usps"), ("table3", "both", "x")):
        assert paper_value(table, row, task) is None


def test_records_of_two_questions_are_not_put_together(made: Path, tmp_path: Path) -> None:
    record = json.loads((made / "records/mnist-mnistm_source_s1.json").read_text())
    def put(seed: int, **changes: object) -> None:
        spec = record["spec"] | {"seed": seed} | changes
        (tmp_path / f"mnist-mnistm_source_s{seed}.json").write_text(json.dumps(record | {"spec": spec}))
    put(1)
    put(2)
    assert [run["spec"]["seed"] for run in read_runs(SOURCE_ONLY, "mnist-mnistm", tmp_path)] == [1, 2]
    put(3, steps=99)
    with pytest.raises(RunError, match="cannot be put together"):
        read_runs(SOURCE_ONLY, "mnist-mnistm", tmp_path)
    put(3, method="cdlm")
    with pytest.raises(RunError, match="is of cdlm, not of plain"):
        read_runs(SOURCE_ONLY, "mnist-mnistm", tmp_path)
    (tmp_path / "mnist-mnistm_source_s3.json").write_text("{}")
    with pytest.raises(RunError, match="is not the record of a run"):
        read_runs(SOURCE_ONLY, "mnist-mnistm", tmp_path)


# The records of the book


def test_every_record_of_the_book_is_of_a_run_of_the_plan() -> None:
    found, data = sorted(RUNS.glob("*.json")), {}
    assert len(found) >= 144
    for path in found:
        task, variant, seed = path.stem.split("_")
        spec = job(VARIANTS[variant], task, int(seed.removeprefix("s"))).spec
        assert is_valid(path, spec), path.name
        record = json.loads(path.read_text())
        assert record["config"].items() <= asdict(build_config(spec.method, spec.settings)).items(), path.name
        if not VARIANTS[variant].on_target:
            assert data.setdefault(task, record["data"]) == record["data"], f"{path.name} has seen other data"


def test_the_command_prints_one_object_for_each_cell() -> None:
    rows = json.loads(cdlm("results", "--json", "--results", RUNS).stdout)
    assert [(row["table"], row["method"], row["task"]) for row in rows] == [
        (table, cell.row, cell.task) for table in table_rows() for cell in cells(table)]
    for row in (row for row in rows if row["table"] in ("table2", "table3")):
        assert len(row["seeds"]) >= 3 and 0 < row["mean"] < 1 and 0 <= row["std"] < 0.2
    text = cdlm("results", "--results", RUNS).stdout.splitlines()
    assert len(text) == len(rows) + 1 and text[0].split() == ["table", "task", "method", "recipe", "paper", "ours", "std", "seeds"]
    empty = cdlm("results", "--json", "--results", RUNS / "nowhere")
    assert empty.returncode == 0 and "no record of a run" in empty.stderr and len(json.loads(empty.stdout)) == len(rows)
