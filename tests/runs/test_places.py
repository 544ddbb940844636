"""Where runs lie: places that cannot work are refused before training, and whatever fails at the end, nothing is lost."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from folders import content_of, copied, noise_pictures
from safetensors.torch import load_file
from shell import assert_one_line, here, posix

from cdlm.files import RunError, replacing
from cdlm.runs import folder as folder_module
from cdlm.runs.folder import partial_of
from cdlm.runs.run import evaluate, run
from cdlm.runs.spec import RunSpec
from cdlm.training.callbacks import OnLog
from cdlm.training.watch import Interrupted

SPEC = RunSpec("source", "mnist", "optdigits", steps=6, batch_size=4, settings={"width": 2})
FILES = ["config.json", "log.csv", "metrics.json", "weights.safetensors"]


def untrained(row: dict) -> None:
    pytest.fail("it was trained")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The run that nothing has disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    run(SPEC, folder, log_every=2, checkpoint_every=0)
    return folder


def same_bits(one: Path, other: Path) -> bool:
    """Whether two finished runs have the same weights, log and config, and no other files than a run has."""
    a, b = (load_file(folder / "weights.safetensors") for folder in (one, other))
    return (sorted(p.name for p in one.iterdir()) == sorted(p.name for p in other.iterdir()) == FILES
            and all(torch.equal(a[name], b[name]) for name in a)
            and all((one / name).read_bytes() == (other / name).read_bytes() for name in ("log.csv", "config.json")))


# Refused before training

PLACES = {
    "a link to a folder": lambda place, whole: ((place / "far").mkdir(), (place / "run").symlink_to(place / "far")),
    "a dangling link": lambda place, whole: (place / "run").symlink_to(place / "gone"),
    "a looping link": lambda place, whole: (place / "run").symlink_to(place / "run"),
    "a file": lambda place, whole: (place / "run").write_text("mine"),
    "a pipe": lambda place, whole: os.mkfifo(place / "run"),
    "a folder that is in use": lambda place, whole: ((place / "run").mkdir(), (place / "run/notes.txt").write_text("mine")),
    "a finished run": lambda place, whole: copied(whole, place / "run"),
    "a link to work in": lambda place, whole: ((place / "far").mkdir(), (place / "run.partial").symlink_to(place / "far")),
    "a looping link to work in": lambda place, whole: (place / "run.partial").symlink_to(place / "run.partial"),
    "a file to work in": lambda place, whole: (place / "run.partial").write_text("mine"),
    "a finished run to work in": lambda place, whole: copied(whole, place / "run.partial"),
    "somebody's weights to work in": lambda place, whole: ((place / "run.partial").mkdir(),
                                                           (place / "run.partial/weights.safetensors").write_text("mine")),
}


@posix
@pytest.mark.parametrize("every", [0, 2])
@pytest.mark.parametrize("kind", PLACES)
def test_what_cannot_work_is_refused_before_training_and_not_touched(kind: str, every: int, whole: Path, tmp_path: Path) -> None:
    PLACES[kind](tmp_path, whole)
    before, there = content_of(tmp_path), sorted(os.listdir(tmp_path))
    with pytest.raises(RunError) as error:
        run(SPEC, tmp_path / "run", callbacks=[OnLog(untrained)], log_every=2, checkpoint_every=every)
    assert str(tmp_path / "run") in str(error.value) and "\n" not in str(error.value)
    assert content_of(tmp_path) == before and sorted(os.listdir(tmp_path)) == there


@pytest.mark.parametrize("words", [".", "..", "./", "../here", "/"])
def test_the_folder_one_is_in_is_refused(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(RunError, match="is the folder you are in, or above it; name a new folder, such as"):
        run(SPEC, Path(words), callbacks=[OnLog(untrained)])
    assert list(tmp_path.iterdir()) == [tmp_path / "here"]


def test_an_empty_folder_is_taken_and_a_relative_path_is_one_place(whole: Path, tmp_path: Path,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    run(SPEC, Path("run/"), log_every=2, checkpoint_every=2)
    assert same_bits(tmp_path / "run", whole) and list(tmp_path.iterdir()) == [tmp_path / "run"]


def test_a_mount_point_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the system says it of one: it is busy."""
    (tmp_path / "run").mkdir()

    def busy(*words: object) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")
    monkeypatch.setattr(os, "rename", busy)
    with pytest.raises(RunError, match="run cannot be replaced .*busy.*: name a new folder, such as .*run/run"):
        run(SPEC, tmp_path / "run", callbacks=[OnLog(untrained)])
    assert list(tmp_path.iterdir()) == [tmp_path / "run"]


@pytest.mark.slow
@posix
def test_a_real_mount_point_is_refused(tmp_path: Path) -> None:
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("no mounts of one's own on this machine")
    for name in ("run", "other"):
        (tmp_path / name).mkdir()
    words = f"{sys.executable} -m cdlm train mnist optdigits --size sample --method source --steps 2 --out {tmp_path / 'run'}"
    for mount in (f"mount -t tmpfs none {tmp_path / 'run'}", f"mount --bind {tmp_path / 'other'} {tmp_path / 'run'}"):
        done = subprocess.run(["unshare", "-rm", "sh", "-c", f"{mount} && {words}"], capture_output=True, text=True, timeout=600)
        assert_one_line(done, "perhaps it is a mount point")
    assert sorted(os.listdir(tmp_path)) == ["other", "run"]


def test_a_checkpoint_is_not_left_behind_by_a_run_without(tmp_path: Path) -> None:
    def stop(row: dict) -> None:
        if row["step"] == 4:
            raise KeyboardInterrupt
    with pytest.raises(Interrupted, match="the same command resumes it"):
        run(SPEC, tmp_path / "run", callbacks=[OnLog(stop)], log_every=2, checkpoint_every=2)
    before = content_of(tmp_path)
    with pytest.raises(RunError, match="holds a checkpoint of this run; keep checkpoints to go on"):
        run(SPEC, tmp_path / "run", callbacks=[OnLog(untrained)], log_every=2, checkpoint_every=0)
    assert content_of(tmp_path) == before


# The end of a run

def fail_once(monkeypatch: pytest.MonkeyPatch, out: Path, error: BaseException, late: bool = False) -> None:
    """Let the rename that gives a run its name fail, the first time, before or (``late``) after it is made."""
    real, failed = os.replace, []

    def replace_or_fail(one: Path, other: Path) -> None:
        if Path(other) != out or failed:
            return real(one, other)
        failed.append(1)
        if late:
            real(one, other)
        raise error
    monkeypatch.setattr(os, "replace", replace_or_fail)


ENDS = {"a rename that fails": OSError(errno.EXDEV, "Invalid cross-device link"),
        "no permission": PermissionError(errno.EACCES, "Permission denied"), "an interrupt": KeyboardInterrupt()}


@pytest.mark.parametrize("every", [0, 2, 4])
@pytest.mark.parametrize("kind", ENDS)
def test_a_run_that_cannot_get_its_name_is_kept_and_named_by_the_same_command(kind: str, every: int, whole: Path, tmp_path: Path,
                                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    fail_once(monkeypatch, out, ENDS[kind])
    with pytest.raises((RunError, Interrupted), match=f"the run is whole in {partial_of(out)}, and the same command makes it"):
        run(SPEC, out, log_every=2, checkpoint_every=every)
    assert not out.exists() and set(FILES) < set(os.listdir(partial_of(out)))
    metrics = run(SPEC, out, callbacks=[OnLog(untrained)], log_every=2, checkpoint_every=every)
    assert same_bits(out, whole) and os.listdir(tmp_path) == ["run"]
    assert evaluate(out) == {name: metrics[name] for name in ("source_accuracy", "target_accuracy")}


def test_a_place_that_was_filled_meanwhile_is_not_touched(whole: Path, tmp_path: Path) -> None:
    def fill(row: dict) -> None:
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run/notes.txt").write_text("mine")
    with pytest.raises(RunError, match="Directory not empty; the run is whole in .*run.partial"):
        run(SPEC, tmp_path / "run", callbacks=[OnLog(fill)], log_every=2, checkpoint_every=2)
    with pytest.raises(RunError, match="exists already"):
        run(SPEC, tmp_path / "run", callbacks=[OnLog(untrained)], log_every=2, checkpoint_every=2)
    assert content_of(tmp_path / "run") == {"notes.txt": b"mine"}
    (tmp_path / "run").rename(tmp_path / "theirs")
    run(SPEC, tmp_path / "run", callbacks=[OnLog(untrained)], log_every=2, checkpoint_every=2)
    assert same_bits(tmp_path / "run", whole)


def test_an_interrupt_just_after_the_rename_loses_nothing(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_once(monkeypatch, tmp_path / "run", KeyboardInterrupt(), late=True)
    with pytest.raises(Interrupted, match=f"interrupted; the run is whole in {tmp_path / 'run'}$"):
        run(SPEC, tmp_path / "run", log_every=2, checkpoint_every=2)
    assert evaluate(tmp_path / "run") == evaluate(whole)


def test_what_is_left_over_in_a_finished_run_is_no_error(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")
    monkeypatch.setattr(folder_module, "flush", refuse)
    run(SPEC, tmp_path / "run", log_every=2, checkpoint_every=2)
    assert evaluate(tmp_path / "run") == evaluate(whole)


def test_a_damaged_whole_run_does_not_get_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_once(monkeypatch, tmp_path / "run", OSError(errno.EIO, "Input/output error"))
    with pytest.raises(RunError, match="is whole in"):
        run(SPEC, tmp_path / "run", log_every=2)
    weights = tmp_path / "run.partial/weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(RunError, match="is not what the run has stored"):
        run(SPEC, tmp_path / "run", callbacks=[OnLog(untrained)], log_every=2)
    assert not (tmp_path / "run").exists()


# Killed at a file operation

OPERATIONS = ("replace", "rename", "fsync", "link", "unlink", "mkdir", "open")


def die_in(out: Path, number: int) -> None:
    """Run, and end by SIGKILL at the ``number``-th file operation, before it is done; exit status 0 if there are fewer."""
    count = 0

    def deadly(real):
        def call(*words, **more):
            nonlocal count
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*words, **more)
        return call
    for name in OPERATIONS:
        setattr(os, name, deadly(getattr(os, name)))
    run(SPEC, out, log_every=2, checkpoint_every=2)


@posix
@pytest.mark.parametrize("number", [5, 20, *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, 80, 4) if n not in (5, 20))])
def test_killed_at_any_file_operation_it_ends_with_the_same_bits(number: int, whole: Path, tmp_path: Path) -> None:
    child = multiprocessing.get_context("fork").Process(target=die_in, args=(tmp_path / "run", number))
    child.start()
    child.join(600)
    assert child.exitcode in (0, -signal.SIGKILL)
    if (tmp_path / "run").exists():
        assert evaluate(tmp_path / "run") == evaluate(whole)
    else:
        run(SPEC, tmp_path / "run", log_every=2, checkpoint_every=2)
        assert same_bits(tmp_path / "run", whole) and os.listdir(tmp_path) == ["run"]


# A disk that fills

@pytest.mark.slow
@posix
@pytest.mark.parametrize("every", [0, 2])
@pytest.mark.parametrize("room", [0, 30, 200, 2_000, 10_000, 40_000, 100_000])
def test_a_disk_that_fills_gets_one_line(room: int, every: int, tmp_path: Path, whole: Path) -> None:
    """No file may have more bytes than there is room; with room again the same command makes the run."""
    import resource

    words = ("train", "mnist", "optdigits", "--size", "sample", "--method", "source", "--steps", 6, "--batch-size", 4, "--set",
             "width=2", "--device", "cpu", "--log-every", 2, "--checkpoint-every", every, "--out", tmp_path / "run")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        done = here(*words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    if done.returncode:
        assert_one_line(done, "File too large")
        assert not (tmp_path / "run").exists()
        done = here(*words)
    assert done.returncode == 0, done.stderr
    assert same_bits(tmp_path / "run", whole) and os.listdir(tmp_path) == ["run"]


@posix
def test_who_may_read_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        run(replace(SPEC, steps=1), tmp_path / "run", checkpoint_every=1)
        with replacing(tmp_path / "file") as temporary:
            temporary.write_text("")
            temporary.chmod(0o600)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [tmp_path / "file", *(tmp_path / "run").iterdir()]}
    assert set(modes.values()) == {0o640}, modes
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o750


# Folders of images

def test_a_run_on_folders_is_evaluated_from_anywhere_and_after_a_move(tmp_path: Path, no_data: Path,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    noise_pictures(tmp_path / "a/images", seed=1), noise_pictures(tmp_path / "b/images", seed=2)
    small = ("--steps", 2, "--batch-size", 2, "--set", "width=2", "--method", "source", "--device", "cpu")
    monkeypatch.chdir(tmp_path)
    assert here("train", "a/images", "b/images/", *small, "--out", "one").returncode == 0
    assert here("train", "a/images/", "./b/images", *small, "--seed", 1, "--out", "two/").returncode == 0
    assert here("record", "r.json", "one", "two/").returncode == 0
    monkeypatch.chdir("/")
    expected = here("evaluate", tmp_path / "one").stdout
    assert expected.startswith("target accuracy")
    (tmp_path / "a").rename(tmp_path / "moved")
    assert_one_line(here("evaluate", tmp_path / "one"), f"the source of {tmp_path / 'one'} was {tmp_path / 'a/images'}, which is "
                    "not to be found from here; put it there, or evaluate with --source and its place")
    assert here("evaluate", tmp_path / "one", "--source", tmp_path / "moved/images").stdout == expected
    assert_one_line(here("evaluate", tmp_path / "one", "--source", tmp_path / "b/images"), "the data are not those")


@pytest.mark.parametrize("side", ["a", "b"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_changed_picture_is_seen_though_both_folders_have_one_name(side: str, split: str, tmp_path: Path, no_data: Path) -> None:
    for number, place in enumerate("ab"):
        for part in ("train", "test"):
            noise_pictures(tmp_path / place / "images" / part, seed=10 * number + len(part))
    spec = RunSpec("source", str(tmp_path / "a/images"), str(tmp_path / "b/images"), steps=1, batch_size=2, size="best",
                   settings={"width": 2})
    run(spec, tmp_path / "run")
    evaluate(tmp_path / "run")
    noise_pictures(tmp_path / "new", seed=99)
    (tmp_path / "new/cat/0.png").replace(tmp_path / side / "images" / split / "cat/0.png")
    with pytest.raises(RunError, match="the data are not those"):
        evaluate(tmp_path / "run")
