"""`cdlm export` as a reader meets it."""

from __future__ import annotations

from pathlib import Path

import pytest
from folders import content_of
from shell import assert_one_line, here

from cdlm.runs.run import run
from cdlm.runs.spec import RunSpec


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "run"
    run(RunSpec("source", "mnist", "optdigits", steps=2, batch_size=4, settings={"width": 2}), out)
    return out


def test_a_run_is_exported_and_the_place_is_refused_afterwards(stored: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = here("export", stored, "--out", out, "--format", "torch-export")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith(f"{out}/classifier.pt2: x_t, ") and done.stdout.count("\n") == 1
    before = content_of(tmp_path)
    assert_one_line(here("export", stored, "--out", out, "--format", "torch-export"), "exists already")
    assert content_of(tmp_path) == before


@pytest.mark.parametrize("words, message", [
    (("--format", "tflite"), "unknown format 'tflite'; known: onnx, torch-export, safetensors"),
    (("--format", "torch-export", "--path", "x_tilde_t"), "which has no path 'x_tilde_t'; it has x_t, h"),
    (("--format", "safetensors", "--path", "x_t"), "leave out the path"),
])
def test_wrong_words_get_one_line(stored: Path, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    assert_one_line(here("export", stored, "--out", tmp_path / "out", *words), message)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_run_gets_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused = here("export", tmp_path / "empty", "--out", tmp_path / "out", "--format", "torch-export")
    assert_one_line(refused, "is this a run folder?")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
