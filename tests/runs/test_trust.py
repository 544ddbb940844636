"""What a run and a record are believed: weights, settings and numbers that are not those of the run are refused in one line."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from folders import content_of, copied, without_checksums
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from shell import assert_one_line, here, posix

from cdlm.data.domain import MissingDataError, UnknownDomainError
from cdlm.domains.samples import load_domain
from cdlm.files import RunError, read_json, write_json
from cdlm.runs.record import check_record, metric_values, read_record, read_records
from cdlm.runs.run import data_checksums, evaluate, joined_record, load_run, run, same_data, store_record
from cdlm.runs.spec import RunSpec
from cdlm.training import loop as loop_module
from cdlm.training.callbacks import OnLog
from cdlm.training.checkpoints import Checkpoint, CheckpointError, before_of, read_checkpoint, write_checkpoint

SPEC = RunSpec("source", "mnist", "optdigits", steps=6, batch_size=4, settings={"width": 2})


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Two runs, called by their seeds."""
    place = tmp_path_factory.mktemp("trusted")
    for number in (0, 1):
        run(RunSpec(**{**vars(SPEC), "seed": number}), place / str(number), log_every=2)
    return place


@pytest.fixture
def copy(runs: Path, tmp_path: Path) -> Path:
    return copied(runs / "0", tmp_path / "copy")


# Weights

def with_nan(path: Path) -> None:
    weights = load_file(path)
    next(iter(weights.values())).view(-1)[0] = math.nan
    save_file(weights, path)


def flipped(path: Path, place: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1 << bit
    path.write_bytes(content)


OTHER_WEIGHTS = {
    "of another seed": lambda path, runs: shutil.copy(runs / "1/weights.safetensors", path),
    "not a number": lambda path, runs: with_nan(path),
    "a flipped bit": lambda path, runs: flipped(path, -3, 6),
    "cut": lambda path, runs: os.truncate(path, 1000),
    "a pipe": lambda path, runs: (path.unlink(), os.mkfifo(path)),
    "a folder": lambda path, runs: (path.unlink(), path.mkdir()),
}


@posix
@pytest.mark.parametrize("kind", OTHER_WEIGHTS)
def test_weights_that_are_not_those_of_the_run_are_refused(kind: str, runs: Path, copy: Path) -> None:
    OTHER_WEIGHTS[kind](copy / "weights.safetensors", runs)
    assert_one_line(here("evaluate", copy), "weights.safetensors is ")


def test_an_older_run_says_that_it_was_not_checked_and_its_number_is_still_compared(copy: Path, runs: Path) -> None:
    expected = here("evaluate", copy)
    without_checksums(copy)
    done = here("evaluate", copy)
    assert (done.returncode, done.stdout) == (0, expected.stdout) and expected.stderr == ""
    assert done.stderr == f"not checked: {copy} was stored without checksums of its files\n"
    metrics = read_json(copy / "metrics.json")
    without_checksums(copy, metrics={"target_accuracy": metrics["target_accuracy"] / 2})
    assert_one_line(here("evaluate", copy), "copy measures target_accuracy is ")
    without_checksums(copy, metrics=metrics)
    with_nan(copy / "weights.safetensors")
    assert_one_line(here("evaluate", copy), "is not finite")


def test_another_number_names_what_is_different_here(copy: Path) -> None:
    metrics = read_json(copy / "metrics.json")
    without_checksums(copy, metrics={"source_accuracy": 0.5, "provenance": metrics["provenance"] | {"threads": 64}})
    with pytest.raises(RunError, match="source_accuracy is 0.5 there and .*: threads is 64 there and"):
        evaluate(copy)


# Numbers and settings

@pytest.mark.parametrize("command", ["evaluate", "record", "measure"])
@pytest.mark.parametrize("name, changes", [("metrics", {"target_accuracy": 0.999}), ("metrics", {"seconds": 1.0}),
                                           ("config", {"seed": 7}), ("config", {"settings": {"width": 4}})])
def test_what_was_edited_is_refused(command: str, name: str, changes: dict, copy: Path, tmp_path: Path) -> None:
    path = copy / f"{name}.json"
    write_json(path, read_json(path) | changes)
    words = {"evaluate": (copy,), "record": (tmp_path / "r.json", copy), "measure": ("moments", copy, "--out", tmp_path / "r.json")}
    assert_one_line(here(command, *words[command]), f"{path} is not what the run has stored, by its checksum")
    assert not (tmp_path / "r.json").exists()


@pytest.mark.parametrize("value", [7, -0.1, True, math.nan, "0.5", None, [0.5], 10**400])
def test_an_accuracy_is_a_number_from_0_to_1(value: object, copy: Path, tmp_path: Path, runs: Path) -> None:
    without_checksums(copy, metrics={"target_accuracy": value})
    for words in (("evaluate", copy), ("record", tmp_path / "r.json", copy)):
        done = here(*words)
        assert_one_line(done, "metrics.json is damaged")
        assert "target_accuracy" in done.stderr or "a number is" in done.stderr
    record = joined_record([runs / "0", runs / "1"])
    record["runs"][1]["target_accuracy"] = value
    (tmp_path / "r.json").write_text(json.dumps(record))
    for read in (lambda: read_record("r", tmp_path), lambda: read_records(tmp_path, "*.json")):
        with pytest.raises(RunError, match="r.json is damaged.*(target_accuracy|a number is)"):
            read()


def test_one_seed_does_not_count_twice(runs: Path, tmp_path: Path) -> None:
    record = joined_record([runs / "0", runs / "1"])
    assert len(metric_values(record)) == 2
    record["runs"][1]["seed"] = 0
    with pytest.raises(RunError, match="two of its runs have the same seed"):
        check_record(tmp_path / "r.json", record)
    with pytest.raises(RunError, match="of this record has a number 'magic'"):
        metric_values(record, "magic")


# What a record may replace

def test_a_record_replaces_its_own_older_one_and_nothing_else(runs: Path, tmp_path: Path) -> None:
    record = joined_record([runs / "0"])
    config = copied(runs / "0", tmp_path / "run") / "config.json"
    other = tmp_path / "other.json"
    write_json(other, record | {"spec": record["spec"] | {"steps": 7}})
    text, folder, dangling = tmp_path / "text", tmp_path / "folder", tmp_path / "link.json"
    text.write_text("mine")
    folder.mkdir()
    dangling.symlink_to(tmp_path / "gone")
    for path in (config, config.with_name("metrics.json"), other, text, folder, dangling):
        before = content_of(tmp_path)
        assert_one_line(here("record", path, runs / "0"), f"{path} exists, and is no older record of the same; name another file")
        assert_one_line(here("measure", "moments", runs / "0", "--out", path), f"{path} exists, and is no older record")
        assert content_of(tmp_path) == before
    own = tmp_path / "new/own.json"
    store_record(own, record)
    assert here("record", own, runs / "0", runs / "1").returncode == 0
    assert [one["seed"] for one in read_json(own)["runs"]] == [0, 1]


def test_a_place_for_a_record_that_cannot_be_written_is_named(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert_one_line(here("record", tmp_path / "file/r.json", runs / "0"), f"cannot write to {tmp_path / 'file'}: ")


# Data, by role and as older runs have them

def test_older_checksums_are_by_name_and_are_compared_as_well() -> None:
    source, target = load_domain("mnist"), load_domain("optdigits")
    now = data_checksums(source, target)
    by_name = {name.replace("source", "mnist").replace("target", "optdigits"): value for name, value in now.items()}
    one_name = {f"images/{split}": now[f"target/{split}"] for split in ("train", "test")}
    assert same_data(now, now) and same_data(by_name, now) and same_data(one_name, now) and same_data(now, by_name)
    for older in (now, by_name, one_name):
        for split in older:
            assert not same_data(older | {split: "0" * 64}, now)
    swapped = {name: now[{"source": "target", "target": "source"}[name[:6]] + name[6:]] for name in now}
    assert not same_data(swapped, now) and not same_data({}, now) and not same_data({"a": now["source/train"]}, now)


# Checkpoints

class Stop(BaseException):
    pass


@pytest.fixture(scope="module")
def stopped_at_five(tmp_path_factory) -> Path:
    """A folder with ``run.partial``, of a run that has died after two checkpoints."""
    place = tmp_path_factory.mktemp("stopped")

    def stop(row: dict) -> None:
        if row["step"] == 5:
            raise Stop
    with pytest.raises(Stop):
        run(SPEC, place / "run", callbacks=[OnLog(stop)], log_every=1, checkpoint_every=2)
    return place


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("undisturbed") / "run"
    run(SPEC, place, log_every=1, checkpoint_every=2)
    return place


def test_a_damaged_checkpoint_is_refused_and_the_one_before_it_named(stopped_at_five: Path, undisturbed: Path,
                                                                     tmp_path: Path) -> None:
    place = copied(stopped_at_five, tmp_path / "place")
    checkpoint = place / "run.partial/checkpoint.safetensors"
    assert (read_checkpoint(checkpoint).step, read_checkpoint(before_of(checkpoint)).step) == (4, 2)
    flipped(checkpoint, -3, 6)
    with pytest.raises(CheckpointError, match=f"the one of step 2 is whole, rename {before_of(checkpoint)} to go on from it; or"):
        run(SPEC, place / "run", log_every=1, checkpoint_every=2)
    os.replace(before_of(checkpoint), checkpoint)
    run(SPEC, place / "run", log_every=1, checkpoint_every=2)
    assert (place / "run/weights.safetensors").read_bytes() == (undisturbed / "weights.safetensors").read_bytes()
    assert (place / "run/log.csv").read_bytes() == (undisturbed / "log.csv").read_bytes()


def test_who_goes_on_with_a_run_is_named_beside_who_began_it(stopped_at_five: Path, tmp_path: Path,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    place = copied(stopped_at_five, tmp_path / "place")
    real = loop_module.provenance
    monkeypatch.setattr(loop_module, "provenance", lambda device: real(device) | {"code": "another"})
    origin = run(SPEC, place / "run", log_every=1, checkpoint_every=2, channels_last=True)["provenance"]
    assert (origin["code"], origin["engine"]["channels_last"]) == ("another", True)
    first, = origin["before"]
    assert (first["code"], first["until"], first["engine"]["channels_last"]) == (real("cpu")["code"], 4, False)
    record = joined_record([place / "run"])
    assert record["runs"][0]["provenance"] == origin


def test_who_goes_on_is_named_also_without_another_checkpoint(stopped_at_five: Path, tmp_path: Path,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    place = copied(stopped_at_five, tmp_path / "place")
    real = loop_module.provenance
    monkeypatch.setattr(loop_module, "provenance", lambda device: real(device) | {"code": "another"})
    origin = run(SPEC, place / "run", log_every=1, checkpoint_every=500)["provenance"]
    assert [one["code"] for one in (origin, *origin["before"])] == ["another", real("cpu")["code"]]
    assert "before" not in run(SPEC, tmp_path / "whole", log_every=1, checkpoint_every=2)["provenance"]


def test_a_checkpoint_of_before_there_were_checksums_is_read(tmp_path: Path, stopped_at_five: Path, undisturbed: Path) -> None:
    from safetensors import safe_open
    place = copied(stopped_at_five, tmp_path / "place")
    path = place / "run.partial/checkpoint.safetensors"
    with safe_open(path, "pt") as file:
        note = json.loads(file.metadata()["cdlm"])
    del note["makers"]
    save_file(load_file(path), path, metadata={"cdlm": json.dumps(note)})
    assert read_checkpoint(path).makers == [{"until": 4, "packages": {"torch": torch.__version__}}]
    origin = run(SPEC, place / "run", log_every=1, checkpoint_every=2)["provenance"]
    assert origin["before"] == [{"until": 4, "packages": {"torch": torch.__version__}}]
    assert (place / "run/weights.safetensors").read_bytes() == (undisturbed / "weights.safetensors").read_bytes()


# Whatever is damaged: one line or the right value, never a traceback, nothing half-written

EXPECTED = (RunError, CheckpointError, UnknownDomainError, MissingDataError)
NAMES = ("config.json", "metrics.json", "weights.safetensors")
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 70) | st.sampled_from([10**18, 10**30, -10**30, math.nan, math.inf, 0.5, 1e300])
    | st.text(max_size=6) | st.sampled_from(["mnist", "optdigits", "\0", "~nobody", "../..", "cdlm", "full", "bfloat16"]),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=5), part, max_size=3), max_leaves=6)
BYTES = st.one_of(
    st.tuples(st.just("flip"), st.integers(0, 10**6), st.integers(0, 7)), st.tuples(st.just("cut"), st.integers(0, 10**6)),
    st.tuples(st.just("content"), st.sampled_from([b"", b"{}", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b"1" * 5000,
                                                   b'{"a":' * 900]))
    | st.tuples(st.just("content"), st.binary(max_size=60)), st.tuples(st.just("gone")), st.tuples(st.just("pipe")),
    st.tuples(st.just("folder")), st.tuples(st.just("loop")))
JSON_DAMAGE = st.tuples(st.just("value"), st.lists(st.integers(0, 50), min_size=1, max_size=3), PLAIN)


def set_deep(content: object, route: list[int], value: object) -> object:
    """``content`` with a part of it replaced, found by the numbers of a route."""
    if not route or not isinstance(content, (dict, list)) or not content:
        return value
    keys = sorted(content) if isinstance(content, dict) else range(len(content))
    key = keys[route[0] % len(keys)]
    content[key] = set_deep(content[key], route[1:], value)
    return content


def do_damage(path: Path, damage: tuple) -> None:
    kind, *how = damage
    content = path.read_bytes()
    if kind == "flip":
        flipped(path, *how)
    elif kind == "cut":
        path.write_bytes(content[:how[0] % len(content)])
    elif kind == "content":
        path.write_bytes(how[0])
    elif kind == "value":
        path.write_text(json.dumps(set_deep(json.loads(content), *how)))
    else:
        path.unlink()
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        elif kind == "loop":
            path.symlink_to(path)


@contextmanager
def damaged(folder: Path, name: str, damage: tuple, checked: bool):
    """A copy of a run with a damaged file."""
    with tempfile.TemporaryDirectory() as place:
        copy = copied(folder, Path(place) / "run")
        if not checked:
            without_checksums(copy)
        do_damage(copy / name, damage)
        yield copy


def tree(folder: Path) -> list[tuple[str, int]]:
    return [(str(path), path.lstat().st_mtime_ns) for path in sorted(folder.rglob("*"))]


DAMAGES = st.one_of(st.tuples(st.sampled_from(NAMES), BYTES), st.tuples(st.sampled_from(NAMES[:2]), JSON_DAMAGE))


@posix
@seed(13)
@settings(max_examples=60, deadline=None)
@given(DAMAGES, st.booleans())
def test_a_damaged_run_gives_one_line_or_the_right_number(damage: tuple, checked: bool) -> None:
    right, folder = expected()
    with damaged(folder, *damage, checked) as copy:
        before = tree(copy)
        try:
            assert evaluate(copy) == right
        except EXPECTED as error:
            assert str(error) and "\n" not in str(error).strip()
        record = copy.parent / "record.json"
        try:
            store_record(record, joined_record([copy]))
            assert check_record(record, read_json(record))["runs"][0]["target_accuracy"] == right["target_accuracy"] or not checked
        except EXPECTED as error:
            assert "\n" not in str(error).strip() and not record.exists()
        assert tree(copy) == before


@posix
@pytest.mark.slow
@seed(14)
@settings(max_examples=200, deadline=None)
@given(DAMAGES, st.booleans())
def test_many_damaged_runs_give_one_line_or_the_right_number(damage: tuple, checked: bool) -> None:
    test_a_damaged_run_gives_one_line_or_the_right_number.hypothesis.inner_test(damage, checked)


PLACE: list[tempfile.TemporaryDirectory] = []


def expected() -> tuple[dict, Path]:
    """The right numbers of a run, and its folder, made once."""
    if not PLACE:
        PLACE.append(tempfile.TemporaryDirectory())
        run(SPEC, Path(PLACE[0].name) / "run", log_every=2, checkpoint_every=0)
    folder = Path(PLACE[0].name) / "run"
    metrics = read_json(folder / "metrics.json")
    return {name: metrics[name] for name in ("source_accuracy", "target_accuracy")}, folder


PARTIAL_NAMES = ("checkpoint.safetensors", "config.json", "log.csv")


@posix
@seed(15)
@settings(max_examples=40, deadline=None)
@given(st.one_of(st.tuples(st.sampled_from(PARTIAL_NAMES), BYTES), st.tuples(st.just("config.json"), JSON_DAMAGE)))
def test_a_damaged_unfinished_run_gives_one_line_or_the_same_bits(damage: tuple) -> None:
    with damaged_partial(*damage) as out:
        try:
            run(SPEC, out, log_every=1, checkpoint_every=2)
            assert (out / "weights.safetensors").read_bytes() == PARTIAL["weights"]
            assert sorted(os.listdir(out)) == ["config.json", "log.csv", "metrics.json", "weights.safetensors"]
        except EXPECTED as error:
            assert str(error) and "\n" not in str(error).strip() and not out.exists()


PARTIAL: dict[str, object] = {}


@contextmanager
def damaged_partial(name: str, damage: tuple):
    """Where a run would be, of which an unfinished folder has a damaged file."""
    if not PARTIAL:
        PARTIAL["place"] = place = tempfile.TemporaryDirectory()

        def stop(row: dict) -> None:
            if row["step"] == 5:
                raise Stop
        run(SPEC, Path(place.name) / "whole", log_every=1, checkpoint_every=0)
        PARTIAL["weights"] = (Path(place.name) / "whole/weights.safetensors").read_bytes()
        with pytest.raises(Stop):
            run(SPEC, Path(place.name) / "run", callbacks=[OnLog(stop)], log_every=1, checkpoint_every=2)
    with tempfile.TemporaryDirectory() as place:
        copy = copied(Path(PARTIAL["place"].name) / "run.partial", Path(place) / "run.partial")
        do_damage(copy / name, damage)
        yield Path(place) / "run"


@seed(16)
@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 7))
def test_a_flipped_bit_of_a_checkpoint_is_refused_or_changes_nothing(place: int, bit: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.safetensors"
        state = {"w": torch.arange(6.0), "n": {"k": torch.ones(2, dtype=torch.int64)}}
        whole = Checkpoint({"seed": 0}, 5, [{"step": 5, "loss": 1.5}], state)
        write_checkpoint(path, whole)
        flipped(path, place, bit)
        try:
            found = read_checkpoint(path)
        except CheckpointError as error:
            assert str(path) in str(error)
            return
        assert (found.run, found.step, found.log) == (whole.run, 5, whole.log)
        assert torch.equal(found.state["w"], whole.state["w"]) and torch.equal(found.state["n"]["k"], whole.state["n"]["k"])


def test_a_run_is_loaded_by_its_folder(runs: Path) -> None:
    spec, method, source, target = load_run(runs / "0")
    assert spec == SPEC and not method.training and (source.name, target.name) == ("mnist", "optdigits")
