"""`cdlm predict` and `cdlm translate` as a user meets them: a table and nothing else on standard output, one line for errors."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from halves import ODDITIES, half_run, odd_pictures
from shell import assert_one_line, here

READ = {name: seen for name, seen in ODDITIES.items() if seen}


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return half_run(tmp_path_factory.mktemp("sides"))


@pytest.fixture(scope="module")
def drawing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return half_run(tmp_path_factory.mktemp("drawing"), "cdlm", steps=2)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return odd_pictures(tmp_path_factory.mktemp("odd") / "photos")


def test_the_table_goes_to_a_file(sides: Path, odd: Path, tmp_path: Path) -> None:
    done = here("predict", sides, odd, "--out", tmp_path / "p.csv")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "p.csv").open()))
    assert list(rows[0]) == ["file", "class", "probability", "entropy", "trust"]
    assert {Path(row["file"]).name: row["class"] for row in rows} == READ
    assert all(0.25 <= float(row["probability"]) <= 1 and row["trust"] in ("yes", "no") for row in rows)
    assert done.stdout.startswith(f"{len(READ)} images, 3 files left out, path x_t, estimated accuracy ")
    assert [line for line in done.stderr.splitlines() if "left out" in line] == done.stderr.splitlines()
    assert done.stderr.count("note: ") == 3 and list(tmp_path.iterdir()) == [tmp_path / "p.csv"]


@pytest.mark.parametrize("form", ["csv", "json"])
def test_standard_output_holds_the_table_and_nothing_else(form: str, sides: Path, odd: Path) -> None:
    done = here("predict", sides, odd, "--out", "-", "--top", 2, *(["--json"] if form == "json" else []))
    assert done.returncode == 0 and "left out" in done.stderr and "estimated accuracy" in done.stderr
    if form == "csv":
        assert [Path(row["file"]).name for row in csv.DictReader(done.stdout.splitlines())] == list(READ)
        assert done.stdout.count("\n") == len(READ) + 1
    else:
        told = json.loads(done.stdout)
        assert [Path(row["file"]).name for row in told["predictions"]] == list(READ) and len(told["left_out"]) == 3


def test_bad_input_is_one_line_and_nothing_is_written(sides: Path, drawing: Path, odd: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "there.csv").write_text("kept")
    before = sorted(tmp_path.rglob("*"))
    new = tmp_path / "new"
    for words, message in [
        (["predict", tmp_path / "empty", odd, "--out", new], "is this a run folder?"),
        (["predict", sides, tmp_path / "empty", "--out", new], "holds no images"),
        (["predict", sides, odd, "--out", tmp_path / "there.csv"], "exists already; name another, or remove it"),
        (["predict", sides, odd, "--out", new, "--path", "x_tilde_t"], "has no path 'x_tilde_t'; it has x_t, h"),
        (["predict", sides, odd, "--out", new, "--strict"], "empty.png is left out"),
        (["predict", sides, odd, "--out", new, "--fit", "bend"], "fit is 'bend'; it must be one of crop, pad, stretch"),
        (["predict", sides, odd / "notes.txt", "--out", new], "none of these 1 files is an image"),
        (["predict", sides, odd, "--out", new, "--device", "tpu"], "device 'tpu' cannot be used here"),
        (["translate", sides, odd, "--out", new], "draws no images from modulated codes"),
        (["translate", drawing, odd, "--out", tmp_path / "empty"], "exists already; name another, or remove it"),
        (["translate", drawing, tmp_path / "empty", "--out", new], "holds no images"),
        (["translate", drawing, odd, "--out", new, "--strict"], "empty.png is left out"),
    ]:
        assert_one_line(here(*words), message)
        assert sorted(tmp_path.rglob("*")) == before, words
    assert (tmp_path / "there.csv").read_text() == "kept"


def test_translate_draws_what_predict_reads(drawing: Path, odd: Path, tmp_path: Path) -> None:
    done = here("translate", drawing, odd, "--out", tmp_path / "d", "--samples", 2, "--grid", "--gif")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{2 * len(READ)} drawings, 3 files left out: {tmp_path / 'd'}\n" and done.stderr.count("note: ") == 3
    assert {"sheet.png", "way.png", "way.gif", "drawings.csv"} <= {path.name for path in (tmp_path / "d").iterdir()}
