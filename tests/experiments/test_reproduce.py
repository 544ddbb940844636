"""The queue of runs: from tables to jobs, records that can be trusted, kills and failures, our numbers beside the paper's."""

from __future__ import annotations

import io
import json
import math
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import long_queue
import pytest
import queue_run
import torch
from conftest import ROOT
from filelock import FileLock, Timeout
from folders import copied, without_checksums
from hypothesis import given
from hypothesis import strategies as st
from shell import assert_one_line, here, posix
from tqdm import tqdm

from cdlm.cli import experiments
from cdlm.cli.experiments import job_line, parse_seeds, summary
from cdlm.evaluation.selection import RULES
from cdlm.experiments import plan, queue
from cdlm.experiments import record as record_module
from cdlm.experiments.linemod import linemod_jobs, linemod_rows
from cdlm.experiments.paper import LINEMOD, PAPER, TASKS
from cdlm.experiments.plan import FIGURE_TASKS, TABLE_TASKS, Job, Variant, cells, in_color_domain, job, jobs, table_rows
from cdlm.experiments.queue import by_cause, by_dask, by_processes, steps_done
from cdlm.experiments.record import carry_out, is_valid, record_of, selections
from cdlm.experiments.results import cell_values, paper_value, read_runs, result_rows
from cdlm.experiments.translation import table4_cells
from cdlm.files import RunError, read_json, write_json
from cdlm.methods.registry import METHODS, build_config
from cdlm.runs.record import OLD_NAMES, read_record, record_path
from cdlm.runs.run import same_data
from cdlm.runs.spec import RunSpec
from cdlm.settings import flat
from cdlm.shapes import RunRecord

RUNS = ROOT / "book/results/runs"
each_table = pytest.mark.parametrize("table", TABLE_TASKS)


# From a table to runs


@each_table
def test_a_table_has_each_row_on_each_of_its_tasks(table: str) -> None:
    found = {(cell.row, cell.recipe, cell.task) for cell in cells(table)}
    wanted = {(row, recipe, task) for row, recipe, _ in table_rows()[table] for task in TABLE_TASKS[table]}
    left_out = {("without self-training", "improved", "fashion-fashionm")} if table == "ingredients" else set()
    assert found == wanted - left_out and len(cells(table)) == len(found)
    assert all(cell.table == table for cell in cells(table))


def test_names_of_variants_are_unique_and_fit_into_names_of_files() -> None:
    variants = [variant for rows in table_rows().values() for _, _, variant in rows]
    by_name = {variant.name: variant for variant in variants}
    assert all(by_name[variant.name] == variant for variant in variants)
    assert all("_" not in name and "/" not in name for name in by_name)
    specs = [json.dumps(asdict(job(variant, "mnist-usps", 1).spec)) for variant in by_name.values()]
    assert len(set(specs)) == len(specs), "two names for one training"


def test_what_tables_share_is_run_once() -> None:
    found = [work for table in TABLE_TASKS for work in jobs(table, [1])]
    by_name = {work.name: work for work in found}
    assert all(by_name[work.name] == work for work in found) and len(by_name) < len(found)
    full = {f"{task}_improved_s1" for task in TABLE_TASKS["table7"]}
    for table in ("table2", "table3", "table5", "table6", "table7", "ingredients"):
        assert full & {work.name for work in jobs(table, [1])}
    assert {w.name for what in FIGURE_TASKS for w in jobs(what, [1])} <= {w.name for w in jobs("table2", [1])}


def test_the_trainings_of_one_seed_are_all_different() -> None:
    found = {work.name: work.spec for table in TABLE_TASKS for work in jobs(table, [1])}
    assert len({json.dumps(asdict(spec), sort_keys=True) for spec in found.values()}) == len(found)


@each_table
def test_every_entry_that_the_paper_has_too_has_its_number(table: str) -> None:
    without = {"no decoder", "MCC", "SHOT", "AdaMatch", "CDRD", "E-CDRD", "StarGAN"}   # not in the paper's table
    between_gray_digits = {"TPN", "SymmNets-V2", "ILA-DA"}      # in it on two tasks of six
    gray_digits = {"mnist-usps", "usps-mnist"}
    for cell in cells(table):
        value = paper_value(table, cell.row, cell.task)
        if table == "ingredients" or cell.row in without or cell.row in between_gray_digits and cell.task not in gray_digits:
            assert value is None
        else:
            assert 0 < value < 1
    rows = {cell.row for cell in cells(table)}
    for name, numbers in PAPER.get(table, {}).items():
        assert any(row == name or row.startswith((f"{name} ", f"{name}+")) for row in rows), f"{name} is not run"
        assert set(numbers) == (gray_digits if name in between_gray_digits else set(TABLE_TASKS[table]))


def test_rows_without_augmentation_stand_beside_the_number_of_the_paper() -> None:
    assert paper_value("table2", "source only without augmentation", "mnist-usps") == PAPER["table2"]["source only"]["mnist-usps"]
    assert paper_value("table2", "DANN", "mnist-usps") == paper_value("table2", "DANN without augmentation", "mnist-usps") == 0.774
    assert paper_value("table2", "source only", "usps-svhn") is None
    assert paper_value("table9", "CDLM", "mnist-usps") is None and paper_value("table2", "CDLMs", "mnist-usps") is None


@pytest.mark.parametrize("task", TASKS)
def test_the_rule_of_color(task: str) -> None:
    """Where a domain is in color: standardized, recolored, no self-training. Elsewhere moved. Bare variants: as they are."""
    color = "mnistm" in task or "fashionm" in task
    assert in_color_domain(task) == color
    spec = job(plan.IMPROVED, task, 1).spec
    assert spec.augment == (plan.COLOR if color else plan.GRAY) and spec.strong == ({} if color else plan.GRAY_STRONG)
    assert spec.settings.get("standardize", False) == color and spec.settings.get("self_training") == (0.0 if color else None)
    for variant in (plan.FAITHFUL, plan.BARE_SOURCE_ONLY, plan.BARE_ADVERSARIAL):
        bare = job(variant, task, 1).spec
        assert (bare.augment, bare.strong) == ({}, {}) and bare.settings == {"width": 16} | variant.settings
    assert job(plan.changed_recipe("x", augmented=False), task, 1).spec.augment == {}
    assert job(plan.TARGET_ONLY, task, 1).spec.source == job(plan.TARGET_ONLY, task, 1).spec.target == task.split("-")[1]


def test_jobs_come_seed_by_seed_each_once() -> None:
    found = jobs("table3", [5, 2, 5])
    assert [work.spec.seed for work in found] == [5] * 16 + [2] * 16
    assert [work.name.rpartition("_s")[0] for work in found[:16]] == [work.name.rpartition("_s")[0] for work in found[16:]]
    assert all(work.name.endswith(f"_s{work.spec.seed}") for work in found)
    fig10 = jobs("fig10", [1])
    assert [work.name for work in fig10] == [f"mnist-usps_{name}_s1" for name in ("adversarial", "faithful", "improved")]
    assert jobs("table2", []) == []


@pytest.mark.parametrize("profile, size", [("smoke", "best"), ("book", "best"), ("full", "full"), ("gpu", "full")])
def test_a_profile_sets_steps_width_and_size(profile: str, size: str) -> None:
    spec = job(plan.SOURCE_ONLY, "mnist-usps", 3, profile).spec
    assert (spec.steps, spec.settings["width"]) == tuple(plan.BUDGETS[profile].values()) and spec.size == size
    assert (spec.seed, spec.batch_size, spec.precision) == (3, 64, "bfloat16")


@pytest.mark.parametrize("words, message", [
    (["table9"], "nothing is called 'table9' here; there are table2, table3"),
    (["table2", "--profile", "huge"], "profile 'huge'; there are smoke, book, full"),
    (["table2", "--seeds", "3-1"], "seeds have the form 0-2 or 0,3,5; not '3-1'"),
    (["table2", "--seeds", "one"], "seeds have the form"), (["table2", "--seeds", ""], "seeds have the form"),
    (["table2", "--seeds", "1,"], "seeds have the form"), (["table2", "--seeds", "1-"], "seeds have the form"),
    (["fig10", "--seeds", "1", "--job", "3"], "there are 3 runs, numbered from 0; not 3"),
    (["fig10", "--device", "tpu"], "device 'tpu' cannot be used here"),
])
def test_wrong_words_get_one_line(words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert_one_line(here("reproduce", *words), message)
    assert list(tmp_path.iterdir()) == []


def test_the_control_is_the_recipe_without_a_decoder() -> None:
    """What the control is set to is what ImprovedConfig has by default."""
    improved, control = (build_config(v.method, v.settings) for v in (plan.IMPROVED, plan.CONTROL))
    assert improved.additions == control.additions and improved.reach.reversal == control.reversal
    assert flat(improved).items() >= flat(control).items()
    for task in TASKS:
        one, other = (asdict(job(v, task, 1).spec) for v in (plan.IMPROVED, plan.CONTROL))
        assert all(one[name] == other[name] for name in ("augment", "strong", "steps", "batch_size", "precision", "size"))
    assert plan.FAITHFUL == Variant("faithful", "cdlm", bare=True), "the config's defaults and nothing else"


def test_cells_of_what_is_no_table_are_refused() -> None:
    with pytest.raises(RunError, match="'fig5' is no table of ours"):
        cells("fig5")


PARTS = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 5)), min_size=1, max_size=5)


@given(PARTS)
def test_seeds_are_read_in_order_each_once(parts: list[tuple[int, int]]) -> None:
    text = ",".join(f"{first}-{first + more}" if more else str(first) for first, more in parts)
    wanted = [seed for first, more in parts for seed in range(first, first + more + 1)]
    assert parse_seeds(text) == list(dict.fromkeys(wanted))


@given(st.text("0123-, x", max_size=6))
def test_seeds_of_any_form_are_read_or_refused(text: str) -> None:
    try:
        found = parse_seeds(text)
    except RunError as error:
        assert repr(text) in str(error)
    else:
        assert found and len(set(found)) == len(found) and all(seed >= 0 for seed in found)


# Records


def sample_job(variant: Variant = plan.SOURCE_ONLY, seed: int = 1) -> Job:
    """A small run on the digits that come with packages."""
    made = job(variant, queue_run.TASK, seed, "smoke")
    return made._replace(spec=replace(made.spec, size="sample"))


def numbers(path: Path) -> dict:
    """All that a record says of a run, but for times and the machine."""
    found = read_json(path)
    course = [{name: value for name, value in shot.items() if name != "seconds"} for shot in found["snapshots"]]
    return {name: value for name, value in found.items() if name not in ("seconds", "provenance")} | {"snapshots": course}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Path, Path]:
    """A job that was carried out undisturbed, its folder of records and its folder of runs."""
    place, work = tmp_path_factory.mktemp("queue"), sample_job()
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert queue.reproduce([work], place / "records", place / "runs", carry=by_processes(1), quiet=True) == []
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    return work, place / "records", place / "runs"


def measure_on_few(patched: pytest.MonkeyPatch) -> None:
    """Few images to measure on."""
    patched.setattr(record_module, "UNLABELED", 50)
    patched.setattr(record_module, "COMPARED", 40)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    measure_on_few(monkeypatch)


@pytest.fixture
def small_plan(monkeypatch: pytest.MonkeyPatch, no_data: Path):
    """A function that leaves one table in the plan, with the given rows and one task, on a machine without data."""
    def leave(*variants: Variant) -> None:
        monkeypatch.setattr(plan, "table_rows", lambda: {"table2": [(v.name, "improved", v) for v in variants]})
        monkeypatch.setattr(plan, "TABLE_TASKS", {"table2": (queue_run.TASK,)})
    return leave


def test_a_record_holds_what_was_asked_found_and_where(made: tuple) -> None:
    work, records, _ = made
    found = read_json(records / f"{work.name}.json")
    assert found.keys() == RECORDED | {"selection"} and found["selection"] == "last iteration"
    assert RunSpec(**found["spec"]) == work.spec and found["config"]["width"] == 4 and found["config"]["reversal"] == 0.0
    assert not {"channels", "size", "classes"} & found["config"].keys(), "these are told by the images"
    assert [shot["step"] for shot in found["snapshots"]] == list(range(2, 21, 2)) and len(found["log"]) == 20
    assert set(found["selected"]) == {"last", "oracle", *RULES} and set(found["snapshots"][0]["scores"]) == set(RULES)
    assert found["selected"]["last"] == {name: found["snapshots"][-1][name] for name in ("step", "target_accuracy")}
    assert found["target_accuracy"] == pytest.approx(found["selected"]["last"]["target_accuracy"], abs=2e-3)
    assert set(found["a_distance"]) == {"pixels", "h"} and found["provenance"]["threads"] == 1
    assert found["provenance"]["engine"]["processes"] == 1 and found["seconds"] > 0


@pytest.mark.slow
def test_the_record_of_a_cdlm_has_its_paths_and_codes(tmp_path: Path, quick: None) -> None:
    work = sample_job(plan.FAITHFUL)
    tmp_path.joinpath("records").mkdir()
    assert carry_out(work, tmp_path / "records", tmp_path / "runs") == ""
    found = read_json(tmp_path / f"records/{work.name}.json")
    assert set(found["paths"]) == {"x_t", "x_hat_ts", "x_tilde_t", "h"} and set(found["a_distance"]) == {"pixels", "h", "codes"}
    assert found["paths"]["x_tilde_t"] == pytest.approx(found["target_accuracy"], abs=0.05)     # other noise, 500 images
    assert cell_values([found], path="h").tolist() == [found["paths"]["h"]]


def test_only_the_record_of_this_very_spec_is_valid(made: tuple, tmp_path: Path) -> None:
    work, records, _ = made
    path = records / f"{work.name}.json"
    assert is_valid(path, work.spec) and is_valid(path, replace(work.spec, size="best"))
    changes = [{"seed": 2}, {"steps": 21}, {"settings": {"width": 5}}, {"augment": {}}, {"size": "full"}, {"method": "source"},
               {"source": "optdigits"}, {"precision": "float32"}, {"strong": {"degrees": 1.0}}, {"batch_size": 32}]
    assert [change for change in changes if is_valid(path, replace(work.spec, **change))] == []
    assert not is_valid(tmp_path / "none.json", work.spec)
    text, copy = path.read_text(), tmp_path / "copy.json"
    for content in ("", "{", "[]", "3", text[: len(text) // 2], text[:-3], json.dumps({"spec": asdict(work.spec)})):
        copy.write_text(content)
        assert not is_valid(copy, work.spec), content[:30]
    assert RECORDED == NOTHING.keys() | {"spec", "selected"}
    for name in RECORDED:
        copy.write_text(json.dumps({key: value for key, value in json.loads(text).items() if key != name}))
        assert not is_valid(copy, work.spec), name
    copy.write_text(json.dumps(json.loads(text) | {"spec": None}))
    assert not is_valid(copy, work.spec)
    copy.write_bytes(b"\xff\xfe\x00")
    assert not is_valid(copy, work.spec)
    assert not is_valid(tmp_path, work.spec), "a folder"


def test_a_record_is_distilled_again_from_the_folder_of_its_run(made: tuple, tmp_path: Path, monkeypatch) -> None:
    work, records, folders = made
    monkeypatch.setattr(record_module, "run", lambda *words, **more: pytest.fail("trained again"))
    assert carry_out(work, tmp_path, folders) == ""
    assert read_json(tmp_path / f"{work.name}.json") == read_json(records / f"{work.name}.json")
    other = work._replace(spec=replace(work.spec, seed=7))
    assert "holds another run; remove it, or name another folder by --work" in carry_out(other, tmp_path, folders)


def test_numbers_of_a_record_are_short_and_those_asked_are_not(made: tuple, tmp_path: Path) -> None:
    work, _, folders = made
    asked = asdict(replace(work.spec, settings={"lr_phi": 0.123456789, "width": 4}))
    copy = copied(folders / work.name, tmp_path / "copy")
    found = record_of(without_checksums(copy, asked, {"target_accuracy": 1 / 3, "seconds": 12.3}))
    assert found["target_accuracy"] == 0.333333 and found["seconds"] == 12.3
    assert found["spec"]["settings"]["lr_phi"] == found["config"]["lr_phi"] == 0.123456789


def test_a_record_is_written_whole_or_not_at_all(made: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work, _, folders = made
    path = tmp_path / f"{work.name}.json"
    path.write_text("the old one")
    def full(*words: object) -> None:
        raise OSError(28, "No space left on device")
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        assert carry_out(work, tmp_path, folders) == f"{work.name}: cannot write {path}: No space left on device"
    assert path.read_text() == "the old one" and list(tmp_path.iterdir()) == [path]
    assert carry_out(work, tmp_path, folders) == "" and is_valid(path, work.spec)


def test_deleted_and_made_again_a_record_has_the_same_numbers(made: tuple, tmp_path: Path) -> None:
    work, records, _ = made
    assert queue.reproduce([work], tmp_path / "records", tmp_path / "runs", carry=by_processes(1), quiet=True) == []
    assert numbers(tmp_path / f"records/{work.name}.json") == numbers(records / f"{work.name}.json")


def test_what_is_on_record_is_not_touched(made: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    work, records, folders = made
    before = {path: path.stat().st_mtime_ns for path in records.iterdir()}
    assert queue.reproduce([work], records, folders, carry=lambda *words: pytest.fail("carried out"), quiet=True) == []
    assert {path: path.stat().st_mtime_ns for path in records.iterdir()} == before


@pytest.mark.parametrize("kind", ["of another width", "cut short", "no record", "a folder"])
def test_a_file_of_the_name_of_a_record_is_not_replaced_by_another_run(made: tuple, tmp_path: Path, kind: str) -> None:
    """As after a change of the plan: the numbers on record are somebody's, and nothing is trained in their place."""
    work, records, _ = made
    path, text = tmp_path / f"{work.name}.json", (records / f"{work.name}.json").read_text()
    wider = work._replace(spec=replace(work.spec, settings={"width": 5}))
    content = {"of another width": text, "cut short": text[: len(text) // 2], "no record": '{"mine": 1}'}.get(kind)
    if content is None:
        path.mkdir()
    else:
        path.write_text(content)
    asked = wider if kind == "of another width" else work
    with pytest.raises(RunError, match=f"{path} exists, and is no older record of the same"):
        queue.reproduce([asked], tmp_path, tmp_path / "runs", carry=lambda *words: pytest.fail("carried out"), quiet=True)
    assert path.is_dir() if content is None else path.read_text() == content


def test_a_record_of_this_run_that_is_not_whole_is_made_again(made: tuple, tmp_path: Path) -> None:
    work, records, folders = made
    whole = read_json(records / f"{work.name}.json")
    path = tmp_path / f"{work.name}.json"
    path.write_text(json.dumps({name: value for name, value in whole.items() if name != "selected"}))
    assert queue.reproduce([work], tmp_path, folders, carry=by_processes(1), quiet=True) == []
    assert read_json(path) == whole


# Selection among snapshots

COURSES = st.lists(st.tuples(st.floats(0, 1), *[st.floats(-5, 5) for _ in RULES]), min_size=1, max_size=8)


def course_of(rows: list[tuple]) -> list[dict]:
    return [{"step": 10 * i, "target_accuracy": row[0], "scores": dict(zip(RULES, row[1:]))} for i, row in enumerate(rows)]


@given(COURSES, st.randoms(use_true_random=False))
def test_rules_never_look_at_target_accuracy(rows: list[tuple], random) -> None:
    accuracies = [row[0] for row in rows]
    random.shuffle(accuracies)
    first, other = selections(course_of(rows)), selections(course_of([(a, *row[1:]) for a, row in zip(accuracies, rows)]))
    for rule in ("last", *RULES):
        assert first[rule]["step"] == other[rule]["step"]
        assert other[rule]["target_accuracy"] == accuracies[other[rule]["step"] // 10]
    assert other["oracle"]["target_accuracy"] == first["oracle"]["target_accuracy"] == max(accuracies)
    assert other["oracle"]["step"] == 10 * accuracies.index(max(accuracies))


def test_selections_take_the_last_the_largest_score_and_the_best() -> None:
    rows = [(0.2, 0, 3, 1, 0), (0.9, 5, 0, 2, 0), (0.4, 1, 1, 9, 0), (0.5, 2, 2, 9, 0)]
    found = selections(course_of(rows))
    assert {rule: taken["step"] for rule, taken in found.items()} == {
        "last": 30, "entropy": 10, "information": 0, "snd": 20, "bnm": 0, "oracle": 10}
    assert found["snd"] == {"step": 20, "target_accuracy": 0.4}


# Killed, interrupted, failing


def started(place: Path, *words: object) -> subprocess.Popen:
    """The command in a process of its own, on a machine without data, with one run at least that has a checkpoint."""
    command = [sys.executable, queue_run.__file__, "reproduce", "table2", "--seeds", "1", "--profile", "smoke",
               "--results", place / "records", "--work", place / "runs", *words]
    environment = os.environ | {"CDLM_DATA": "", "CDLM_CACHE": str(place / "no data"), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([*map(str, command)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 600
    while process.poll() is None and time.monotonic() < deadline and not list(place.glob("runs/*.partial/checkpoint.safetensors")):
        time.sleep(0.005)
    return process


def again(place: Path, *words: object) -> subprocess.CompletedProcess:
    """The same command in this process."""
    return here("reproduce", "table2", "--seeds", "1", "--profile", "smoke", "--workers", 1, "--results", place / "records",
                "--work", place / "runs", *words)


@pytest.mark.slow
@posix
def test_killed_and_resumed_a_run_ends_with_the_same_numbers(made: tuple, tmp_path: Path, small_plan) -> None:
    work, records, _ = made
    small_plan(plan.SOURCE_ONLY, plan.ADVERSARIAL)
    process = started(tmp_path, "--workers", 1, "--job", 0)
    process.kill()
    process.communicate(timeout=600)
    assert process.returncode == -signal.SIGKILL and list((tmp_path / "records").iterdir()) == []
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [f"{work.name}.partial"]
    done = steps_done(work, tmp_path / "records", tmp_path / "runs")
    assert 0 < done < work.spec.steps
    finished = again(tmp_path, "--job", 0)
    assert finished.returncode == 0 and finished.stdout == f"1 runs are on record in {tmp_path / 'records'}\n", finished.stderr
    assert numbers(tmp_path / f"records/{work.name}.json") == numbers(records / f"{work.name}.json")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [work.name], "nothing is left of the kill"
    assert steps_done(work, tmp_path / "records", tmp_path / "runs") == work.spec.steps


def children_of(process: int) -> list[int]:
    """The processes that a process has started, and those that these have started."""
    found = [int(word) for path in Path(f"/proc/{process}/task").glob("*/children") for word in path.read_text().split()]
    return found + [child for one in found for child in children_of(one)]


def is_there(process: int) -> bool:
    """Whether a process is running; one that has ended and waits for its parent is not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to see processes")
def test_workers_end_with_their_queue_and_free_its_locks(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, long_queue.__file__, str(tmp_path)], env=os.environ | {"PYTHONPATH": str(ROOT)})
    locks = [tmp_path / f"runs/long_{seed}.partial/.lock" for seed in (1, 2)]
    deadline = time.monotonic() + 600
    while not all(path.with_name("log.csv").exists() for path in locks) and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = children_of(process.pid)
    assert len(workers) >= 2 and process.poll() is None and all(path.with_name("log.csv").exists() for path in locks)
    with pytest.raises(Timeout):
        FileLock(locks[0]).acquire(timeout=0)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while any(map(is_there, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_there, workers))
    for path in locks:
        with FileLock(path, timeout=0):
            pass


@pytest.mark.slow
@posix
def test_an_interrupt_ends_the_queue_with_one_line(tmp_path: Path) -> None:
    process = started(tmp_path, "--workers", 1)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=600)
    assert (process.returncode, out) == (130, "")
    assert errors == "error: interrupted with 0 of 2 runs on record; the same command goes on\n"
    partial, = (tmp_path / "runs").iterdir()
    assert (partial / "checkpoint.safetensors").exists()


OPERATIONS = ("replace", "rename", "fsync", "link", "unlink", "mkdir", "open")
SHORT = sample_job()
SHORT = SHORT._replace(spec=replace(SHORT.spec, steps=3))


def die_in(place: Path, number: int, done: Path) -> None:
    """Carry out a queue of one short run, and end by SIGKILL at its ``number``-th file operation, before that is done; the
    file ``done`` says that there were fewer."""
    count, kill, process = 0, os.kill, os.getpid()

    def deadly(real):
        def call(*words, **more):
            nonlocal count
            count += 1
            if count == number:
                kill(process, signal.SIGKILL)
            return real(*words, **more)
        return call
    for name in OPERATIONS:
        setattr(os, name, deadly(getattr(os, name)))
    queue.reproduce([SHORT], place / "records", place / "runs", carry=by_processes(1), quiet=True)
    done.write_text(str(count))


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What the record of the short run says where nothing has disturbed it."""
    place = tmp_path_factory.mktemp("short")
    with pytest.MonkeyPatch.context() as patched:
        measure_on_few(patched)
        assert queue.reproduce([SHORT], place / "records", place / "runs", carry=by_processes(1), quiet=True) == []
    return numbers(place / f"records/{SHORT.name}.json")


@posix
@pytest.mark.parametrize("number", [3, 30, *(pytest.param(n, marks=pytest.mark.slow) for n in (*range(1, 60, 3), 60, 62, 64))])
def test_killed_at_any_file_operation_the_queue_ends_with_the_same_record(number: int, short: dict, quick: None,
                                                                          tmp_path: Path) -> None:
    child = multiprocessing.get_context("fork").Process(target=die_in, args=(tmp_path, number, tmp_path / "done"))
    child.start()
    child.join(600)
    assert (child.exitcode == 0) == (tmp_path / "done").exists() and child.exitcode in (0, -signal.SIGKILL)
    record = tmp_path / f"records/{SHORT.name}.json"
    assert not record.exists() or numbers(record) == short, "half a record"
    assert queue.reproduce([SHORT], tmp_path / "records", tmp_path / "runs", carry=by_processes(1), quiet=True) == []
    assert numbers(record) == short
    assert os.listdir(tmp_path / "runs") == [SHORT.name], "nothing is left of the kill"
    assert [name for name in os.listdir(tmp_path / "records") if not name.startswith(".")] == [record.name]


@pytest.mark.slow
@posix
def test_an_interrupt_ends_all_workers(tmp_path: Path, small_plan) -> None:
    process = started(tmp_path, "--workers", 2)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 130 and errors.count("\n") == 1 and "the same command goes on" in errors
    small_plan(plan.SOURCE_ONLY, plan.ADVERSARIAL)
    assert again(tmp_path).returncode == 0, "no worker is left that would hold the lock of a run"


def test_one_failure_stops_no_other_run(tmp_path: Path, small_plan, quick: None) -> None:
    lost = Variant("lost", "plain", {"lr_phi": 1e30})
    small_plan(lost, plan.SOURCE_ONLY)
    done = again(tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    first, last = done.stderr.splitlines()
    assert first.startswith(f"error: {queue_run.TASK}_lost_s1: ") and "lower the learning rates" in first
    assert last == "error: 1 of 2 runs failed; the same command tries them again"
    assert [path.name for path in (tmp_path / "records").iterdir()] == [f"{queue_run.TASK}_source-only_s1.json"]


def test_what_nobody_foresaw_is_told_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def glance(*words: object) -> dict:
        raise ZeroDivisionError("division by nothing")
    monkeypatch.setattr(record_module, "glance", glance)
    message = carry_out(sample_job(), tmp_path, tmp_path / "runs")
    assert message.startswith(f"{sample_job().name}: ZeroDivisionError in glance, test_reproduce.py:")
    assert message.endswith(": division by nothing") and "\n" not in message


def test_missing_data_are_told_in_one_line(tmp_path: Path, no_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDLM_OFFLINE", "1")
    number = [work.name for work in jobs("table2", [1], "smoke")].index("mnist-usps_source-only_s1")
    done = again(tmp_path, "--job", number)
    first, last = done.stderr.splitlines()
    assert done.returncode == 1 and first.startswith("error: mnist-usps_source-only_s1: ") and "cdlm data fetch usps" in first


def test_a_folder_that_cannot_be_written_is_found_before_anything_is_trained(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(queue, "carry_out", lambda *words: pytest.fail("trained"))
    (tmp_path / "records").write_text("a file")
    assert_one_line(again(tmp_path), f"cannot write to {tmp_path / 'records'}: ")
    (tmp_path / "records").unlink()
    (tmp_path / "runs").write_text("a file")
    assert_one_line(again(tmp_path), f"cannot write to {tmp_path / 'runs'}: ")
    (tmp_path / "runs").unlink()
    def refuse(**options: object) -> None:
        raise PermissionError(13, "Permission denied")
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)             # as a folder that others may write does
    assert_one_line(again(tmp_path), f"cannot write to {tmp_path / 'records'}: Permission denied; name another folder")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere; needs a plain user")
def test_a_read_only_folder(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir(mode=0o555)
    assert_one_line(again(tmp_path), "cannot write to")


def test_the_same_cause_is_told_once() -> None:
    lines = ["a_s1: no room", "b_s1: a: b", "a_s2: no room", "a_s3: no room", "a_s4: no room"]
    assert by_cause(lines) == ["a_s1, a_s2 and 2 more: no room", "b_s1: a: b"]
    assert by_cause(["x: c", "y: c"]) == ["x, y: c"] and by_cause([]) == []


# Who carries out


@pytest.mark.slow
def test_two_workers_make_the_records_of_one(made: tuple, tmp_path: Path) -> None:
    work, records, _ = made
    todo = [work, sample_job(plan.ADVERSARIAL), work._replace(name="broken", spec=replace(work.spec, target="mars"))]
    failed = queue.reproduce(todo, tmp_path / "records", tmp_path / "runs", carry=by_processes(2), quiet=True)
    assert [line.partition(":")[0] for line in failed] == ["broken"]
    assert numbers(tmp_path / f"records/{work.name}.json") == numbers(records / f"{work.name}.json")
    assert is_valid(tmp_path / f"records/{todo[1].name}.json", todo[1].spec)


@pytest.mark.slow
def test_a_dask_cluster_makes_the_same_record(made: tuple, tmp_path: Path) -> None:
    """A cluster at an address: a scheduler and a worker in threads of this process."""
    distributed = pytest.importorskip("dask.distributed")
    work, records, _ = made
    broken = work._replace(name="broken", spec=replace(work.spec, target="mars"))
    with distributed.LocalCluster(1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        carry = by_dask(cluster.scheduler_address, 1)
        failed = queue.reproduce([work, broken], tmp_path / "records", tmp_path / "runs", carry=carry, quiet=True)
    assert [line.partition(":")[0] for line in failed] == ["broken"]
    assert numbers(tmp_path / f"records/{work.name}.json") == numbers(records / f"{work.name}.json")


@pytest.mark.slow
def test_a_dask_cluster_is_made_here_for_the_asking(made: tuple, tmp_path: Path, small_plan) -> None:
    pytest.importorskip("dask.distributed")
    small_plan(plan.SOURCE_ONLY)
    work, records, _ = made
    done = again(tmp_path, "--dask", "local")
    assert done.returncode == 0, done.stderr
    assert numbers(tmp_path / f"records/{work.name}.json") == numbers(records / f"{work.name}.json")


def test_without_dask_the_command_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask.distributed", None)
    assert_one_line(again(tmp_path, "--dask", "local"), 'Dask is not installed; pip install "cdlm[cluster]", or leave out --dask')


def test_one_process_for_each_core_and_one_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "cpu_count", lambda: 4)
    assert [queue.fitting_workers(count, "cpu") for count in (0, 1, 3, 100)] == [1, 1, 3, 4]
    assert queue.fitting_workers(100, "cuda") == 1


def test_the_bar_counts_steps_on_disk(made: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One run on record, one in progress; by reading the table that it writes."""
    work, records, _ = made
    other = sample_job(plan.ADVERSARIAL)
    partial = tmp_path / f"{other.name}.partial"
    partial.mkdir()
    for text, steps in (("step,task\n", 0), ("step,task\n1,0.5\n2,0.4\n", 2), ("step,task\n1,0.5\n12,", 12), ("\n", 0)):
        (partial / "log.csv").write_text(text)
        assert steps_done(other, records, tmp_path) == steps
    shown = io.StringIO()
    monkeypatch.setattr(queue, "tqdm", lambda **options: tqdm(**(options | {"disable": False, "file": shown})))
    assert queue.reproduce([work, other], records, tmp_path, carry=lambda todo, *places: iter([""])) == []
    assert "20/40" in shown.getvalue() and "1 of 2 runs" in shown.getvalue()


# The commands


def test_the_list_tells_numbers_and_what_is_done(made: tuple, small_plan, tmp_path: Path) -> None:
    work, records, _ = made
    small_plan(plan.SOURCE_ONLY, plan.ADVERSARIAL)
    words = ["reproduce", "table2", "--seeds", "1-2", "--profile", "smoke", "--list"]
    done = here(*words, "--results", records)
    assert done.returncode == 0 and done.stdout.splitlines() == [
        f"   0 done {work.name}", f"   1 todo {queue_run.TASK}_adversarial_s1",
        f"   2 todo {queue_run.TASK}_source-only_s2", f"   3 todo {queue_run.TASK}_adversarial_s2"]
    assert job_line(12, work, tmp_path) == f"  12 todo {work.name}"
    assert here(*words, "--results", tmp_path / "new").stdout.count("todo") == 4
    assert not (tmp_path / "new").exists(), "a list makes no folders"


def test_a_number_of_the_list_is_one_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []
    monkeypatch.setattr(
        experiments, "reproduce", lambda todo, results, folders, *more: asked.append((todo, results, folders)) or []
    )
    listed = here("reproduce", "table7", "--seeds", "1,4", "--list", "--results", tmp_path).stdout.splitlines()
    for number, line in enumerate(listed):
        assert here("reproduce", "table7", "--seeds", "1,4", "--job", number, "--work", tmp_path).returncode == 0
        (work,), results, folders = asked.pop()
        assert line.split() == [str(number), "todo", work.name] and work in jobs("table7", [1, 4])
        assert (results, folders) == (Path("book/results/runs"), tmp_path)
    here("reproduce", "table7", "--profile", "smoke", "--work", tmp_path)
    todo, results, _ = asked.pop()
    assert results == tmp_path / "records", "records of a smaller profile stay away from those of the book"
    assert todo == jobs("table7", [1, 2, 3], "smoke")


# Ours beside the paper's


RECORDED = {name for name, field in RunRecord.model_fields.items() if field.is_required()}
NOTHING = {"config": {}, "source_accuracy": 0.0, "target_accuracy": 0.0, "a_distance": {}, "log": [], "data": {}, "provenance": {},
           "seconds": 0.0, "snapshots": [{"step": 1, "seconds": 0.0, "target_accuracy": 0.0, "scores": {}}]}


def made_up(results: Path, variant: Variant, task: str, seed: int, accuracy: float = 0.5, **changes: object) -> Path:
    """A record that no training has made."""
    selected = {rule: {"step": 1, "target_accuracy": accuracy - 0.01 * i} for i, rule in enumerate(("last", *RULES))}
    work = job(variant, task, seed)
    content = NOTHING | {"spec": asdict(work.spec) | changes, "paths": {"h": 0.1, "x_tilde_t": accuracy},
                         "selected": selected | {"oracle": {"step": 2, "target_accuracy": 0.99}}}
    write_json(results / f"{work.name}.json", content)
    return results / f"{work.name}.json"


FIELDS = ["table", "task", "method", "recipe", "paper", "mean", "std", "seeds", "selection"]


def test_rows_of_results_have_just_these_fields(tmp_path: Path) -> None:
    rows = result_rows(tmp_path)
    assert len(rows) == sum(len(cells(table)) for table in TABLE_TASKS)
    assert all(list(row) == FIELDS for row in rows)
    assert all((row["mean"], row["std"], row["seeds"], row["selection"]) == (None, None, [], "last") for row in rows)
    assert [row["paper"] for row in rows if row["method"] == "no decoder"] == [None] * 12        # of Table 2, and among neighbors


def test_means_and_deviations_need_records(tmp_path: Path) -> None:
    for seed, accuracy in ((10, 0.5), (2, 0.7)):
        made_up(tmp_path, plan.SOURCE_ONLY, "mnist-usps", seed, accuracy)
    made_up(tmp_path, plan.TARGET_ONLY, "mnist-usps", 1, 0.9)
    made_up(tmp_path, plan.IMPROVED, "mnist-usps", 1, 0.8)
    rows = {(row["table"], row["method"], row["recipe"]): row for row in result_rows(tmp_path) if row["task"] == "mnist-usps"}
    two = rows["table2", "source only", "improved"]
    assert two["mean"] == pytest.approx(0.6) and two["std"] == pytest.approx(0.02 ** 0.5) and two["seeds"] == [2, 10]
    assert two["paper"] == 0.634
    one = rows["table2", "target only", "improved"]
    assert (one["mean"], one["std"], one["seeds"]) == (pytest.approx(0.9), None, [1])
    shared = [rows["table3", "both", "improved"], rows["table7", "full", "improved"], rows["ingredients", "all", "improved"]]
    assert [row["mean"] for row in shared] == [pytest.approx(0.8)] * 3
    assert rows["table2", "source only without augmentation", "faithful"]["seeds"] == []


def test_a_selection_is_one_of_the_rules_or_the_oracle(tmp_path: Path) -> None:
    made_up(tmp_path, plan.SOURCE_ONLY, "mnist-usps", 1)
    means = {}
    for rule in ("last", *RULES, "oracle"):
        row, again = (row for row in result_rows(tmp_path, rule) if row["seeds"])
        assert row["selection"] == rule and again == row | {"table": "neighbors"}
        means[rule] = round(row["mean"], 6)
    assert means == {"last": 0.5, "entropy": 0.49, "information": 0.48, "snd": 0.47, "bnm": 0.46, "oracle": 0.99}
    assert_one_line(here("results", "--results", tmp_path, "--selection", "best"),
                    "selection is one of last, entropy, information, snd, bnm, oracle; not 'best'")


@pytest.mark.parametrize("changes, words", [
    ({"steps": 20}, "cannot be put together: steps is 2000 there and 20 here"),
    ({"augment": {}}, "cannot be put together: augment is"),
    ({"size": "sample"}, "cannot be put together: size is 'full' there and 'sample' here"),
    ({"method": "cdlm"}, "is of cdlm, not of plain")])
def test_records_that_do_not_belong_together_are_refused(tmp_path: Path, changes: dict, words: str) -> None:
    made_up(tmp_path, plan.SOURCE_ONLY, "mnist-usps", 1)
    made_up(tmp_path, plan.SOURCE_ONLY, "mnist-usps", 2, **changes)
    with pytest.raises(RunError, match=words):
        read_runs(plan.SOURCE_ONLY, "mnist-usps", tmp_path)
    assert_one_line(here("results", "--results", tmp_path), words)


def test_two_files_of_one_seed_are_not_two_seeds(tmp_path: Path) -> None:
    path = made_up(tmp_path, plan.SOURCE_ONLY, "mnist-usps", 1)
    for name in ("mnist-usps_source-only_s2", "mnist-usps_source-only_s01", "mnist-usps_source-only_s1 (copy)"):
        shutil.copy(path, tmp_path / f"{name}.json")
        assert_one_line(here("results", "--results", tmp_path), f"{name}.json is of seed 1, which its name does not say")
        (tmp_path / f"{name}.json").unlink()
    assert [run["spec"]["seed"] for run in read_runs(plan.SOURCE_ONLY, "mnist-usps", tmp_path)] == [1]


@pytest.mark.parametrize("value", [7, -1, True, None, math.nan, "0.5"])
def test_a_record_with_what_is_no_accuracy_does_not_count(tmp_path: Path, value: object) -> None:
    path = made_up(tmp_path, plan.SOURCE_ONLY, "mnist-usps", 1)
    spec, record = job(plan.SOURCE_ONLY, "mnist-usps", 1).spec, read_json(path)
    assert is_valid(path, spec)
    for changed in (record | {"target_accuracy": value},
                    record | {"selected": record["selected"] | {"last": {"step": 1, "target_accuracy": value}}}):
        path.write_text(json.dumps(changed))
        assert not is_valid(path, spec)
        done = here("results", "--results", tmp_path)
        assert_one_line(done, f"{path} is damaged")
        assert "target_accuracy" in done.stderr or "a number is" in done.stderr


@pytest.mark.parametrize("content", ["{}", "[]", "{", json.dumps(dict.fromkeys(RECORDED))])
def test_what_is_no_record_is_refused_by_name(tmp_path: Path, content: str) -> None:
    made_up(tmp_path, plan.SOURCE_ONLY, "mnist-usps", 1).write_text(content)
    assert_one_line(here("results", "--results", tmp_path), "mnist-usps_source-only_s1.json is ")


def test_the_records_of_one_variant_are_not_those_of_another(tmp_path: Path) -> None:
    for variant in (plan.IMPROVED, plan.changed_recipe("lct", beta1=0.0), plan.SOURCE_ONLY, plan.BARE_SOURCE_ONLY):
        for seed in (1, 11):
            made_up(tmp_path, variant, "mnist-usps", seed)
        made_up(tmp_path, variant, "usps-mnist", 1)
    for variant in (plan.IMPROVED, plan.SOURCE_ONLY):
        found = read_runs(variant, "mnist-usps", tmp_path)
        assert [run["spec"]["seed"] for run in found] == [1, 11]
        assert all(run["spec"]["settings"] == job(variant, "mnist-usps", 1).spec.settings for run in found)


def test_the_table_has_a_line_for_each_row(tmp_path: Path) -> None:
    made_up(tmp_path, plan.SOURCE_ONLY, "mnist-usps", 1)
    head, *lines = summary(result_rows(tmp_path)).splitlines()
    assert head.split() == ["table", "task", "method", "recipe", "paper", "ours", "std", "seeds"]
    assert len(lines) == len(result_rows(tmp_path))
    filled = [line for line in lines if not line.endswith(" 0")]
    assert [line.split()[0] for line in filled] == ["table2", "neighbors"]
    assert all(line.split()[-4:] == ["0.634", "0.500", "-", "1"] for line in filled)


def test_the_command_prints_json_and_says_where_there_is_nothing(tmp_path: Path) -> None:
    done = here("results", "--json", "--results", tmp_path)
    rows = [*result_rows(tmp_path), *linemod_rows(tmp_path), *table4_cells(tmp_path.parent / "translations")]
    assert done.returncode == 0 and json.loads(done.stdout) == rows
    assert done.stderr == f"no record of a run in {tmp_path}\n"


# What is shipped


def test_old_names_of_records_are_still_found(tmp_path: Path) -> None:
    """Whoever asks, and whatever the file is called; a file of the very name comes first, and methods are left alone."""
    old_s1, new_s2 = tmp_path / "mnist-usps_dann_s1.json", tmp_path / "mnist-usps_adversarial_s2.json"
    for path, seed in ((old_s1, 1), (new_s2, 2)):
        shutil.copy(RUNS / f"mnist-usps_adversarial_s{seed}.json", path)
    for name in ("dann", "adversarial"):
        assert record_path(f"mnist-usps_{name}_s1", tmp_path) == old_s1 and record_path(f"mnist-usps_{name}_s2", tmp_path) == new_s2
        assert read_record(f"mnist-usps_{name}_s2", tmp_path) == read_json(new_s2)
        assert record_path(f"mnist-usps_{name}_s3", tmp_path) == tmp_path / f"mnist-usps_{name}_s3.json"
    assert [run["spec"]["seed"] for run in read_runs(plan.ADVERSARIAL, "mnist-usps", tmp_path)] == [1, 2]
    assert is_valid(record_path("mnist-usps_adversarial_s1", tmp_path), job(plan.ADVERSARIAL, "mnist-usps", 1).spec)
    shutil.copy(new_s2, tmp_path / "mnist-usps_dann_s2.json")
    assert len(read_runs(plan.ADVERSARIAL, "mnist-usps", tmp_path)) == 2, "a run under both names is one run"
    (tmp_path / "mnist-usps_adversarial.json").touch()
    assert record_path("mnist-usps_dann", tmp_path) == tmp_path / "mnist-usps_dann.json"                # of the method
    assert read_record("runs/mnist-usps_target_s1", ROOT / "book/results") == read_json(RUNS / "mnist-usps_target-only_s1.json")


def test_no_variant_is_called_as_a_method_is() -> None:
    names = {cell.variant.name for table in TABLE_TASKS for cell in cells(table)}
    assert not (names - {"improved"}) & set(METHODS), "improved is the method of that name with nothing changed"
    assert set(OLD_NAMES.values()) <= names and not set(OLD_NAMES) & names
    assert plan.IMPROVED == Variant("improved", "improved")


def test_shipped_records_are_those_of_jobs_in_the_plan() -> None:
    """Name for name, spec for spec, with nothing else in the folder."""
    files = sorted(RUNS.iterdir())
    assert files and all(path.suffix == ".json" for path in files)
    seeds = sorted({int(path.stem.rpartition("_s")[2]) for path in files})
    asked = [*(work for table in TABLE_TASKS for work in jobs(table, seeds)), *linemod_jobs("linemod", seeds)]
    planned = {work.name: work.spec for work in asked}
    data: dict[tuple[str, str], dict] = {}
    for path in files:
        spec, record = planned[path.stem], read_json(path)
        seen = data.setdefault((spec.source, spec.target), record["data"])
        assert same_data(seen, record["data"]), f"{path.name} saw other data"
        assert is_valid(path, spec) and record["spec"] == asdict(spec), path.name
        assert record["config"].items() <= flat(build_config(spec.method, spec.settings)).items(), path.name
        assert not {"channels", "size", "classes"} & record["config"].keys(), "these the data decide"


def test_shipped_results_are_a_list_of_flat_objects() -> None:
    done = here("results", "--json", "--results", RUNS)
    rows = json.loads(done.stdout)
    assert done.returncode == 0 and done.stderr == ""
    assert all(list(row) == FIELDS and all(not isinstance(value, dict) for value in row.values()) for row in rows)
    assert any(row["seeds"] for row in rows)
    for row in rows:
        assert (row["mean"] is None) == (not row["seeds"]) and (row["std"] is None) == (len(row["seeds"]) < 2)
        assert row["mean"] is None or 0 <= row["mean"] <= 1 or row["task"].endswith(" psnr") and 0 < row["mean"] < 50, row
    translated = {cell["task"] for cell in table4_cells(RUNS.parent / "translations")}
    assert {*TASKS, LINEMOD, *translated} == {row["task"] for row in rows}
