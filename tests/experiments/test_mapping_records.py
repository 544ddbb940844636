"""Trainings behind Table 4 and Figure 8: jobs, records that are whole or not there, and the commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from shell import assert_one_line, here

from cdlm.data.domain import Domain, Split
from cdlm.experiments import translation
from cdlm.experiments.translation import (
    MAPPINGS,
    TRANSLATED,
    WAYS,
    TranslationJob,
    carry_out_translation,
    jobs_left,
    mapping_rows,
    table4_cells,
    translation_jobs,
)
from cdlm.files import RunError
from cdlm.runs.record import read_record


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Domains of the mappings, made of noise: 24 + 12 images of 32 pixels, two classes for shoes and edges."""

    def opened(name: str) -> Domain:
        generator = torch.Generator().manual_seed(len(name))
        channels, labeled = (3 if name in ("faces", "shoes") else 1), name in ("shoes", "edges")
        images = torch.randint(256, (36, channels, 32, 32), generator=generator, dtype=torch.uint8)
        labels = torch.arange(36) % 2 if labeled else torch.full((36,), -1)
        parts = (Split(images[:24], labels[:24]), Split(images[24:], labels[24:]))
        return Domain(name, name, ("a", "b") if labeled else (), *parts, "noise", "none")

    monkeypatch.setattr(translation, "open_domain", opened)


def test_jobs_are_whole_and_named_once() -> None:
    todo = translation_jobs("table4", [1, 2])
    assert len({job.name for job in todo}) == len(todo) == 2 * 2 * len(WAYS)
    assert {job.mapping for job in translation_jobs("fig8", [1])} == set(MAPPINGS)
    assert todo[0].seed == 1 and todo[-1].seed == 2


@pytest.mark.parametrize(("what", "profile", "words"), [("table2", "full", "no translation"), ("table4", "gpu", "profiles")])
def test_words_that_are_none_are_refused(what: str, profile: str, words: str) -> None:
    with pytest.raises(RunError, match=words):
        translation_jobs(what, [1], profile)


@pytest.mark.parametrize("way", ["anchors", "improved", "paired"])
@pytest.mark.parametrize("mapping", ["sketch-face", "shoe-edge"])
def test_a_record_has_its_numbers_and_their_origin(mapping: str, way: str, small: None, tmp_path: Path) -> None:
    job = TranslationJob(mapping, way, 1, "smoke")
    assert carry_out_translation(job, tmp_path, tmp_path / "work") == ""
    record = read_record(job.name, tmp_path)
    assert record["asked"] == job.asked and record["images"] == [24, 24, 8]
    assert set(record["data"]) == {f"{side}/{part}" for side in ("source", "target") for part in ("train", "test")}
    assert record["provenance"]["code"] and record["selection"] == "last iteration"
    found = record["quality"]["mean"] if way == "anchors" else record["quality"]
    assert set(found) == {"ssim", "mse", "psnr", "psnr_of_mean"}
    read = {name for name in record if name.endswith("accuracy")}
    untold = {"untranslated_accuracy", "truth_accuracy", "direct_accuracy"}
    assert read == (set() if mapping == "sketch-face" else untold if way == "anchors" else {"translated_accuracy"})
    assert (tmp_path / "work" / job.name / "sheet.png").exists() == (way != "anchors")
    assert jobs_left([job], tmp_path) == []


def test_a_record_of_other_settings_is_made_again(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = TranslationJob("sketch-face", "anchors", 1, "smoke")
    carry_out_translation(job, tmp_path, tmp_path / "work")
    monkeypatch.setitem(translation.SIZES_OF, "smoke", translation.SIZES_OF["smoke"] | {"steps": 4})
    assert jobs_left([job], tmp_path) == [job]


def test_what_is_on_record_is_not_trained_again(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = TranslationJob("sketch-face", "paired", 1, "smoke")
    carry_out_translation(job, tmp_path, tmp_path / "work")
    monkeypatch.setattr(translation, "train", lambda *words, **more: pytest.fail("trained again"))
    assert carry_out_translation(job, tmp_path, tmp_path / "work") == ""


def test_a_training_that_was_cut_off_ends_as_it_would_have(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = TranslationJob("sketch-face", "improved", 1, "smoke")
    (tmp_path / "whole").mkdir()
    carry_out_translation(job, tmp_path / "whole", tmp_path / "a")

    def cut(*words: object, **more: object) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(translation, "measured", cut)
        assert "disk is full" in carry_out_translation(job, tmp_path, tmp_path / "b")
    assert not (tmp_path / f"{job.name}.json").exists()
    carry_out_translation(job, tmp_path, tmp_path / "b")
    one, other = (json.loads((place / f"{job.name}.json").read_text()) for place in (tmp_path / "whole", tmp_path))
    assert one["quality"] == other["quality"] and one["log"] == other["log"]


def test_rows_without_records_are_there_and_empty(tmp_path: Path) -> None:
    rows = mapping_rows(tmp_path)
    assert len(rows) == len(MAPPINGS) * (len(WAYS) + 1) and all(row["ssim"] is None and row["seeds"] == [] for row in rows)
    assert {cell["paper"] for cell in table4_cells(tmp_path) if cell["recipe"] == "improved"} == {0.7961, 0.0140, 19.89, 0.953}


def test_rows_are_means_over_seeds(small: None, tmp_path: Path) -> None:
    for seed in (1, 2):
        carry_out_translation(TranslationJob("sketch-face", "paired", seed, "smoke"), tmp_path, tmp_path / "work")
    row = next(row for row in mapping_rows(tmp_path) if row["way"] == "paired" and row["runs"])
    assert row["seeds"] == [1, 2]
    assert row["mse"] == pytest.approx(sum(run["quality"]["mse"] for run in row["runs"]) / 2)


@pytest.mark.parametrize("what", TRANSLATED)
def test_the_command_lists_what_is_left(what: str, tmp_path: Path) -> None:
    done = here("reproduce", what, "--seeds", "1", "--list", "--results", tmp_path)
    assert done.returncode == 0 and done.stdout.count(" todo ") == len(translation_jobs(what, [1]))


WRONG = [
    (["--workers", "2"], "one after the other"),
    (["--dask", "local"], "one after the other"),
    (["--profile", "book"], "profiles"),
    (["--seeds", "x"], "seeds have the form"),
    (["--job", "9999"], "numbered from 0"),
]


@pytest.mark.parametrize(("words", "message"), WRONG, ids=[words[0].strip("-") for words, _ in WRONG])
def test_wrong_words_of_a_translation_get_one_line(words: list[str], message: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert_one_line(here("reproduce", "table4", "--results", tmp_path, "--work", tmp_path / "work", *words), message)
    assert not (tmp_path / "work").exists()


def test_the_command_makes_one_record(small: None, tmp_path: Path) -> None:
    done = here("reproduce", "table4", "--seeds", "1", "--profile", "smoke", "--job", "0", "--work", tmp_path / "w",
                "--results", tmp_path / "r")  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in (tmp_path / "r").iterdir()] == ["sketch-face_anchors_s1.json"]


def test_results_have_rows_of_table_4(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    rows = json.loads(here("results", "--json", "--results", tmp_path / "runs").stdout)
    ours = [row for row in rows if row["table"] == "table4"]
    assert ours and set(ours[0]) == set(rows[0])
