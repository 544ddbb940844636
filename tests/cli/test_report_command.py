"""`cdlm report`: a page of a run, and one line for what is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from folders import content_of, copied
from shell import assert_one_line, here

from cdlm.runs.run import run
from cdlm.runs.spec import RunSpec


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runs") / "one"
    run(RunSpec("source", "mnist", "optdigits", steps=1, batch_size=4, settings={"width": 2}), place)
    return place


def test_the_page_goes_into_the_run_or_where_it_is_asked(folder: Path, tmp_path: Path) -> None:
    copy = copied(folder, tmp_path / "copy")
    done = here("report", copy)
    assert (done.returncode, done.stderr) == (0, "") and str(copy / "report" / "report.html") in done.stdout
    assert here("report", copy, "--out", tmp_path / "page").returncode == 0
    assert content_of(copy / "report") == content_of(tmp_path / "page")
    assert here("evaluate", copy).returncode == 0, "the run is what it was"
    assert_one_line(here("report", copy), "exists already")


def test_what_is_no_run_is_told_in_one_line(folder: Path, tmp_path: Path) -> None:
    assert_one_line(here("report", tmp_path / "none"), "no finished run")
    assert_one_line(here("report", tmp_path), "no finished run")
    copy = copied(folder, tmp_path / "copy")
    (copy / "weights.safetensors").write_bytes(b"")
    assert_one_line(here("report", copy), "damaged")
    assert not (copy / "report").exists()
