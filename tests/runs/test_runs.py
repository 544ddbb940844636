"""Runs on disk: round trip, provenance, and every way in which a folder can be wrong."""

from __future__ import annotations

import csv
import json
import os
import pickle
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from folders import without_checksums
from PIL import Image
from safetensors.torch import load_file

from cdlm.data.archives import DataError
from cdlm.data.domain import checksum
from cdlm.domains.catalog import CATALOG, open_domain
from cdlm.domains.samples import DOMAIN_NAMES, load_domain
from cdlm.files import RunError
from cdlm.methods.registry import METHODS, build_config
from cdlm.provenance import code_fingerprint
from cdlm.runs import spec as spec_module
from cdlm.runs.folder import load_spec
from cdlm.runs.record import metric_values
from cdlm.runs.run import evaluate, joined_record, load_run, run
from cdlm.runs.spec import RunSpec, build_method, found_size, load_pair
from cdlm.settings import Images
from cdlm.training.callbacks import OnLog
from cdlm.training.checkpoints import CheckpointError, read_checkpoint, write_checkpoint

SPEC = RunSpec("source", "mnist", "optdigits", steps=3, batch_size=8)


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "first"
    run(SPEC, folder)
    return folder


@pytest.fixture
def copy(stored: Path, tmp_path: Path) -> Path:
    target = tmp_path / "copy"
    target.mkdir()
    for file in stored.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def test_evaluate_repeats_the_stored_numbers(stored: Path) -> None:
    metrics = json.loads((stored / "metrics.json").read_text())
    assert evaluate(stored) == {k: metrics[k] for k in ("source_accuracy", "target_accuracy")}


def test_a_run_tells_where_it_comes_from(stored: Path) -> None:
    metrics = json.loads((stored / "metrics.json").read_text())
    assert metrics["selection"] == "last iteration" and metrics["provenance"]["code"] == code_fingerprint()
    assert set(metrics["data"]) == {"source/train", "source/test", "target/train", "target/test"}
    assert all(len(v) == 64 for v in metrics["data"].values())


def test_no_temporary_folder_remains(stored: Path) -> None:
    assert [p.name for p in stored.parent.iterdir()] == ["first"]


def test_a_failed_run_leaves_nothing(tmp_path: Path) -> None:
    def fail(row: dict) -> None:
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        run(SPEC, tmp_path / "out", callbacks=[OnLog(fail)])
    assert list(tmp_path.iterdir()) == []


def test_an_existing_run_is_not_overwritten(stored: Path) -> None:
    before = {p.name: p.read_bytes() for p in stored.iterdir()}
    with pytest.raises(RunError, match="exists already"):
        run(SPEC, stored)
    assert before == {p.name: p.read_bytes() for p in stored.iterdir()}


def test_a_place_that_cannot_be_written_is_found_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for every in (0, 1):
        with pytest.raises(RunError, match="cannot write"):
            untrained = OnLog(lambda row: pytest.fail("it was trained"))
            run(SPEC, tmp_path / "file" / "run", callbacks=[untrained], checkpoint_every=every)


@pytest.mark.parametrize("settings, words", [
    ({"gama1": 1.0}, "has no setting 'gama1'"), ({"gamma1": "much"}, "must be of type float"),
    ({"latent": 2.5}, "must be of type int"), ({"task_reaches_encoder": 1}, "must be of type bool")])
def test_wrong_settings_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(RunError, match=words):
        build_config("cdlm", settings)


def test_every_method_builds_from_its_defaults() -> None:
    for name, (_, config_class) in METHODS.items():
        assert build_config(name, {}) == config_class()
    with pytest.raises(RunError, match="unknown method"):
        build_config("magic", {})


class Touch:
    """Unpickling this creates a file: what an attacker would put into a weights file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_in_place_of_weights_is_refused_and_not_executed(copy: Path, tmp_path: Path) -> None:
    trap = tmp_path / "executed"
    (copy / "weights.safetensors").write_bytes(pickle.dumps(Touch(trap)))
    with pytest.raises(RunError, match="is damaged"):
        evaluate(copy)
    assert not trap.exists()


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_truncated_weights_are_refused(copy: Path, keep: int) -> None:
    path = copy / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(RunError, match="is damaged"):
        evaluate(copy)


def test_weights_of_other_networks_are_refused(copy: Path) -> None:
    without_checksums(copy, {"method": "cdlm"})
    with pytest.raises(RunError, match="does not fit"):
        load_run(copy)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"method": "source"}', "\x00"])
def test_a_damaged_config_is_refused(copy: Path, content: str) -> None:
    (copy / "config.json").write_text(content)
    with pytest.raises(RunError, match="config.json"):
        evaluate(copy)


def test_values_of_wrong_types_in_a_config_are_refused(copy: Path) -> None:
    spec = json.loads((copy / "config.json").read_text())
    for change in ({"seed": "0"}, {"steps": None}, {"settings": []}, {"source": 3}):
        (copy / "config.json").write_text(json.dumps(spec | change))
        with pytest.raises(RunError, match="config.json"):
            evaluate(copy)


def test_a_missing_file_is_named(copy: Path) -> None:
    os.remove(copy / "weights.safetensors")
    with pytest.raises(RunError, match="weights.safetensors does not exist"):
        evaluate(copy)
    with pytest.raises(RunError, match="is this a run folder"):
        evaluate(copy / "nowhere")


def test_other_data_make_the_number_incomparable(copy: Path) -> None:
    stored = json.loads((copy / "metrics.json").read_text())["data"]
    for split in stored:
        without_checksums(copy, metrics={"data": stored | {split: "0" * 64}})
        with pytest.raises(RunError, match="cannot be compared"):
            evaluate(copy)


def test_a_record_joins_seeds_and_nothing_else(copy: Path, stored: Path) -> None:
    with pytest.raises(RunError, match="same seed"):
        joined_record([stored, copy])
    without_checksums(copy, {"seed": 1})
    joined = joined_record([copy, stored])
    assert [r["seed"] for r in joined["runs"]] == [0, 1] and "seed" not in joined["spec"]
    assert metric_values(joined).dtype == torch.float64 and len(metric_values(joined)) == 2
    without_checksums(copy, {"seed": 1, "steps": 4})
    with pytest.raises(RunError, match="differ in their seed only"):
        joined_record([copy, stored])


# Unfinished runs

LONG = RunSpec("source", "mnist", "optdigits", steps=12, batch_size=4, settings={"width": 2})


class Killed(BaseException):
    pass


def stop_at(step: int):
    def report(row: dict) -> None:
        if row["step"] >= step:
            raise Killed
    return report


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(LONG, folder, log_every=2, checkpoint_every=0)
    return folder


@pytest.fixture
def unfinished(tmp_path: Path) -> Path:
    """Where a run would be, that has died after its fifth step or later, with a checkpoint of its third."""
    with pytest.raises(Killed):
        run(LONG, tmp_path / "run", callbacks=[OnLog(stop_at(4))], log_every=2, checkpoint_every=3)
    return tmp_path / "run"


def partial(out: Path) -> Path:
    return out.with_name("run.partial")


def test_an_unfinished_run_is_a_visible_folder_beside_its_place(unfinished: Path) -> None:
    assert [p.name for p in unfinished.parent.iterdir()] == ["run.partial"]
    assert {p.name for p in partial(unfinished).iterdir()} == {".lock", "checkpoint.safetensors", "config.json", "log.csv"}
    assert load_spec(partial(unfinished)) == LONG
    assert read_checkpoint(partial(unfinished) / "checkpoint.safetensors").step == 3


def test_a_resumed_run_is_the_uninterrupted_one(unfinished: Path, uninterrupted: Path) -> None:
    for step in (8, 100):
        try:
            run(LONG, unfinished, callbacks=[OnLog(stop_at(step))], log_every=2, checkpoint_every=3)
        except Killed:
            assert step == 8
    one, other = (load_file(folder / "weights.safetensors") for folder in (unfinished, uninterrupted))
    assert all(torch.equal(one[name], other[name]) for name in one)
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (unfinished, uninterrupted)]
    for found in metrics:
        del found["seconds"], found["checksums"]["metrics"]         # which is also of the seconds
    assert metrics[0] == metrics[1]
    for name in ("config.json", "log.csv"):
        assert (unfinished / name).read_bytes() == (uninterrupted / name).read_bytes()
    assert [p.name for p in unfinished.parent.iterdir()] == ["run"]
    assert sorted(p.name for p in unfinished.iterdir()) == ["config.json", "log.csv", "metrics.json", "weights.safetensors"]


def test_the_log_is_a_table_without_holes_and_doubles(unfinished: Path) -> None:
    with open(partial(unfinished) / "log.csv", newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2", "4"]
    run(LONG, unfinished, log_every=2, checkpoint_every=3)
    log = json.loads((unfinished / "metrics.json").read_text())["log"]
    with open(unfinished / "log.csv", newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert rows == log and [row["step"] for row in rows] == [2, 4, 6, 8, 10, 12]


def test_time_spent_before_is_counted(unfinished: Path) -> None:
    path = partial(unfinished) / "checkpoint.safetensors"
    write_checkpoint(path, replace(read_checkpoint(path), seconds=5000.0))
    assert run(LONG, unfinished, log_every=2, checkpoint_every=3)["seconds"] >= 5000


@pytest.mark.parametrize("changes, words", [
    ({"seed": 1}, "seed is 0 there and 1 here"), ({"steps": 13}, "steps is 12 there and 13 here"),
    ({"settings": {"width": 4}}, "settings is {'width': 2} there and {'width': 4} here"),
    ({"source": "optdigits", "target": "mnist"}, "source is 'mnist' there and 'optdigits' here; target is"),
    ({"precision": "bfloat16"}, "precision is 'float32' there and 'bfloat16' here")])
def test_another_runs_folder_is_not_touched(unfinished: Path, changes: dict, words: str) -> None:
    before = {p.name: p.read_bytes() for p in partial(unfinished).iterdir()}
    with pytest.raises(RunError, match="run.partial holds another unfinished run: .*give its settings") as error:
        run(replace(LONG, **changes), unfinished, log_every=2, checkpoint_every=3)
    assert words in str(error.value)
    assert before == {p.name: p.read_bytes() for p in partial(unfinished).iterdir()}


def test_another_spacing_of_the_log_is_refused(unfinished: Path) -> None:
    with pytest.raises(CheckpointError, match="log_every is 2 there and 3 here"):
        run(LONG, unfinished, log_every=3, checkpoint_every=3)
    assert (partial(unfinished) / "checkpoint.safetensors").exists()


def test_a_folder_of_something_else_is_not_used_and_not_removed(tmp_path: Path) -> None:
    (tmp_path / "run.partial").mkdir()
    (tmp_path / "run.partial/thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="run.partial is needed to work in, and holds thesis.txt"):
        run(LONG, tmp_path / "run")
    assert (tmp_path / "run.partial/thesis.txt").read_text() == "years of work"


def test_a_run_that_fails_before_its_first_checkpoint_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(LONG, tmp_path / "run", callbacks=[OnLog(stop_at(2))], log_every=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["config.json", "checkpoint.safetensors"])
def test_a_damaged_file_of_an_unfinished_run_is_named(unfinished: Path, name: str) -> None:
    path = partial(unfinished) / name
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises((RunError, CheckpointError), match=f"{name} is damaged"):
        run(LONG, unfinished, log_every=2, checkpoint_every=3)
    assert path.exists()


def test_half_a_checkpoint_and_half_a_config_do_not_matter(unfinished: Path, uninterrupted: Path) -> None:
    for name in (".checkpoint.safetensors.4711", ".config.json.4711"):
        (partial(unfinished) / name).write_bytes(b"half")
    run(LONG, unfinished, log_every=2, checkpoint_every=3)
    assert (unfinished / "weights.safetensors").read_bytes() == (uninterrupted / "weights.safetensors").read_bytes()
    assert sorted(p.name for p in unfinished.iterdir()) == ["config.json", "log.csv", "metrics.json", "weights.safetensors"]


def test_two_processes_cannot_work_on_one_run(unfinished: Path) -> None:
    with FileLock(partial(unfinished) / ".lock"), pytest.raises(RunError, match="another process is at work in .*run.partial"):
        run(LONG, unfinished, log_every=2, checkpoint_every=3)
    assert (partial(unfinished) / "checkpoint.safetensors").exists()
    run(LONG, unfinished, log_every=2, checkpoint_every=3)


def test_a_lock_falls_with_its_process(unfinished: Path) -> None:
    script = ("import sys, time, filelock; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); "
              "print('locked', flush=True); time.sleep(600)")
    holder = subprocess.Popen([sys.executable, "-c", script, partial(unfinished) / ".lock"], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "locked\n"
    with pytest.raises(RunError, match="another process is at work"):
        run(LONG, unfinished, log_every=2, checkpoint_every=3)
    holder.kill()
    holder.communicate(timeout=600)
    run(LONG, unfinished, log_every=2, checkpoint_every=3)


def test_who_comes_when_the_run_is_just_finished_is_told(unfinished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the first look and the lock another process may finish the very run."""
    acquire = FileLock.acquire

    def late(self, *words, **more):
        unfinished.mkdir()
        (unfinished / "metrics.json").write_text("{}")
        return acquire(self, *words, **more)
    monkeypatch.setattr(FileLock, "acquire", late)
    with pytest.raises(RunError, match="run exists already"):
        run(LONG, unfinished, log_every=2, checkpoint_every=3)
    assert (partial(unfinished) / "checkpoint.safetensors").exists()


# Data of every kind

@pytest.mark.parametrize("name", DOMAIN_NAMES)
def test_the_sample_of_the_catalog_is_what_the_chapters_load(name: str) -> None:
    one, other = load_domain(name), open_domain(name, "sample")
    assert [checksum(one.train), checksum(one.test)] == [checksum(other.train), checksum(other.test)]


def test_a_gray_and_a_colored_domain_as_before() -> None:
    pair = load_pair(RunSpec("cdlm", "mnist", "mnistm"))
    assert [checksum(domain.train) for domain in pair] == [checksum(load_domain(name, 3).train) for name in ("mnist", "mnistm")]


def test_configs_of_older_runs_are_read(copy: Path) -> None:
    spec = json.loads((without_checksums(copy) / "config.json").read_text())
    assert spec.pop("size") == "sample" and spec.pop("precision") == "float32"
    (copy / "config.json").write_text(json.dumps(spec))
    assert load_spec(copy) == SPEC
    assert evaluate(copy) == {k: v for k, v in json.loads((copy / "metrics.json").read_text()).items() if "accuracy" in k}


def test_best_is_replaced_by_what_was_found(tmp_path: Path, no_data: Path) -> None:
    """Without data there are the samples; a domain that is its own sample goes with either word."""
    run(replace(SPEC, size="best"), tmp_path / "run")
    assert load_spec(tmp_path / "run") == replace(SPEC, size="sample")


@pytest.mark.parametrize("sizes, word", [(("full", "full"), "full"), (("sample", "full"), "sample,full"),
                                         (("full", "partial"), "full,partial")])
def test_two_sizes_are_written_as_one_word_or_two(sizes: tuple[str, str], word: str) -> None:
    pair = [replace(open_domain("mnist", "sample"), size=size) for size in sizes]
    assert found_size(*pair) == word
    digits = open_domain("optdigits", "sample")
    assert found_size(pair[0], replace(digits, size="full")) == sizes[0]
    assert found_size(replace(digits, size="sample"), pair[1]) in (sizes[1], f"sample,{sizes[1]}")


@pytest.mark.parametrize("size", ["large", "", "full,full,full", "full, sample"])
def test_other_words_for_a_size_are_refused(size: str) -> None:
    with pytest.raises(RunError, match="size is one of best, full, sample, or one for each domain"):
        load_pair(replace(SPEC, size=size))


def pictures(folder: Path, classes: tuple[str, ...], side: int = 28) -> Path:
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for image in range(6):
            Image.new("RGB", (side, side), (40 * number, 20 * image, 90)).save(folder / name / f"{image}.png")
    return folder


def test_folders_of_images_are_domains(tmp_path: Path, no_data: Path) -> None:
    source, target = pictures(tmp_path / "a", ("cat", "dog", "eel")), pictures(tmp_path / "b", ("cat", "dog", "eel"))
    spec = RunSpec("cdlm", str(source), str(target), steps=2, batch_size=2, settings={"width": 2, "latent": 2}, size="best")
    metrics = run(spec, tmp_path / "run")
    stored, method, *_ = load_run(tmp_path / "run")
    assert stored.size == "full" and method.images == Images(3, 28, 3)
    assert evaluate(tmp_path / "run") == {name: metrics[name] for name in ("source_accuracy", "target_accuracy")}


def test_a_target_without_classes_has_no_accuracy(tmp_path: Path, no_data: Path) -> None:
    source, target = pictures(tmp_path / "a", ("cat", "dog")), pictures(tmp_path / "b", ("",))
    spec = RunSpec("source", str(source), str(target), steps=1, batch_size=2)
    assert "target_accuracy" not in run(spec, tmp_path / "run")
    with pytest.raises(RunError, match="has no classes to learn"):
        load_pair(RunSpec("source", str(target), str(target)))


def test_pairs_that_do_not_go_together_are_refused(tmp_path: Path, no_data: Path) -> None:
    source, target = pictures(tmp_path / "a", ("cat", "dog")), pictures(tmp_path / "b", ("cat", "cow"))
    with pytest.raises(DataError, match="only a has dog; only b has cow"):
        load_pair(RunSpec("source", str(source), str(target)))


def test_images_of_two_sizes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_size(name: str, size: str):
        domain = open_domain("mnist", "sample")
        images = domain.train.images if name == "mnist" else domain.train.images[:, :, :24, :24]
        return replace(domain, train=replace(domain.train, images=images))
    monkeypatch.setattr(spec_module, "open_at", of_size)
    with pytest.raises(RunError, match="images of mnist and optdigits are 28 x 28 and 24 x 24; both must be 28 x 28, 32 x 32 or"):
        load_pair(SPEC)


@pytest.mark.parametrize("side, classes", [(28, 10), (32, 3), (64, 11)])
def test_methods_are_built_for_the_images_they_get(side: int, classes: int) -> None:
    domain = open_domain("mnist", "sample")
    images = torch.zeros(4, 3, side, side, dtype=torch.uint8)
    domain = replace(domain, classes=tuple(map(str, range(classes))), train=replace(domain.train, images=images))
    method = build_method(replace(SPEC, method="cdlm", settings={"width": 2, "latent": 2}), domain)
    assert method.images == Images(3, side, classes)
    assert method.eval().logits(torch.zeros(2, 3, side, side)).shape == (2, classes)
    for name in ("channels", "size", "classes"):
        with pytest.raises(RunError, match=f"^{name} is no setting: channels, size and classes follow from the images$"):
            build_method(replace(SPEC, method="cdlm", settings={name: getattr(method.images, name)}), domain)


def test_every_domain_of_the_catalog_has_a_size_that_runs_take() -> None:
    assert {recipe.shape[1:] for recipe in CATALOG.values()} <= {(28, 28), (32, 32), (64, 64)}


def test_the_engine_is_part_of_the_provenance(stored: Path) -> None:
    engine = json.loads((stored / "metrics.json").read_text())["provenance"]["engine"]
    assert engine == {"device": "cpu", "processes": 1, "channels_last": False, "compile": False}
    assert asdict(SPEC) == json.loads((stored / "config.json").read_text())
