"""Commands on data as people have them: one line on stderr, the right number, and nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shell import assert_one_line, here, posix
from typer.testing import CliRunner

from cdlm.cli.app import data_app

SMALL = ["--method", "source", "--steps", "2", "--log-every", "1", "--batch-size", "4", "--set", "width=4", "--device", "cpu"]


def classes(folder: Path, count: int = 6) -> Path:
    for value, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.random.default_rng(100 * value + number).integers(0, 256, (30, 30, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:02}.png")
    return folder


def run(*words: object) -> subprocess.CompletedProcess:
    """A command in this process; those about data are a group of their own, which joins when the program begins."""
    if words[0] != "data":
        return here(*words)
    done = CliRunner().invoke(data_app, [*map(str, words[1:])])
    return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if "%|" not in line]  # without the progress bar


def test_train_leaves_out_what_fetch_leaves_out(no_data: Path, tmp_path: Path) -> None:
    """An animated and a broken picture: refused by both by name, left out by both when asked, and counted."""
    pets = classes(tmp_path / "pets")
    frames = [Image.new("L", (9, 9), value) for value in (0, 200)]
    frames[0].save(pets / "cat/000.gif", save_all=True, append_images=frames[1:])
    (pets / "dog/000.png").write_bytes(b"broken")
    for words in (("data", "fetch", pets), ("train", pets, pets, "--out", tmp_path / "run", *SMALL)):
        assert_one_line(run(*words), "000.gif cannot be used as an image: several frames; --skip-damaged leaves such images out")
    fetched = run("data", "fetch", pets, "--skip-damaged")
    assert fetched.returncode == 0 and "full set, 10 + 2 images" in fetched.stdout and fetched.stderr.count("\nleft out: ") == 2
    trained = here("train", pets, pets, "--out", tmp_path / "run", "--skip-damaged", *SMALL)
    notes = [line for line in lines(trained.stderr) if line.startswith("note: ")]
    assert trained.returncode == 0 and "damaged images that are left out: 2; the first: " in notes[0]
    assert_one_line(here("evaluate", tmp_path / "run"), "000.gif")
    again = here("evaluate", tmp_path / "run", "--skip-damaged")
    assert again.returncode == 0 and again.stdout.strip() in trained.stdout
    assert not os.environ.get("CDLM_SKIP_DAMAGED")


def test_one_level_too_high_is_refused_before_training(no_data: Path, tmp_path: Path) -> None:
    for name in ("amazon", "webcam"):
        classes(tmp_path / name / "images")
    done = here("train", tmp_path / "amazon", tmp_path / "webcam", "--out", tmp_path / "run", *SMALL)
    assert_one_line(done, f"name the folder below, {tmp_path / 'amazon' / 'images'}")
    assert not (tmp_path / "run").exists()


def test_splits_by_their_names_are_said_in_a_line(no_data: Path, tmp_path: Path) -> None:
    for part in ("training", "testing"):
        classes(tmp_path / "set" / part)
    done = here("train", tmp_path / "set", tmp_path / "set", "--out", tmp_path / "run", *SMALL)
    said = [line for line in lines(done.stderr) if line.startswith("note: ")]
    assert done.returncode == 0 and said and said[0].endswith("images to train from training, to test from testing")


def test_a_copied_archive_holds_the_same_images(no_data: Path, tmp_path: Path) -> None:
    source = classes(tmp_path / "src")
    packed = Path(shutil.make_archive(str(tmp_path / "target"), "zip", source))
    assert here("train", source, packed, "--out", tmp_path / "run", *SMALL).returncode == 0
    os.utime(packed, (1e9, 1e9))
    assert here("evaluate", tmp_path / "run").returncode == 0


@pytest.mark.parametrize("words, message", [
    (["train", "./nowhere", "mnist"], "there is no folder or archive ./nowhere"),
    (["train", "mnist", "nowhere.zip"], "there is no folder or archive nowhere.zip"),
    (["train", "mnist", "src"], "unknown domain 'src'; known: mnist, "),
    (["train", "mnist", "~nobody-of-this-name/x"], "no home folder is known for ~nobody-of-this-name/x"),
])  # fmt: skip
def test_what_is_not_there(no_data: Path, tmp_path: Path, words: list[str], message: str) -> None:
    assert_one_line(here(*words, "--out", tmp_path / "run", *SMALL), message)


def test_a_mistyped_data_folder_ends_every_command(no_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDLM_DATA", str(tmp_path / "dta"))
    for words in (
        ("train", "mnist", "optdigits", "--out", tmp_path / "run", *SMALL),
        ("data", "list"),
        ("data", "fetch", "mnist"),
        ("data", "info", "mnist"),
    ):
        assert_one_line(run(*words), "CDLM_DATA names ")


def test_ten_faces_are_too_few_to_measure(no_data: Path, tmp_path: Path) -> None:
    faces = tmp_path / "celeba/img_align_celeba"
    faces.mkdir(parents=True)
    for number in range(10):
        Image.new("RGB", (20, 20), (number, 0, 0)).save(faces / f"{number:06}.jpg")
    done = run("data", "shift", "faces-sketches", "--root", tmp_path, "--out", tmp_path / "x.json", "--seeds", 1)
    assert_one_line(done, "of faces and sketches 4 images to train can be compared, and the A-distance takes 5")
    assert not (tmp_path / "x.json").exists()


@pytest.mark.slow
@posix
def test_names_that_are_no_unicode_and_names_with_escapes_are_printed_as_such(no_data: Path, tmp_path: Path) -> None:
    pets = classes(tmp_path / "pets")
    os.rename(pets / "cat/00.png", os.fsencode(pets / "cat") + b"/00\xe9.png")
    (pets / "dog/00\x1b[2J\n.png").write_bytes(b"broken")
    done = subprocess.run([sys.executable, "-m", "cdlm", "data", "fetch", str(pets)], capture_output=True, text=True, timeout=600)
    assert_one_line(done, r"00\x1b[2J\n.png cannot be used as an image")
    done = subprocess.run(
        [sys.executable, "-m", "cdlm", "data", "fetch", str(pets), "--skip-damaged"], capture_output=True, timeout=600
    )
    assert done.returncode == 0 and b"full set, 10 + 2" in done.stdout and b"\x1b" not in done.stderr


def test_runs_of_a_table_are_kept_in_the_cache_that_is_named(no_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    monkeypatch.setattr("cdlm.cli.experiments.make_runs", lambda todo, results, folders, *_: asked.append(folders))
    assert here("reproduce", "fig10", "--profile", "smoke", "--seeds", "1", "--job", "0").returncode == 0
    assert asked == [no_data / "runs" / "smoke"]


def test_the_list_counts_what_is_there(no_data: Path, tmp_path: Path) -> None:
    import struct

    from cdlm.domains.digits import IDX_FILES

    (tmp_path / "mnist").mkdir()
    for name, count in zip(IDX_FILES, (6, 6, 4, 4)):
        shape = (count, 28, 28) if "images" in name else (count,)
        content = bytes((0, 0, 8, len(shape))) + struct.pack(f">{len(shape)}I", *shape) + bytes(int(np.prod(shape)))
        (tmp_path / "mnist" / name.replace("-idx", ".idx")).write_bytes(content)
    rows = {row["name"]: row for row in json.loads(run("data", "list", "--root", tmp_path, "--json").stdout)}
    assert (rows["mnist"]["here"], rows["mnist"]["train"], rows["mnist"]["test"], rows["mnist"]["whole"]) == (
        "full",
        6,
        4,
        [60000, 10000],
    )
