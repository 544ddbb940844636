"""Runs on disk: round trip, provenance, and every way in which a folder can be wrong."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest
import torch

from cdlm.runs import (
    METHODS,
    RunError,
    RunSpec,
    build_config,
    code_fingerprint,
    evaluate,
    load_run,
    metric_values,
    new_folder,
    record,
    run,
)

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
    assert set(metrics["data"]) == {"mnist/train", "mnist/test", "optdigits/train", "optdigits/test"}
    assert all(len(v) == 64 for v in metrics["data"].values())


def test_no_temporary_folder_remains(stored: Path) -> None:
    assert [p.name for p in stored.parent.iterdir()] == ["first"]


def test_a_failed_run_leaves_nothing(tmp_path: Path) -> None:
    def fail(row: dict) -> None:
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        run(SPEC, tmp_path / "out", report=fail)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_run_is_not_overwritten(stored: Path) -> None:
    before = {p.name: p.read_bytes() for p in stored.iterdir()}
    with pytest.raises(RunError, match="exists already"):
        run(SPEC, stored)
    assert before == {p.name: p.read_bytes() for p in stored.iterdir()}


def test_a_place_that_cannot_be_written_is_found_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"), new_folder(tmp_path / "file" / "run"):
        pytest.fail("the block was entered")


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
    spec = json.loads((copy / "config.json").read_text())
    spec["method"] = "cdlm"
    (copy / "config.json").write_text(json.dumps(spec))
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
    metrics = json.loads((copy / "metrics.json").read_text())
    metrics["data"]["optdigits/test"] = "0" * 64
    (copy / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(RunError, match="cannot be compared"):
        evaluate(copy)


def test_a_record_joins_seeds_and_nothing_else(copy: Path, stored: Path) -> None:
    spec = json.loads((copy / "config.json").read_text())
    with pytest.raises(RunError, match="same seed"):
        record([stored, copy])
    (copy / "config.json").write_text(json.dumps(spec | {"seed": 1}))
    joined = record([copy, stored])
    assert [r["seed"] for r in joined["runs"]] == [0, 1] and "seed" not in joined["spec"]
    assert metric_values(joined).dtype == torch.float64 and len(metric_values(joined)) == 2
    (copy / "config.json").write_text(json.dumps(spec | {"seed": 1, "steps": 4}))
    with pytest.raises(RunError, match="differ in their seed only"):
        record([copy, stored])
